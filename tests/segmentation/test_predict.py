"""Masks come back on the CT's own grid, whatever its size and orientation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rollama.core.errors import ConfigError
from rollama.data.body import Body
from rollama.data.plan import Guideline, Level, Plan, Side, Surgery, render_plan, structures
from rollama.data.volumes import Volume
from rollama.segmentation.calibration import Calibration, logit
from rollama.segmentation.checkpoint import build_network, load_model, save_model
from rollama.segmentation.config import Crop, InferenceSection, SegConfig
from rollama.segmentation.predict import SegmentationModel
from rollama.segmentation.region import NO_NODES, NODES, Reach
from rollama.segmentation.text_encoder import encoder_text
from tests.segmentation.conftest import make_plan

TEXT = render_plan(make_plan(Side.LEFT))


def make_volume(shape: tuple[int, int, int], spacing: float) -> Volume:
    array = np.full(shape, -1000, np.float32)
    array[2:-2, 2:-2] = 40
    return Volume(array, np.diag([spacing, spacing, spacing, 1.0]))


@pytest.fixture
def model(config: SegConfig, tmp_path: Path) -> SegmentationModel:
    network, info = build_network(config, torch.device("cpu"))
    save_model(tmp_path / "m", network, info, "key")
    return SegmentationModel(*load_model(tmp_path / "m", torch.device("cpu")), torch.device("cpu"))


@pytest.mark.parametrize("shape", [(16, 16, 8), (10, 12, 6), (17, 18, 8), (40, 30, 20)])
def test_mask_is_on_the_volume_grid(model: SegmentationModel, shape: tuple[int, int, int]) -> None:
    seen: list[tuple[int, int]] = []
    mask = model.predict(make_volume(shape, 10.0), TEXT, lambda done, total: seen.append((done, total)))
    assert mask.shape == shape
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 1}
    assert seen[-1][0] == seen[-1][1]
    assert len(seen) == seen[-1][1]
    assert (len(seen) == 1) == all(size <= wanted for size, wanted in zip(shape, model.config.patch, strict=True))


def test_a_calibrated_probability_on_demand(model: SegmentationModel) -> None:
    volume = make_volume((16, 16, 8), 10.0)
    assert model.outline(volume, TEXT).probability is None
    found = model.outline(volume, TEXT, keep_probability=True)
    assert found.probability is not None and found.probability.shape == volume.shape
    assert np.array_equal(found.probability[found.mask != 0] >= 100, np.ones(found.mask.sum(), bool))
    model.calibration = Calibration(scale=1.0, offset=-30.0)
    assert model.outline(volume, TEXT, keep_probability=True).probability.max() == 0  # type: ignore[union-attr]
    assert np.array_equal(model.outline(volume, TEXT).mask, found.mask)  # decided on the uncalibrated one
    nothing = make_plan(Side.LEFT).model_copy(update={"volume": None, "levels": (), "dose": None, "technique": None})
    none = model.outline(volume, render_plan(nothing), keep_probability=True)
    assert none.probability is not None and not none.probability.any() and not none.mask.any()


def test_orientation_of_storage_does_not_matter(model: SegmentationModel) -> None:
    volume = make_volume((16, 16, 8), 10.0)
    flipped_affine = volume.affine.copy()
    flipped_affine[0, 0], flipped_affine[0, 3] = -10.0, 150.0
    flipped = Volume(np.ascontiguousarray(volume.array[::-1]), flipped_affine)
    assert np.array_equal(model.predict(flipped, TEXT)[::-1], model.predict(volume, TEXT))


def test_finer_voxels_are_resampled_and_brought_back(model: SegmentationModel) -> None:
    assert model.predict(make_volume((48, 48, 24), 3.4), TEXT).shape == (48, 48, 24)


def test_text_is_encoded_once(model: SegmentationModel, monkeypatch: pytest.MonkeyPatch) -> None:
    first = model.encode(TEXT)
    monkeypatch.setattr(model.network.text_encoder, "forward", None)
    assert model.encode(TEXT) is first


def test_a_plan_without_target_gives_an_empty_mask_without_the_network(
    model: SegmentationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.network, "segment", None)
    text = render_plan(Plan(side=Side.LEFT, surgery=Surgery.MASTECTOMY, volume=None, dose=None, technique=None))
    assert not model.predict(make_volume((16, 16, 8), 10.0), text).any()


def test_the_threshold_is_the_artefacts(model: SegmentationModel) -> None:
    volume = make_volume((16, 16, 8), 10.0)
    probability = model.probability(volume, TEXT)
    assert 0 <= probability.min() < probability.max() <= 1
    middle = float(np.median(probability))
    for threshold in (middle - 0.01, middle + 0.01):
        model.threshold = threshold
        assert np.array_equal(model.predict(volume, TEXT), probability >= threshold)


def test_looking_at_the_mirrored_ct_too_makes_the_sides_alike(
    model: SegmentationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    middle = Body(np.array([7.5, 7.5, 3.5]), (0, 0, 0), (16, 16, 8))
    monkeypatch.setattr("rollama.segmentation.predict.find_body", lambda _: middle)
    generator = np.random.default_rng(0)
    volume = make_volume((16, 16, 8), 10.0)
    volume.array[2:-2, 2:-2] += generator.normal(0, 300, (12, 12, 8)).astype(np.float32)
    flipped = Volume(np.ascontiguousarray(volume.array[::-1]), volume.affine)
    other = render_plan(make_plan(Side.RIGHT))
    model.config = model.config.updated(amp="none")
    left, right = model.probability(volume, TEXT), model.probability(flipped, other)[::-1]
    assert np.abs(left - right).max() > 1e-3
    model.inference = model.inference.updated(mirrored=True)
    both = model.probability(volume, TEXT)
    assert np.abs(both - model.probability(flipped, other)[::-1]).max() < 1e-5
    assert np.allclose(logit(both), (logit(left) + logit(right)) / 2, atol=1e-4)


def test_words_that_nobody_can_turn_are_looked_at_once(model: SegmentationModel) -> None:
    volume = make_volume((16, 16, 8), 10.0)
    assert model.meant("left breast please") is None  # this model was not trained on plans only
    once = model.probability(volume, "left breast please")
    model.inference = model.inference.updated(mirrored=True)
    assert np.array_equal(model.probability(volume, "left breast please"), once)


def test_a_second_look_needs_a_network_that_has_seen_mirrored_patients(config: SegConfig) -> None:
    with pytest.raises(ConfigError, match="needs flip_probability"):
        config.updated(flip_probability=0.0, inference={"mirrored": True})


def test_structures_one_at_a_time_do_not_depend_on_which_others_are_named(
    config: SegConfig, model: SegmentationModel
) -> None:
    model.config = model.config.updated(amp="none")
    one, two = (
        make_plan(Side.LEFT).model_copy(update={"levels": levels, "guideline": Guideline.ESTRO})
        for levels in ((Level.L3,), (Level.L3, Level.IMN))
    )
    volume = make_volume((16, 16, 8), 10.0)
    volume.array[2:-2, 2:-2] += np.random.default_rng(0).normal(0, 300, (12, 12, 8)).astype(np.float32)
    model.inference = InferenceSection(composed=True, crop=Crop.VOLUME)
    less, more = (model.probability(volume, render_plan(plan)) for plan in (one, two))
    assert (more >= less).all() and (more > less).any()
    alone = []
    for part in structures(two):
        model._looks = lambda _, part=part: [[(model._encode(encoder_text(part, "", config.text_form)), False)]]  # type: ignore[method-assign, misc]
        alone.append(model.probability(volume, "not read"))
    assert np.allclose(more, np.max(alone, axis=0), atol=1e-6)
    assert np.allclose(less, np.max(alone[:2], axis=0), atol=1e-6)


def test_a_structure_lies_in_the_same_windows_whatever_else_is_named(
    model: SegmentationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = make_volume((40, 30, 20), 10.0)
    parts = []
    monkeypatch.setattr(model, "_look", lambda volume, part, *_: parts.append(part) or np.ones(volume.shape))
    monkeypatch.setattr("rollama.segmentation.predict._touches", lambda *_: False)
    model.reach = Reach({NODES: ((-50, -50, -50), (60, 60, 60)), NO_NODES: ((-20, -20, -20), (20, 20, 20))})
    breast = make_plan(Side.LEFT).model_copy(update={"levels": ()})
    for plan in (breast, breast.model_copy(update={"levels": (Level.L4,)})):
        model.probability(volume, render_plan(plan))
    assert parts[0] != parts[1]
    model.inference = InferenceSection(composed=True, margin=0)
    for plan in (breast, breast.model_copy(update={"levels": (Level.L4,)})):
        model.probability(volume, render_plan(plan))
    assert parts[2] == parts[3]


def test_one_structure_at_a_time_needs_a_network_that_has_seen_that(config: SegConfig) -> None:
    with pytest.raises(ConfigError, match="composed needs plan_parts"):
        config.updated(inference={"composed": True})
    with pytest.raises(ConfigError, match="plan_parts needs plan_edits"):
        config.updated(plan_parts=0.5)
    with pytest.raises(ConfigError, match="text_form target or names"):
        config.updated(plan_parts=0.5, plan_edits=0.5, text_form="full")
