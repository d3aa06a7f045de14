"""All parts of a case: which bits make which plan's target, and other plans that are plans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rollama.cohort.make import write_nifti
from rollama.cohort.sdf import Grid
from rollama.core.errors import DataError
from rollama.data.case import Case, Split
from rollama.data.parts import Part
from rollama.data.plan import Dose, Guideline, Level, Plan, Side, Structures, Surgery, Technique, Volume, render_plan
from rollama.data.regions import (
    DRAWS,
    PARTS,
    another_plan,
    disagreement,
    one_structure,
    pack,
    regions_on_grid,
    regions_path,
    target_in,
)
from rollama.data.volumes import Volume as Ct

PLAN = Plan(
    side=Side.LEFT, surgery=Surgery.CONSERVING, volume=Volume.BREAST, levels=(Level.L1, Level.IMN),
    dose=Dose(gy=26, fractions=5), technique=Technique.TANGENTS,
)  # fmt: skip
GRID = Grid((8, 8, 8), (5.0, 5.0, 5.0))


def stripes() -> dict[Part, np.ndarray]:
    """One slice along x for each part."""
    masks = {}
    for place, part in enumerate(PARTS):
        masks[part] = np.zeros(GRID.shape, bool)
        masks[part][place] = True
    return masks


def test_a_plans_target_is_the_union_of_its_parts() -> None:
    bits = pack(stripes())
    assert bits.dtype == np.uint8
    assert bits[:, 0, 0].tolist() == [1, 2, 4, 8, 16, 32, 64, 128]
    assert np.flatnonzero(target_in(bits, PLAN)[:, 0, 0]).tolist() == [0, 2, 7]
    wall = PLAN.model_copy(update={"volume": Volume.CHEST_WALL, "levels": (Level.INTERPECTORAL,)})
    assert np.flatnonzero(target_in(bits, wall)[:, 0, 0]).tolist() == [1, 6]
    with pytest.raises(ValueError, match="no part"):
        pack({Part.BOOST: bits})


def draws(wall: float = 1, borders: float = 1, how: float = 0, which: float = 0, *each: float) -> list[float]:
    return [wall, borders, how, which, *(each or (1.0,) * len(Level))]


def test_changed_plans() -> None:
    assert len(draws()) == DRAWS
    assert another_plan(PLAN, [], draws()).levels == (Level.IMN,)
    assert another_plan(PLAN, [], draws(which=0.2)).levels == (Level.L1, Level.L2, Level.IMN)
    any_level = another_plan(PLAN, [], draws(1, 1, 0.9, 0, 0, 1, 0, 1, 1, 0))
    assert any_level.levels == (Level.L3,)
    assert another_plan(PLAN, [], draws(1, 1, 0.9)) == PLAN
    wall = another_plan(PLAN, [], draws(0, 1, 0.9))
    assert (wall.volume, wall.surgery, wall.levels) == (Volume.CHEST_WALL, Surgery.MASTECTOMY, PLAN.levels)
    assert another_plan(wall, [], draws(0, 1, 0.9)) == wall  # no breast is there to go back to
    named = PLAN.model_copy(update={"guideline": Guideline.ESTRO})
    assert another_plan(named, list(Guideline), draws(1, 0, 0.9)).guideline is Guideline.RTOG
    assert another_plan(named, [Guideline.ESTRO], draws(1, 0, 0.9)) == named
    assert another_plan(PLAN, list(Guideline), draws(1, 0, 0.9)) == PLAN  # who names none is not asked to


def test_every_changed_plan_is_a_plan() -> None:
    rng = np.random.default_rng(0)
    for start in (PLAN, PLAN.model_copy(update={"guideline": Guideline.RTOG, "levels": ()})):
        for _ in range(200):
            changed = another_plan(start, list(Guideline), rng.uniform(size=DRAWS).tolist())
            assert Plan.model_validate(dict(changed)) == changed and changed.side is start.side


def test_single_structures_by_number() -> None:
    found = [one_structure(PLAN, which) for which in np.linspace(0, 1, 100, endpoint=False)]
    levels = [part.levels for part in found if part.volume is None]
    assert sorted(set(levels)) == sorted((level,) for level in Level)
    assert 60 < len(levels) < 80
    assert {part for part in found if part.volume} == {Structures(Side.LEFT, Volume.BREAST, (), None)}


def case_in(root: Path, plan: Plan = PLAN) -> Case:
    image = root / "here" / "images" / "p1.nii.gz"
    return Case(
        case_id="p1", centre="here", split=Split.TRAIN, plan=plan, plan_text=render_plan(plan),
        image=image, target=image, spacing=GRID.spacing,
    )  # fmt: skip


def write(case: Case, guideline: Guideline, bits: np.ndarray) -> None:
    path = regions_path(case, guideline)
    path.parent.mkdir(parents=True)
    write_nifti(path, bits, GRID)


def test_on_the_models_grid(tmp_path: Path) -> None:
    case, ct = case_in(tmp_path), Ct(np.zeros(GRID.shape, np.float32), GRID.affine)
    assert regions_on_grid(case, ct, (5, 5, 5)) == {}
    bits = pack(stripes())
    write(case, Guideline.RTOG, bits)
    found = regions_on_grid(case, ct, (5, 5, 5))
    assert list(found) == [Guideline.RTOG] and np.array_equal(found[Guideline.RTOG], bits)
    assert regions_on_grid(case, ct, (10, 10, 10))[Guideline.RTOG].shape == (4, 4, 4)
    with pytest.raises(DataError, match=r"regions/RTOG/p1.nii.gz.*differs"):
        regions_on_grid(case, Ct(np.zeros((8, 8, 9), np.float32), GRID.affine), (5, 5, 5))


def test_parts_that_are_not_the_targets_are_named(tmp_path: Path) -> None:
    case, ct = case_in(tmp_path), Ct(np.zeros(GRID.shape, np.float32), GRID.affine)
    target = target_in(pack(stripes()), PLAN)
    assert disagreement(case, ct, target) == []
    write(case, Guideline.ESTRO, pack(stripes()))
    write(case, Guideline.RTOG, np.zeros(GRID.shape, np.uint8))  # not the plan's guideline: nothing to compare
    assert disagreement(case, ct, target) == []
    regions_path(case, Guideline.ESTRO).unlink()
    shifted = pack(dict(zip(PARTS, list(stripes().values())[1:] + list(stripes().values())[:1], strict=True)))
    write_nifti(regions_path(case, Guideline.ESTRO), shifted, GRID)
    found = disagreement(case, ct, target)[0]
    assert "Dice 0.33" in found and "BREAST, CHEST_WALL, L1" in found
