"""Does a mask hold the nodal levels that its plan names, and none that it does not name?

A Dice of 0.9 can hide a missing level 4, whose volume is a tenth of the target's. A level counts as held when at least
half of its reference volume lies in the mask. Levels that the plan leaves out are judged by what of them does not
belong to the target anyway (levels touch the breast and each other), if that is more than a trace.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from rollama.data.plan import Level, Plan, Side

METRICS = ("levels_held", "levels_left_out", "levels_right")
HELD = 0.5
TRACE_CC = 0.5


def level_inclusion(
    mask: np.ndarray,
    plan: Plan,
    target: np.ndarray,
    levels: Mapping[tuple[Side, Level], np.ndarray],
    voxel_cc: float,
) -> dict[str, float]:
    """Compare a mask with the levels of its plan.

    Args:
        mask: predicted, (x, y, z).
        plan: the true plan.
        target: its true target, bool.
        levels: regions of levels by side; those that are not known are left out.
        voxel_cc: volume of a voxel in cubic centimetres.

    Returns:
        `levels_held`: share of the planned levels that the mask holds; NaN without any. `levels_left_out`: share of the
        others, on either side, that it does not hold. `levels_right`: 1 when both are complete; NaN where no level
        outside the plan is known, because a mask of everything would be right then.
    """
    inside = mask.astype(bool)
    held, left_out = [], []
    for (side, level), region in levels.items():
        planned = side is plan.side and level in plan.levels
        part = region if planned else region & ~target
        volume = np.count_nonzero(part)
        if volume * voxel_cc < TRACE_CC:
            continue
        share = np.count_nonzero(inside & part) / volume
        if planned:
            held.append(share >= HELD)
        else:
            left_out.append(share < HELD)
    return {
        "levels_held": float(np.mean(held)) if held else math.nan,
        "levels_left_out": float(np.mean(left_out)) if left_out else math.nan,
        "levels_right": float(all(held) and all(left_out)) if left_out else math.nan,
    }
