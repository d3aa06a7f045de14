"""What surgery leaves on a CT: a tumour bed's place, clips, a seroma, an expander's port, streaks, a scar.

These are the cues that could betray the treated side. They are drawn for old and new surgery of both sides alike, and
most patients have none.
"""

from __future__ import annotations

import numpy as np

from rollama.cohort.anatomy import Anatomy, front
from rollama.cohort.body import SIGN, Bed
from rollama.cohort.facts import Mound
from rollama.cohort.painting import CLIP, FAT, FLUID, GLAND, Painter
from rollama.cohort.sdf import Point, inside
from rollama.data.plan import Side


def bed_centre(body: Anatomy, side: Side, bed: Bed) -> Point:
    """Centre of a tumour bed in reference mm."""
    breast = body.shape.breasts[side]
    x = SIGN[side] * (bed.u + breast.lean * bed.out)
    return (x, front(breast.u, breast.z) + 4 + bed.out, bed.z - breast.droop * bed.out)


def paint_marks(painter: Painter, body: Anatomy) -> None:
    """Clips around a bed and fluid in it, of this cancer or of an old one on the other side; an expander's port."""
    shape = body.shape
    for side in Side:
        site = shape.visible.seroma[side]
        if site is not None:
            bed = shape.beds[side][site]
            centre = bed_centre(body, side, bed)
            painter.ball(centre, (bed.radius + 2.5,) * 3, GLAND + 15)
            painter.ball(centre, (bed.radius,) * 3, FLUID)
    for centre, is_port in metal(body):
        if is_port:
            painter.ball(centre, (11.0, 4.0, 11.0), CLIP)
        else:
            size = max(1.4, 0.5 * body.voxel_mm)
            share = min(1.0, (1.4 / size) ** 3 * 3)
            painter.ball(centre, (size,) * 3, FAT + share * (CLIP - FAT))


def metal(body: Anatomy) -> list[tuple[Point, bool]]:
    """Centres of all metal in reference mm, and whether it is an expander's filling port rather than a clip."""
    shape, found = body.shape, []
    for side in Side:
        breast, site = shape.breasts[side], shape.visible.clips[side]
        if site is not None:
            x, y, z = bed_centre(body, side, shape.beds[side][site])
            offsets = ((9, 0, 3), (-8, 4, -4), (1, -8, 6), (2, 8, -7))
            found += [((x + dx, y + dy, z + dz), False) for dx, dy, dz in offsets]
        if shape.visible.mounds[side] is Mound.EXPANDER:
            y = front(breast.u - 4, breast.z) + shape.pectoral + 1.1 * max(0.62 * breast.projection, 24.0) - 4
            found.append(((SIGN[side] * (breast.u - 4), y, breast.z + 12), True))
    return found


def paint_streaks(painter: Painter, body: Anatomy) -> None:
    """Bright and dark rays around metal, within its slices: beam hardening as it looks, not as it comes about."""
    for (x, y, z), is_port in metal(body):
        strength, reach, height = (260.0, 45.0, 12.0) if is_port else (70.0, 12.0, 2.0)
        near = np.abs(body.z.ravel() - z) < height + 0.5 * body.voxel_mm
        if not near.any():
            continue
        dx, dy = body.x - x, body.y - y
        square = dx * dx + dy * dy + 1.0
        double = (dx * dx - dy * dy) / square  # the cosine of twice, four and eight times the angle
        four = 2 * double * double - 1
        rays = (2 * four * four - 1) * reach / (reach + np.sqrt(square)) * reach * reach / (reach * reach + square)
        painter.hu[:, :, near] += np.float32(strength) * rays * inside(-body.skin[:, :, near], 6.0)


def scar(body: Anatomy) -> np.ndarray | float:
    """Thickening of the skin in mm along the scar of a removed breast."""
    shape = body.shape
    extra: np.ndarray | float = 0.0
    for side in Side:
        if shape.visible.mounds[side] is Mound.FLAT:
            breast = shape.breasts[side]
            u = SIGN[side] * body.x
            off = body.z - (breast.z + shape.scar + 0.25 * (u - breast.u))
            near = np.maximum(np.abs(off) - 6, np.maximum(np.abs(u - breast.u) - 62, 10 - body.y))
            extra = extra + 2.6 * inside(near, 6.0)
    return extra
