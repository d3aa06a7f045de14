"""Targets: on the plan's side, in the plan's parts, computable on any anatomy, sized for a 6 mm grid."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from rollama.cohort.anatomy import SIGN, Anatomy
from rollama.cohort.targets import level_mask, target_mask
from rollama.data.plan import Boost, BoostKind, Dose, Level, Plan, Side, Surgery, Technique, Volume

BOTH = {Side.LEFT: True, Side.RIGHT: True}
PATIENTS = range(10)


def plan(volume: Volume | None, levels: tuple[Level, ...] = (), side: Side = Side.LEFT) -> Plan:
    surgery = Surgery.CONSERVING if volume is Volume.BREAST else Surgery.MASTECTOMY
    if volume is None:
        return Plan(side=side, surgery=surgery, volume=None, dose=None, technique=None)
    dose = Dose(gy=50, fractions=25)
    return Plan(side=side, surgery=surgery, volume=volume, levels=levels, dose=dose, technique=Technique.VMAT)


def test_no_target_is_an_empty_mask(make_anatomy: Callable[..., Anatomy]) -> None:
    mask = target_mask(make_anatomy(), plan(None))
    assert mask.dtype == np.uint8
    assert not mask.any()


@pytest.mark.parametrize("number", PATIENTS)
def test_parts_are_large_enough_and_on_their_side(make_anatomy: Callable[..., Anatomy], number: int) -> None:
    phantom = make_anatomy(number)
    for side, level in itertools.product(Side, Level):
        part = level_mask(phantom, side, level)
        assert part.sum() >= 25, level
        assert not part[np.broadcast_to(SIGN[side] * phantom.x <= 0, part.shape)].any()
    for volume in Volume:
        cc = target_mask(phantom, plan(volume)).sum() * 0.216
        assert 120 < cc < 1100


@pytest.mark.parametrize("mounds", [BOTH, {Side.LEFT: False, Side.RIGHT: True}, {Side.LEFT: False, Side.RIGHT: False}])
def test_any_plan_has_a_target_on_any_anatomy(make_anatomy: Callable[..., Anatomy], mounds: dict[Side, bool]) -> None:
    phantom = make_anatomy(2, mounds)
    for volume, side in itertools.product(Volume, Side):
        mask = target_mask(phantom, plan(volume, tuple(Level), side))
        assert mask.sum() > 400
        assert phantom.hu[mask > 0].min() > -950  # no air outside the patient, no lung beyond the vessels' margin


def test_breast_keeps_off_skin_and_muscle(make_anatomy: Callable[..., Anatomy]) -> None:
    phantom = make_anatomy(4)
    mask = target_mask(phantom, plan(Volume.BREAST)) > 0
    assert phantom.skin[mask].min() > 5
    assert not (mask & phantom.pectoral).any()
    wall = target_mask(phantom, plan(Volume.CHEST_WALL)) > 0
    assert (wall & phantom.pectoral).any()


def test_levels_add_to_the_union_and_lie_outside_the_cage_but_imn(make_anatomy: Callable[..., Anatomy]) -> None:
    phantom = make_anatomy(5)
    small = target_mask(phantom, plan(Volume.BREAST, (Level.L3, Level.L4)))
    large = target_mask(phantom, plan(Volume.BREAST, tuple(Level)))
    assert (large >= small).all()
    assert large.sum() > small.sum() + 100
    for level in Level:
        cage = phantom.cage[level_mask(phantom, Side.LEFT, level)]
        assert (cage < 0).all() if level is Level.IMN else (cage >= 0).all()


def test_levels_do_not_overlap(make_anatomy: Callable[..., Anatomy]) -> None:
    phantom = make_anatomy(6)
    total = sum(level_mask(phantom, Side.RIGHT, level).astype(int) for level in Level)
    assert np.max(total) == 1


def test_breast_target_is_one_piece(make_anatomy: Callable[..., Anatomy]) -> None:
    for number in PATIENTS:
        for volume in Volume:
            _, pieces = ndimage.label(target_mask(make_anatomy(number), plan(volume)), np.ones((3, 3, 3)))
            assert pieces == 1


def test_boost_does_not_change_the_target(make_anatomy: Callable[..., Anatomy]) -> None:
    phantom = make_anatomy(7)
    boost = Boost(kind=BoostKind.SEQUENTIAL, dose=Dose(gy=10, fractions=5))
    without = plan(Volume.BREAST)
    assert (target_mask(phantom, without) == target_mask(phantom, without.updated(boost=boost))).all()
