"""Flips carry the plan, crops carry the coordinates, draws belong to the case."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rollama.data.parts import LEVELS
from rollama.data.plan import Dose, Level, Plan, Side, Surgery, Technique, Volume
from rollama.data.transforms import (
    Prepared,
    centred,
    cut,
    draw,
    mirror,
    place,
    scale_hu,
    training_pipeline,
)
from rollama.segmentation.config import SegConfig

PLAN = Plan(
    side=Side.LEFT, surgery=Surgery.CONSERVING, volume=Volume.BREAST,
    dose=Dose(gy=26, fractions=5), technique=Technique.TANGENTS,
)  # fmt: skip
BASE = {"patch": (16, 16, 16), "channels": (8, 16), "strides": (2, 2), "spacing": (5.0, 5.0, 5.0)}
STILL = {**BASE, "position_jitter": 0, "scale_probability": 0, "shift_probability": 0, "noise_probability": 0}


def make_prepared(shape: tuple[int, int, int] = (16, 16, 16)) -> Prepared:
    image = np.zeros(shape, np.float16)
    target = np.zeros(shape, np.uint8)
    image[2:5, 4:9, 3:6] = 0.5
    target[2:5, 4:9, 3:6] = 1
    origin = -(np.array(shape) - 1) / 2 * 5.0
    return Prepared(image, target, origin)


def centroid(sample_target: np.ndarray, origin: np.ndarray) -> np.ndarray:
    return np.argwhere(sample_target).mean(0) * 5.0 + origin


def test_flip_takes_plan_and_coordinates_with_it() -> None:
    config = SegConfig.model_validate({**STILL, "flip_probability": 1.0})
    prepared = make_prepared()
    before = centred(prepared, config, PLAN)
    after = draw(training_pipeline(config), prepared, PLAN, (0, 0, "a"))
    assert after.plan == PLAN.mirrored()
    assert np.array_equal(after.image, before.image[::-1])
    assert np.array_equal(after.target, before.target[::-1])
    mirrored = centroid(before.target, before.origin) * (-1, 1, 1)
    np.testing.assert_allclose(centroid(after.target, after.origin), mirrored)


def test_free_text_is_never_flipped() -> None:
    config = SegConfig.model_validate({**STILL, "flip_probability": 1.0})
    prepared = make_prepared()
    sample = draw(training_pipeline(config), prepared, None, (0, 0, "a"))
    assert np.array_equal(sample.target, centred(prepared, config, None).target)


def test_mirroring_twice_is_nothing() -> None:
    data = {
        "image": np.random.rand(1, 4, 3, 2),
        "target": np.ones((1, 4, 3, 2)),
        "origin": np.array([-7.0, 1, 2]),
        "plan": PLAN,
    }
    twice = mirror(mirror(data, 5.0), 5.0)
    assert np.array_equal(twice["image"], data["image"])
    assert twice["plan"] == PLAN
    np.testing.assert_allclose(twice["origin"], data["origin"])


def test_draws_belong_to_seed_epoch_and_case() -> None:
    config = SegConfig.model_validate(BASE | {"scale_probability": 1.0, "noise_probability": 1.0})
    prepared = make_prepared()
    pipeline = training_pipeline(config)
    first = draw(pipeline, prepared, PLAN, (0, 1, "a"))
    other = draw(pipeline, prepared, PLAN, (0, 2, "a"))
    again = draw(training_pipeline(config), prepared, PLAN, (0, 1, "a"))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.origin, again.origin)
    assert first.plan == again.plan
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_crops_of_a_larger_volume_keep_their_coordinates(name: str) -> None:
    config = SegConfig.model_validate({**STILL, "flip_probability": 0, "positive_crops": 1.0})
    prepared = make_prepared((40, 30, 20))
    sample = draw(training_pipeline(config), prepared, PLAN, (0, 0, name))
    assert sample.target.shape == (16, 16, 16)
    assert sample.target.sum() == prepared.target.sum()
    np.testing.assert_allclose(centroid(sample.target, sample.origin), centroid(prepared.target, prepared.origin))


def test_place_and_cut() -> None:
    assert place((20, 10, 16), (16, 16, 16), (19, 5, 8)) == (4, -2, 0)
    array = np.arange(5)[:, None, None]
    assert cut(array, (-2, 0, 0), (4, 1, 1)).ravel().tolist() == [0, 0, 0, 1]
    assert cut(array, (3, 0, 0), (4, 1, 1)).ravel().tolist() == [3, 4, 0, 0]


def test_hu_are_clipped_and_scaled() -> None:
    scaled = scale_hu(np.array([[[-2000.0, 0.0, 3000.0]]], np.float32), (-1000.0, 1000.0))
    assert scaled.ravel().tolist() == [0.0, 0.5, 1.0]


def test_organs_move_with_the_image() -> None:
    prepared = make_prepared((20, 16, 16))
    organs = (prepared.image > 0).astype(np.uint8)
    config = SegConfig(**{**STILL, "flip_probability": 1.0})
    plain = draw(training_pipeline(config), prepared, PLAN, (0, 0, "a"))
    assert plain.organs is None
    sample = draw(training_pipeline(config), replace(prepared, organs=organs), PLAN, (0, 0, "a"))
    assert sample.organs is not None
    assert np.array_equal(sample.organs > 0, sample.image > 0) and sample.organs.any()
    assert np.array_equal(sample.image, plain.image)


def test_levels_are_left_out_of_plan_and_target_alike() -> None:
    prepared = make_prepared()
    levels = np.zeros_like(prepared.target)
    levels[2:3], levels[3:4] = LEVELS[Level.L1] * prepared.target[2:3], LEVELS[Level.IMN] * prepared.target[3:4]
    prepared = replace(prepared, levels=levels)
    plan = PLAN.model_copy(update={"levels": (Level.L1, Level.IMN)})
    pipeline = training_pipeline(SegConfig(**{**STILL, "flip_probability": 0, "level_drop": 1.0}))
    seen = set()
    for epoch in range(12):
        sample = draw(pipeline, prepared, plan, (0, epoch, "a"))
        assert sample.plan is not None
        kept = sample.plan.levels
        seen.add(kept)
        wanted = prepared.target.copy()
        for level in set(plan.levels) - set(kept):
            wanted[levels == LEVELS[level]] = 0
        assert np.array_equal(sample.target, wanted)
        assert sample.target.any()  # the breast stays
    assert seen == {(), (Level.L1,), (Level.IMN,)}
    again = draw(pipeline, prepared, plan, (0, 3, "a"))
    assert np.array_equal(again.target, draw(pipeline, prepared, plan, (0, 3, "a")).target)
    flipped = training_pipeline(SegConfig(**{**STILL, "flip_probability": 1.0, "level_drop": 1.0}))
    other = draw(flipped, prepared, plan, (0, 3, "a"))
    assert other.plan == again.plan.mirrored()  # type: ignore[union-attr]
    assert np.array_equal(other.target[::-1], again.target)


def test_without_parts_or_levels_nothing_is_left_out() -> None:
    pipeline = training_pipeline(SegConfig(**{**STILL, "flip_probability": 0, "level_drop": 1.0}))
    prepared = make_prepared()
    plan = PLAN.model_copy(update={"levels": (Level.L1,)})
    for some, levels in ((plan, None), (PLAN, np.full_like(prepared.target, LEVELS[Level.L1]))):
        sample = draw(pipeline, replace(prepared, levels=levels), some, (0, 0, "a"))
        assert sample.plan == some
        assert np.array_equal(sample.target, prepared.target)
