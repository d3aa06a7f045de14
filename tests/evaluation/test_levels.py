"""Level inclusion on masks whose answer is plain."""

from __future__ import annotations

import math

import numpy as np

from rollama.data.plan import Dose, Level, Plan, Side, Surgery, Technique, Volume
from rollama.evaluation.levels import METRICS, level_inclusion

PLAN = Plan(
    side=Side.LEFT, surgery=Surgery.CONSERVING, volume=Volume.BREAST, levels=(Level.L3, Level.L4),
    dose=Dose(gy=40.05, fractions=15), technique=Technique.VMAT,
)  # fmt: skip


def slab(first: int, last: int) -> np.ndarray:
    mask = np.zeros((12, 10, 10), bool)
    mask[first:last] = True
    return mask


LEVELS = {
    (Side.LEFT, Level.L3): slab(0, 2),
    (Side.LEFT, Level.L4): slab(2, 4),
    (Side.LEFT, Level.IMN): slab(3, 6),  # its first slice belongs to the target as well
    (Side.RIGHT, Level.L3): slab(8, 10),
}
TARGET = slab(0, 4)


def test_all_right() -> None:
    found = level_inclusion(TARGET, PLAN, TARGET, LEVELS, 0.1)
    assert found == dict.fromkeys(METRICS, 1.0)


def test_a_forgotten_and_an_added_level() -> None:
    found = level_inclusion(slab(0, 2), PLAN, TARGET, LEVELS, 0.1)
    assert found == {"levels_held": 0.5, "levels_left_out": 1.0, "levels_right": 0.0}
    found = level_inclusion(slab(0, 6), PLAN, TARGET, LEVELS, 0.1)
    assert found == {"levels_held": 1.0, "levels_left_out": 0.5, "levels_right": 0.0}
    found = level_inclusion(slab(0, 10), PLAN, TARGET, LEVELS, 0.1)
    assert found["levels_left_out"] == 0.0


def test_half_of_a_level_counts_and_a_shared_slice_does_not() -> None:
    assert level_inclusion(slab(1, 4), PLAN, TARGET, LEVELS, 0.1)["levels_held"] == 1.0
    nearly = slab(0, 4)
    nearly[4, :3] = True
    assert level_inclusion(nearly, PLAN, TARGET, LEVELS, 0.1)["levels_left_out"] == 1.0


def test_traces_and_unknown_levels_are_not_judged() -> None:
    found = level_inclusion(TARGET, PLAN, TARGET, LEVELS, 0.0005)
    assert all(math.isnan(value) for value in found.values())
    assert all(math.isnan(value) for value in level_inclusion(TARGET, PLAN, TARGET, {}, 0.1).values())


def test_planned_levels_alone_say_nothing_of_all() -> None:
    planned = {key: value for key, value in LEVELS.items() if key in ((Side.LEFT, Level.L3), (Side.LEFT, Level.L4))}
    found = level_inclusion(np.ones_like(TARGET), PLAN, TARGET, planned, 0.1)
    assert found["levels_held"] == 1.0 and math.isnan(found["levels_left_out"]) and math.isnan(found["levels_right"])
