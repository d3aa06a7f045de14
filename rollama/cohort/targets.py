"""The parts of a target on a given anatomy by written geometric rules, and their union by a plan.

The label must follow from CT and plan and from nothing else, or no model can learn it and no test can say what was
learnt. Each part is a region between visible borders (skin, rib cage, pectoral muscles, sternum, clavicle, vessels)
on the plan's side. Phantom landmarks stand in for the real ones. Two conventions, as two guidelines draw them:

part            ESTRO-like                                    RTOG-like
breast          5 mm under the skin, before the muscle        3 mm under the skin, outline 6 mm wider
chest wall      pectoralis major and what lies before it      from the rib-pleura interface: ribs included
L4              up to 10 mm above the subclavian arch,        up to the cricoid,
                lateral border the anterior scalene           lateral border the trapezius
IMN             from the subclavian vein to rib 4             from the upper edge of rib 1 to rib 4

Levels 1 to 3 and the interpectoral nodes are alike. Sources: ESTRO consensus 2015, POTENTIAL (table 1), RTOG breast
atlas; where only secondary sources could be read, docs/cohort.md says so. Labels are CTVs. A boost lies inside the
breast and does not enlarge the union. Sides never mix: a part ends at the midline.
"""

from __future__ import annotations

import numpy as np

from rollama.cohort.anatomy import (
    MINOR_MM,
    WALL_MM,
    Anatomy,
    behind_minor,
    jugular,
    lift,
    mammary_u,
    minor_edges,
)
from rollama.cohort.body import SIGN
from rollama.cohort.facts import Site
from rollama.cohort.sdf import ellipsoid, length
from rollama.cohort.surgery import bed_centre
from rollama.core.errors import DataError
from rollama.data.parts import LEVELS, Part, parts_of
from rollama.data.plan import Guideline, Plan, Side

WALL_DEPTH_MM = 18.0
"""How far before the pectoralis major the chest wall's CTV reaches on a reconstructed side; else the skin ends it."""
CAVITY_MARGIN_MM = 12.0
"""From the cavity or clips to the boost's CTV."""
SKIN_CROP_MM = {Guideline.ESTRO: 5.0, Guideline.RTOG: 3.0}
OUTLINE_MM = {Guideline.ESTRO: 0.0, Guideline.RTOG: 6.0}


def part_mask(body: Anatomy, side: Side, part: Part, guideline: Guideline, site: Site | None = None) -> np.ndarray:
    """One part of one side, whatever a plan says.

    Args:
        body: the anatomy's fields.
        side: treated side.
        part: which part; the boost needs `site`.
        guideline: whose borders.
        site: where the tumour was.

    Returns:
        bool (x, y, z) of the slab.
    """
    if part is Part.BREAST:
        mask = _breast(body, side, guideline)
    elif part is Part.CHEST_WALL:
        mask = _chest_wall(body, side, guideline)
    elif part is Part.BOOST:
        if site is None:
            raise DataError("boost: the tumour's site is not known, so its bed cannot be drawn")
        mask = _boost(body, side, site) & _breast(body, side, guideline)
    else:
        mask = _node(body, part, guideline) & (body.skin > 4)
    on_side = SIGN[side] * body.x > 0
    result: np.ndarray = mask & np.broadcast_to(on_side, mask.shape)
    return result


def label_map(body: Anatomy, plan: Plan, site: Site | None = None) -> np.ndarray:
    """The parts that a plan treats, as values of `Part`; nodes go before breast or chest wall where they meet.

    Args:
        body: the anatomy's fields.
        plan: what is treated; without a guideline ESTRO's borders hold.
        site: where the tumour was, for the boost.

    Returns:
        uint8 (x, y, z); all 0 for a plan without target.
    """
    guideline = plan.guideline or Guideline.ESTRO
    labels = np.zeros(np.broadcast_shapes(body.cage.shape, body.x.shape, body.y.shape, body.z.shape), np.uint8)
    parts = parts_of(plan)
    for part in (Part.BREAST, Part.CHEST_WALL, *LEVELS.values()):
        if part in parts:
            labels[part_mask(body, plan.side, part, guideline)] = part
    if Part.BOOST in parts:
        labels[part_mask(body, plan.side, Part.BOOST, guideline, site) & (labels == Part.BREAST)] = Part.BOOST
    return labels


def target_mask(body: Anatomy, plan: Plan) -> np.ndarray:
    """The plan's target, uint8 (x, y, z), 0 or 1: the union of its parts."""
    return (label_map(body, plan.model_copy(update={"boost": None})) > 0).astype(np.uint8)


