"""The target volume that a plan asks for on a given anatomy, by geometric rules.

The label must follow from CT and plan and from nothing else, or no model can learn it and no test can say what was
learnt. Each part below is a region between visible borders (skin, rib cage, pectoral muscles, sternum, clavicle) on
the plan's side; the target is their union. Labels are CTVs; phantom landmarks stand in for the real ones. Borders
after the ESTRO 2015 consensus, for the chest wall after POTENTIAL (dorsal border: front of the pectoralis minor).

A boost does not enlarge the target: its bed lies inside the breast. Sides never mix: a part ends at the midline.
"""

from __future__ import annotations

import numpy as np

from rollama.cohort.anatomy import SIGN, WALL_MM, Anatomy, lift, minor_edges
from rollama.data.plan import Level, Plan, Side, Volume

SKIN_CROP_MM = 5.0
"""Breast CTV keeps this distance from the skin (ESTRO)."""

WALL_DEPTH_MM = 24.0
"""How far before the pectoralis major the chest wall's CTV reaches on a reconstructed side; else the skin ends it."""


def target_mask(anatomy: Anatomy, plan: Plan) -> np.ndarray:
    """The plan's target on the anatomy's grid.

    Returns:
        uint8 (x, y, z), 0 or 1; all 0 for a plan without target.
    """
    mask = np.zeros(anatomy.grid.shape, bool)
    if plan.volume is not None:
        mask |= _breast(anatomy, plan.side) if plan.volume is Volume.BREAST else _chest_wall(anatomy, plan.side)
    for level in plan.levels:
        mask |= level_mask(anatomy, plan.side, level)
    return mask.astype(np.uint8)


def _on_side(anatomy: Anatomy, side: Side) -> np.ndarray:
    return SIGN[side] * anatomy.x > 0


def _breast(anatomy: Anatomy, side: Side) -> np.ndarray:
    """Breast in front of the muscle, 5 mm under the skin."""
    front_of_muscle = anatomy.cage > lift(anatomy.z) + anatomy.shape.pectoral
    mask: np.ndarray = (
        (anatomy.breast[side] < 0)
        & front_of_muscle
        & (anatomy.skin > SKIN_CROP_MM)
        & (anatomy.y > 0)
        & _on_side(anatomy, side)
    )
    return mask


def _chest_wall(anatomy: Anatomy, side: Side) -> np.ndarray:
    """Pectoralis major and the tissue before it up to the skin, within the breast's outline."""
    _, _, width, _, tall = anatomy.shape.breasts[side]
    u0, z0 = anatomy.shape.breasts[side][:2]
    outline = ((anatomy.u - u0) / (width + 4)) ** 2 + ((anatomy.z - z0) / (tall + 4)) ** 2 < 1
    deep = anatomy.cage > lift(anatomy.z)
    shallow = anatomy.cage < lift(anatomy.z) + anatomy.shape.pectoral + WALL_DEPTH_MM
    mask: np.ndarray = (
        outline & deep & shallow & (anatomy.skin > 1) & (anatomy.y > 0) & (anatomy.u > 12) & _on_side(anatomy, side)
    )
    return mask


def level_mask(anatomy: Anatomy, side: Side, level: Level) -> np.ndarray:
    """One nodal level of one side, bool (x, y, z)."""
    u, y, z, cage = anatomy.u, anatomy.y, anatomy.z, anatomy.cage
    medial, lateral = minor_edges(z)
    clavicle = anatomy.shape.clavicle
    if level is Level.L1:  # lateral to the pectoralis minor, in the axillary fat
        part = (u > lateral) & (cage > 1) & (cage < 34) & (y > -24) & (y < 24) & (z > 4) & (z < 64)
        part = part & ~anatomy.pectoral & (anatomy.skin > 9)
    elif level is Level.L2:  # behind the pectoralis minor
        part = (u > medial) & (u < lateral) & (cage > 0) & (cage < 14) & (y > -12) & (z > 14) & (z < 78)
    elif level is Level.L3:  # medial to the pectoralis minor, below the clavicle
        part = (u > 26) & (u < medial) & (cage > 0) & (cage < 20) & (y > 0) & (z > 40) & (z < clavicle - 4)
    elif level is Level.L4:  # above the clavicle, lateral to the great vessels
        inside = ((u - 40) / 26) ** 2 + ((y - 12) / 22) ** 2 < 1
        part = inside & (cage > 0) & (z > clavicle) & (z < clavicle + 34) & (anatomy.skin > 6)
    else:  # IMN: around the internal mammary vessels, first three intercostal spaces
        edge = anatomy.shape.sternum
        part = (u > edge - 4) & (u < edge + 19) & (cage < 0) & (cage > -WALL_MM - 10) & (y > 0) & (z > -8) & (z < 72)
    mask: np.ndarray = part & _on_side(anatomy, side)
    return mask
