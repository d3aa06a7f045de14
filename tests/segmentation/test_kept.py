"""A model that keeps what its encoder makes of every plan gives the same masks, and loads no language model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rollama.centres.federation.weights import read_artefact, write_artefact
from rollama.centres.measuring import measure_again
from rollama.core.errors import CheckpointError, ConfigError, DataError
from rollama.core.files import read_json, write_json
from rollama.data.dataset import open_dataset
from rollama.data.plan import Guideline, Level, Side, Volume, render_plan, structures
from rollama.data.volumes import read_ct
from rollama.language.base import base_info, load_base
from rollama.segmentation import checkpoint, kept
from rollama.segmentation.checkpoint import build_network, load_model, save_model
from rollama.segmentation.config import SegConfig
from rollama.segmentation.kept import FILE, LateEncoder, countable_texts, encode_all
from rollama.segmentation.predict import SegmentationModel
from rollama.segmentation.text_encoder import encoder_text
from tests.segmentation.conftest import make_plan

CPU = torch.device("cpu")
COMPOSED = {"plan_edits": 0.5, "plan_parts": 0.5, "inference": {"composed": True}, "text_mode": "all_tokens"}
PLANS = [
    make_plan(Side.LEFT),
    make_plan(Side.RIGHT).model_copy(update={"levels": tuple(Level), "guideline": Guideline.RTOG}),
    make_plan(Side.RIGHT).model_copy(update={"levels": (Level.L3, Level.IMN), "volume": Volume.CHEST_WALL}),
]


@pytest.fixture(params=[True, False], ids=["composed", "plans at once"])
def keeping(request: pytest.FixtureRequest, config: SegConfig) -> SegConfig:
    return config.updated(keep_texts=True, **(COMPOSED if request.param else {}))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the texts of these plans are kept: a thousand take a minute."""

    def texts(config: SegConfig) -> list[str]:
        parts = [structures(plan) if config.inference.composed else [plan] for plan in PLANS]
        return [encoder_text(one, "", config.text_form) for some in parts for one in some]

    monkeypatch.setattr(kept, "countable_texts", texts)