def _breast(body: Anatomy, side: Side, guideline: Guideline) -> np.ndarray:
    shape = body.shape
    before = body.cage > lift(body.u, body.z) + shape.pectoral + 1
    lateral = body.y > (-4 if guideline is Guideline.RTOG else 4)
    mask: np.ndarray = (
        (body.breast[side] < OUTLINE_MM[guideline])
        & before
        & (body.pectoral > 0)
        & (body.skin > SKIN_CROP_MM[guideline])
        & lateral
        & (body.z < shape.clavicle - 14)
    )
    return mask


def _chest_wall(body: Anatomy, side: Side, guideline: Guideline) -> np.ndarray:
    breast = body.shape.breasts[side]
    across = (body.u - breast.u) / (breast.width + 2)
    along = (body.z - breast.z) / (breast.height + 2)
    gap = lift(body.u, body.z)
    deep = body.cage > (gap if guideline is Guideline.ESTRO else -WALL_MM)
    shallow = body.cage < gap + body.shape.pectoral + WALL_DEPTH_MM
    mask: np.ndarray = (across * across + along * along < 1) & deep & shallow & (body.skin > 1)
    mask &= (body.y > 0) & (body.u > 10) & (body.minor > 0)
    if side in body.implant:
        mask &= body.implant[side] > 0
    return mask


def _boost(body: Anatomy, side: Side, site: Site) -> np.ndarray:
    bed = body.shape.beds[side][site]
    x, y, z = bed_centre(body, side, bed)
    radius = bed.radius + CAVITY_MARGIN_MM
    mask: np.ndarray = ellipsoid(body.x - x, body.y - y, body.z - z, (radius, radius, radius)) < 0
    return mask


def _node(body: Anatomy, part: Part, guideline: Guideline) -> np.ndarray:
    u, y, z, cage = body.u, body.y, body.z, body.cage
    shape = body.shape
    medial, lateral = minor_edges(z)
    room, gap = behind_minor(z), lift(u, z)
    clavicle = shape.clavicle
    under_clavicle = clavicle - 7 + 0.18 * np.maximum(u - 40, 0)
    mask: np.ndarray
    if part is Part.L1:  # lateral to the pectoralis minor, in the axillary fat behind the major's edge
        across, along = (u - 112) / 30, (y - 2 - 0.12 * z) / (38 - 0.16 * z)
        mask = (u > lateral) & (across * across + along * along < 1) & (cage > 5) & (cage < 46)
        mask = mask & (z > -4) & (z < 60) & (body.pectoral > 1) & (body.skin > 10)
    elif part is Part.L2:  # behind the minor, from its medial to its lateral edge
        mask = (u > medial) & (u < lateral) & (cage > 0) & (cage < room) & (y > -18) & (z > 10) & (z < 78)
    elif part is Part.INTERPECTORAL:  # Rotter's nodes, between minor and major
        mask = (u > medial - 4) & (u < lateral) & (cage > room + MINOR_MM) & (cage < gap) & (y > -10)
        mask = mask & (z > 2) & (z < 76) & (body.pectoral > 0)
    elif part is Part.L3:  # medial to the minor, below the clavicle, before the ribs
        mask = (u > 38) & (u < medial) & (cage > 0) & (cage < np.clip(gap, 12, 20)) & (y > -4)
        mask = mask & (z > 42) & (z < under_clavicle) & (body.pectoral > 0)
    elif part is Part.L4:
        ju, jy = jugular(z)
        rtog = guideline is Guideline.RTOG
        top, outer = (clavicle + 46, 72.0) if rtog else (clavicle + 28, 60.0)
        across, along = (u - 0.5 * (ju - 8 + outer)) / (0.5 * (outer - ju + 8)), (y - jy + 12) / 25
        mask = (across * across + along * along < 1) & (cage > 0)
        mask = mask & (z > clavicle - 2) & (z < top) & (body.skin > 7)
    elif part is Part.IMN:  # 5 mm around the internal mammary vessels
        top = clavicle - 4 if guideline is Guideline.RTOG else clavicle + 2
        around = length((u - mammary_u(shape)) / 1.25, cage + WALL_MM + 1.5)
        mask = (around < 7.0) & (y > 18) & (z > -9) & (z < top)
    else:
        raise DataError(f"{part.estro} is not a nodal level")
    return mask
