"""Flips carry the plan, crops carry the coordinates, draws belong to the case."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rollama.cohort.config import CohortConfig
from rollama.cohort.make import make_cohort
from rollama.cohort.regions import write_regions
from rollama.data.dataset import open_dataset
from rollama.data.parts import LEVELS, VOLUMES
from rollama.data.plan import Dose, Guideline, Level, Plan, Side, Structures, Surgery, Technique, Volume
from rollama.data.regions import PARTS, pack, target_in
from rollama.data.transforms import (
    Prepared,
    centred,
    cut,
    draw,
    mirror,
    place,
    prepare,
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


def test_some_crops_lie_on_the_other_side() -> None:
    settings = {**STILL, "flip_probability": 0, "positive_crops": 1.0}
    pipelines = [
        training_pipeline(SegConfig.model_validate({**settings, "mirrored_crops": share})) for share in (0, 0.5, 1)
    ]
    prepared = make_prepared((40, 30, 20))  # the target lies far on one side
    found = []
    for epoch in range(30):
        own, some, across = (draw(pipeline, prepared, PLAN, (0, epoch, "a")) for pipeline in pipelines)
        middles = [sample.origin + 7.5 * 5.0 for sample in (own, some, across)]
        np.testing.assert_allclose(middles[0], middles[2] * [-1, 1, 1], atol=5.0)
        assert own.target.any() and not across.target.any() and across.plan == PLAN
        found.append(np.array_equal(middles[1], middles[2]))
        assert found[-1] or np.array_equal(middles[1], middles[0])
    assert 8 < sum(found) < 22


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


def test_another_plan_comes_with_its_own_target() -> None:
    prepared = make_prepared()
    masks = {part: np.zeros(prepared.target.shape, bool) for part in PARTS}
    for slot, part in enumerate(PARTS):
        masks[part][slot + 4, 4:9, 3:6] = True
    estro = pack(masks)
    prepared = replace(prepared, regions={Guideline.ESTRO: estro, Guideline.RTOG: np.roll(estro, 1, axis=2)})
    plan = PLAN.model_copy(update={"guideline": Guideline.ESTRO})
    config = SegConfig(**{**STILL, "flip_probability": 0, "plan_edits": 1.0})
    seen = set()
    for epoch in range(40):
        sample = draw(training_pipeline(config), prepared, plan, (0, epoch, "a"))
        assert sample.plan is not None and sample.plan.guideline is not None
        if sample.plan == plan:
            assert np.array_equal(sample.target, prepared.target) and sample.contested is None
            continue
        assert sample.contested is not None
        assert np.array_equal(sample.contested > 0, sample.target != prepared.target)
        assert np.array_equal(sample.target > 0, target_in(prepared.regions[sample.plan.guideline], sample.plan))
        seen.add((sample.plan.volume, sample.plan.guideline))
    assert len(seen) == 4
    flipped = training_pipeline(SegConfig(**{**STILL, "flip_probability": 1.0, "plan_edits": 1.0}))
    one, other = (draw(p, prepared, plan, (0, 3, "a")) for p in (training_pipeline(config), flipped))
    assert one.plan is not None and other.plan == one.plan.mirrored()
    assert np.array_equal(other.target[::-1], one.target)


def test_single_structures_come_with_their_own_target() -> None:
    prepared = make_prepared()
    masks = {part: np.zeros(prepared.target.shape, bool) for part in PARTS}
    for slot, part in enumerate(PARTS):
        masks[part][slot + 4, 4:9, 3:6] = True
    prepared = replace(prepared, regions={Guideline.ESTRO: pack(masks)})
    plan = PLAN.model_copy(update={"guideline": Guideline.ESTRO})
    config = SegConfig(**{**STILL, "flip_probability": 0, "plan_edits": 1.0, "plan_parts": 1.0})
    seen = set()
    for epoch in range(60):
        sample = draw(training_pipeline(config), prepared, plan, (0, epoch, "a"))
        assert isinstance(sample.plan, Structures) and sample.contested is not None
        named = sample.plan
        (part,) = [*(LEVELS[x] for x in named.levels), *([VOLUMES[named.volume]] if named.volume else [])]
        assert np.array_equal(sample.target > 0, masks[part])
        assert np.array_equal(sample.contested > 0, sample.target != prepared.target)
        seen.add(part)
    assert seen == set(PARTS)
    some = SegConfig(**{**STILL, "flip_probability": 0, "plan_edits": 1.0, "plan_parts": 0.5})
    drawn = [draw(training_pipeline(some), prepared, plan, (0, epoch, "a")).plan for epoch in range(40)]
    assert 10 < sum(isinstance(plan, Structures) for plan in drawn) < 30


def test_what_another_plan_would_change_is_known_where_it_is_not_shown() -> None:
    prepared = make_prepared()
    everything = np.full(prepared.target.shape, 255, np.uint8)
    prepared = replace(prepared, regions={Guideline.ESTRO: everything})
    plan = PLAN.model_copy(update={"guideline": Guideline.ESTRO})
    rare, often = (SegConfig(**{**STILL, "flip_probability": 0, "plan_edits": share}) for share in (1e-9, 1.0))
    shown = draw(training_pipeline(rare), prepared, plan, (0, 0, "a"))
    other = draw(training_pipeline(often), prepared, plan, (0, 0, "a"))
    assert shown.plan == plan and other.plan != plan
    assert np.array_equal(shown.target, prepared.target)
    assert shown.contested is not None and other.contested is not None
    assert np.array_equal(shown.contested, other.contested)
    assert np.array_equal(shown.contested, other.target != prepared.target)


def test_plans_without_known_parts_stay_as_they_are() -> None:
    pipeline = training_pipeline(SegConfig(**{**STILL, "flip_probability": 0, "plan_edits": 1.0}))
    prepared = make_prepared()
    one_guideline = replace(prepared, regions={Guideline.RTOG: np.full(prepared.target.shape, 255, np.uint8)})
    nothing = PLAN.model_copy(update={"volume": None, "dose": None, "technique": None})
    for some, plan in ((prepared, PLAN), (one_guideline, PLAN), (one_guideline, nothing), (one_guideline, None)):
        sample = draw(pipeline, some, plan, (0, 0, "a"))  # without a name ESTRO's borders hold
        assert sample.plan == plan
        assert np.array_equal(sample.target, prepared.target)


def test_regions_are_prepared_only_where_plans_may_change(tmp_path: Path) -> None:
    config = CohortConfig(train=1, validation=0, test=0, external=0, grid=(40, 32, 24), spacing=(12.5, 12.5, 12.0))
    make_cohort(tmp_path / "cohort", config)
    write_regions(tmp_path / "cohort")
    cases = [c for c in open_dataset(tmp_path / "cohort").cases if c.plan is not None and c.plan.has_target]
    settings = {**STILL, "spacing": (12.5, 12.5, 12.0)}
    assert prepare(cases[0], SegConfig(**settings)).regions == {}
    prepared = prepare(cases[0], SegConfig(**{**settings, "plan_edits": 0.1}))
    assert set(prepared.regions) == set(Guideline)
    assert {bits.shape for bits in prepared.regions.values()} == {prepared.target.shape}
    assert prepared.nbytes > prepare(cases[0], SegConfig(**settings)).nbytes