@pytest.fixture
def saved(keeping: SegConfig, few: None, tmp_path: Path) -> Path:
    network, info = build_network(keeping, CPU)
    save_model(tmp_path / "m", network, info, "key", plans_only=True)
    return tmp_path / "m"


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the language models that were loaded."""
    seen: list[str] = []

    def load(name: str, *rest: Any) -> Any:
        seen.append(name)
        return load_base(name, *rest)

    monkeypatch.setattr(checkpoint, "load_base", load)
    return seen


def test_every_text_that_a_plan_can_lead_to_is_counted(keeping: SegConfig) -> None:
    counted = countable_texts(keeping)
    assert len(counted) == len(set(counted)) == (48 if keeping.inference.composed else 2 * 3 * (3 * 64 - 1))
    for plan in PLANS:
        for one in structures(plan) if keeping.inference.composed else [plan]:
            assert encoder_text(one, "", keeping.text_form) in counted
            assert encoder_text(one.mirrored(), "", keeping.text_form) in counted


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_kept_is_what_the_encoder_gives(config: SegConfig, tmp_path: Path, dtype: str) -> None:
    config = config.updated(keep_texts=True, encoder_dtype=dtype, **COMPOSED)
    network, info = build_network(config, CPU)
    save_model(tmp_path / "m", network, info, "key", plans_only=True)
    model = SegmentationModel.load(tmp_path / "m")
    eager = SegmentationModel(network, model.manifest, CPU)
    for text in countable_texts(config):
        mine, other = model._encode(text), eager._encode(text)
        assert torch.equal(mine.states, other.states) and mine.states.dtype == other.states.dtype
        assert mine.mask is not None and other.mask is not None and torch.equal(mine.mask, other.mask)


def test_plans_are_outlined_alike_without_a_language_model(
    keeping: SegConfig, saved: Path, toy_dataset: Path, loads: list[str]
) -> None:
    volume = read_ct(open_dataset(toy_dataset).cases[0].image)
    loads.clear()
    model = SegmentationModel.load(saved)
    assert isinstance(model.network.text_encoder, LateEncoder)
    found = [model.probability(volume, render_plan(plan)) for plan in PLANS]
    assert not loads and not model.network.text_encoder.loaded
    (saved / FILE).unlink()
    _forget(saved)
    eager = SegmentationModel.load(saved)
    assert loads == ["tiny"]
    assert all(
        np.array_equal(one, eager.probability(volume, render_plan(p))) for one, p in zip(found, PLANS, strict=True)
    )


def _forget(folder: Path) -> None:
    manifest = read_json(folder / "manifest.json")
    del manifest["files"][FILE]
    write_json(folder / "manifest.json", manifest)


def test_another_text_loads_it_once(config: SegConfig, few: None, tmp_path: Path, loads: list[str]) -> None:
    network, info = build_network(config.updated(keep_texts=True), CPU)
    save_model(tmp_path / "m", network, info, "key")
    loads.clear()
    model = SegmentationModel.load(tmp_path / "m")  # trained on free text too
    assert model.meant("left breast please") is None
    eager = SegmentationModel(network, {}, CPU)
    for text in ("left breast please", "the other one"):
        mine, other = model.encode(text), eager.encode(text)
        assert mine is not None and other is not None and torch.equal(mine.states, other.states)
    assert loads == ["tiny"]


def test_another_encoder_is_refused_when_it_is_needed(
    saved: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = base_info("tiny")
    monkeypatch.setattr(checkpoint, "base_info", lambda *_: replace(here, weights_hash="0" * 64))
    loads.clear()
    model = SegmentationModel.load(saved)
    with pytest.raises(CheckpointError, match="other weights of the text encoder"):
        model._encode("something else")
    manifest = read_json(saved / "manifest.json")
    write_json(saved / "manifest.json", {**manifest, "plans_only": False})  # free text may come: told at once
    with pytest.raises(CheckpointError, match="other weights of the text encoder"):
        load_model(saved, CPU)
    assert not loads, "nothing is loaded to be refused"


def test_an_encoder_that_cannot_come_is_no_text_that_is_too_long(config: SegConfig, few: None) -> None:
    def away() -> Any:
        raise DataError("the store is away")

    with pytest.raises(DataError, match="the store is away"):
        encode_all(LateEncoder(config, 8, {}, away), config, CPU)
    network, _ = build_network(config, CPU)
    encoder = network.text_encoder
    assert encoder is not None
    longest = int(encoder.tokenize(kept.countable_texts(config)).lengths.max())
    encoder.config = config.updated(max_text_tokens=longest - 1)
    assert len(encode_all(encoder, encoder.config, CPU)) == len(PLANS) - 1


def test_only_texts_that_can_be_counted_are_kept(config: SegConfig) -> None:
    for change in ({"text_form": "full"}, {"method": "vision"}):
        with pytest.raises(ConfigError, match="keep_texts needs a text encoder and text_form"):
            config.updated(keep_texts=True, **change)


def test_a_changed_file_is_refused(saved: Path) -> None:
    (saved / FILE).write_bytes((saved / FILE).read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        load_model(saved, CPU)


def test_averaged_weights_leave_what_belonged_to_others_behind(saved: Path) -> None:
    tensors, manifest = read_artefact(saved)
    assert FILE in manifest["files"] and not any("words" in name for name in tensors)
    write_artefact(saved.parent / "merged", tensors, manifest)
    network, _ = load_model(saved.parent / "merged", CPU)
    assert network.text_encoder is not None and not isinstance(network.text_encoder, LateEncoder)


def test_a_model_is_given_another_way_of_use(
    config: SegConfig, few: None, toy_dataset: Path, tmp_path: Path, loads: list[str]
) -> None:
    network, info = build_network(config, CPU)
    save_model(tmp_path / "m", network, info, "key", plans_only=True)

    def again(*changes: str) -> Path:
        return measure_again(tmp_path / "m", toy_dataset, tmp_path / "again", device=CPU, changes=changes)

    loads.clear()
    model = SegmentationModel.load(again("keep_texts=true", "inference.mirrored=true", "overlap=0.25"))
    assert model.inference.mirrored and model.config.overlap == 0.25
    assert loads == ["tiny"]  # to measure; the new one needs none
    with pytest.raises(ConfigError, match=r"--set lr, steps: decides how .* accepted: inference, overlap, "):
        again("steps=9", "lr=1")
    with pytest.raises(ConfigError, match="composed needs plan_parts"):
        again("inference.composed=true")
    assert SegmentationModel.load(tmp_path / "again").inference.mirrored, "a refusal leaves what was there"
