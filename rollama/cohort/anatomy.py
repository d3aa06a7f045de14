"""A chest CT phantom by signed distances: every patient another size and shape, every border a target needs.

Real breast CTs with contours cannot be shipped. This phantom is built on a millimetre scale in patient coordinates:
RAS+, so +x points to the patient's RIGHT, +y to the front, +z to the head. The patient's left breast, and most of the
heart, have negative x. `landmarks` here are what targets are drawn by; `organs` paints the rest.

The CT must not tell which side is treated. What surgery leaves (a missing breast, an implant, clips, a seroma) is
shown for both sides alike, and in most patients nothing is left to be seen.
Synthetic anatomy tests software and method, not clinical accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rollama.cohort.body import SIGN, Breast, Shape
from rollama.cohort.facts import Mound
from rollama.cohort.sdf import Grid, capsule, ellipse, ellipsoid, smooth_union, smoothstep
from rollama.data.plan import Side

WALL_MM = 11.0
"""Thickness of the rib cage: ribs and intercostal muscle between its outer surface and the lung."""
MINOR_MM = 7.0
"""Thickness of the pectoralis minor."""
RIB_PITCH, RIB_SLOPE, RIB_TOP = 20.4, 0.3, 75.2
"""Ribs lie on planes z + slope * y = top - k * pitch (mm); rib 1 has k = 0."""
NECK_Y = -38.0


@dataclass(frozen=True)
class Anatomy:
    """The fields that targets and organs are defined by, on one slab of a grid.

    Everything is in the reference woman's mm. `x`, `y`, `z` are open; `u` is the distance from the midline. `cage` is
    the signed distance to the rib cage's outer surface (positive outside), `skin` the depth under the skin (positive
    inside). `breast` holds each side's breast (negative inside), also where it was removed, because the chest wall's
    borders follow it; `implant` each side's implant.
    """

    shape: Shape
    grid: Grid
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    cage: np.ndarray
    skin: np.ndarray
    breast: Mapping[Side, np.ndarray]

    @cached_property
    def u(self) -> np.ndarray:
        """Distance from the midline in mm."""
        distance: np.ndarray = np.abs(self.x)
        return distance

    @property
    def voxel_mm(self) -> float:
        """Voxel size in reference mm."""
        return self.grid.voxel_mm / self.shape.mm

    @cached_property
    def pectoral(self) -> np.ndarray:
        """Signed distance to the pectoralis major of both sides."""
        return pectoralis_major(self)

    @cached_property
    def minor(self) -> np.ndarray:
        """Signed distance to the pectoralis minor of both sides."""
        return pectoralis_minor(self)

    @cached_property
    def implant(self) -> Mapping[Side, np.ndarray]:
        """Signed distance to each side's implant or expander; only sides that have one."""
        shown = self.shape.visible.mounds
        return {side: implant(self, side) for side in Side if shown[side] in (Mound.IMPLANT, Mound.EXPANDER)}


def landmarks(shape: Shape, grid: Grid, start: int = 0, stop: int | None = None) -> Anatomy:
    """The fields of slices `start:stop` of a grid, each float32 (X, Y, stop - start) or broadcastable to it."""
    gx, gy, gz = grid.axes(start, stop)
    x, y, z = (
        ((axis - np.float32(middle)) / np.float32(scale)).astype(np.float32)
        for axis, middle, scale in zip((gx, gy, gz), shape.origin, shape.scale, strict=True)
    )
    cage = rib_cage(x, y, z)
    breast = {side: breast_of(shape.breasts[side], SIGN[side], x, y, z) for side in Side}
    outside = trunk(shape, x, y, z)
    for side in Side:
        kind = shape.visible.mounds[side]
        if kind is Mound.NATURAL:
            outside = smooth_union(outside, breast[side], 12.0)
        elif kind is not Mound.FLAT:
            outside = smooth_union(outside, _implant(shape, side, x, y, z) - 9.0, 12.0)
    return Anatomy(shape, grid, x, y, z, cage, -outside, breast)


def taper(z: np.ndarray) -> np.ndarray:
    """Width of the rib cage at height `z` as a share of its full width."""
    t = np.clip((z + 40) / 150, 0.0, 0.985)
    square = t * t
    share: np.ndarray = 0.5 * (np.sqrt(1 - square) + (1 - square))
    return share


def rib_cage(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Signed distance to the rib cage: one flat oval in front, two lobes beside the spine behind, an inlet above."""
    s = taper(z)
    px, py = x / s, (y + 30) / s - 30
    middle = ellipse(px, py - 5, (127.0, 78.0))
    lobes = ellipse(np.abs(px) - 59, py + 14, (66.0, 79.0))
    distance: np.ndarray = np.maximum(s * smooth_union(middle, lobes, 12.0), z - 106)
    return distance


def front(u: float, z: float) -> float:
    """y in mm of the rib cage's front surface at distance `u` from the midline and height `z`, found on a line."""
    y = np.linspace(0.0, 110.0, 441, dtype=np.float32)
    surface = rib_cage(np.full_like(y, u), y, np.full_like(y, z))
    return float(y[int(np.argmax(surface > 0))])


def trunk(shape: Shape, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Signed distance to the skin without breasts: chest, shoulders with raised arms, neck."""
    u = np.abs(x)
    over = 12 + shape.fat
    chest = rib_cage(x, y, z) - 0.8 * over
    waist = ellipsoid(x, y + 24, np.maximum(z + 4, 0.0), (138 + over, 110 + 0.9 * over, 104.0))
    chest = smooth_union(chest, waist, 24.0)
    girdle = capsule(u, y * 1.15, z, (60.0, -16.0, 58.0), (150.0, -24.0, 96.0), 48.0 + 0.45 * shape.fat)
    arm = capsule(u, y, z, (158.0, -22.0, 100.0), (204.0 + shape.arms, -20.0, 190.0), 40.0 + 0.35 * shape.fat)
    neck = ellipse(x, y - NECK_Y, (52.0 + 0.3 * shape.fat, 54.0 + 0.3 * shape.fat))
    neck = np.maximum(neck, 40 - z)
    body = smooth_union(smooth_union(chest, girdle, 34.0), arm, 22.0)
    return smooth_union(body, neck, 30.0)


def breast_of(breast: Breast, sign: float, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Signed distance to one breast: a sheared ellipsoid on the cage and the axillary tail."""
    base = front(breast.u, breast.z) + 4
    out = np.maximum(y - base, 0.0)
    u = sign * x
    main = ellipsoid(
        u - breast.u - breast.lean * out,
        y - base,
        z - breast.z + breast.droop * out,
        (breast.width, breast.projection + 8, breast.height),
    )
    lean = front(102.0, -8.0)
    tail = ellipsoid(u - 104, y - lean - 2, z + 8, (26.0, 24.0, 28.0))
    return smooth_union(main, tail, 16.0)


def _implant(shape: Shape, side: Side, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    breast = shape.breasts[side]
    base = front(breast.u - 4, breast.z) + shape.pectoral
    size = 0.78 if shape.visible.mounds[side] is Mound.EXPANDER else 0.86
    radii = (size * breast.width, max(0.62 * breast.projection, 24.0), size * breast.height)
    return ellipsoid(SIGN[side] * x - breast.u + 4, y - base - 0.55 * radii[1], z - breast.z, radii)


def implant(body: Anatomy, side: Side) -> np.ndarray:
    """Signed distance to the implant that replaces a breast, before the muscle."""
    return _implant(body.shape, side, body.x, body.y, body.z)


def minor_edges(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Medial and lateral edge (|x| in mm) of the pectoralis minor at height `z`: ribs 3-5 up to the coracoid."""
    middle = 86 + 0.26 * (z + 10)
    half = 21 - 0.11 * (z + 10)
    return middle - half, middle + half


def behind_minor(z: np.ndarray) -> np.ndarray:
    """Room in mm between rib cage and pectoralis minor at height `z`: level 2."""
    room: np.ndarray = 1 + 12 * smoothstep((z + 6) / 34)
    return room


def lift(u: np.ndarray, z: np.ndarray) -> np.ndarray:
    """How far in mm the pectoralis major stands off the rib cage: room for the minor and the nodes around it."""
    t = smoothstep((z + 22) / 30) * smoothstep((u - 14) / 42)
    gap: np.ndarray = 1 + t * (behind_minor(z) + MINOR_MM + 5)
    return gap


def pectoralis_major(body: Anatomy) -> np.ndarray:
    """Both sides: a shell before the cage, its free edge a cord to the raised arm (the anterior axillary fold)."""
    u, y, z, shape = body.u, body.y, body.z, body.shape
    gap = lift(u, z)
    shell = np.maximum(gap - body.cage, body.cage - gap - shape.pectoral)
    edges = np.maximum(shape.sternum - 2 - u, u - 112)
    ends = np.maximum(-56 + 0.3 * (112 - u) - z, z - (shape.clavicle - 6 + 0.18 * u))
    sheet = np.maximum(np.maximum(shell, edges), np.maximum(ends, 4 - y))
    edge = front(98.0, 26.0) * 0.72
    cord = capsule(u, y, z, (104.0, edge + 14.0, 22.0), (160.0, 4.0, 104.0), 9.0)
    return smooth_union(sheet, cord, 8.0)


def pectoralis_minor(body: Anatomy) -> np.ndarray:
    """Both sides: a ribbon behind the major."""
    medial, lateral = minor_edges(body.z)
    room = behind_minor(body.z)
    shell = np.maximum(room - body.cage, body.cage - room - MINOR_MM)
    edges = np.maximum(medial - body.u, body.u - lateral)
    ends = np.maximum(np.maximum(-16 - body.z, body.z - 88), -24 - body.y)
    distance: np.ndarray = np.maximum(np.maximum(shell, edges), ends)
    return distance


def rib_distance(y: np.ndarray, z: np.ndarray, lowest: int = 11) -> np.ndarray:
    """Distance in mm, along the body's height, to the middle of the nearest rib's plane."""
    k = (RIB_TOP - z - RIB_SLOPE * y) / RIB_PITCH
    nearest = np.clip(np.rint(k), 0, lowest)
    distance: np.ndarray = np.abs(k - nearest) * RIB_PITCH
    return distance


def vein_of_axilla() -> tuple[tuple[float, float, float], ...]:
    """Course of the axillary and subclavian vein, from the jugular's junction to the raised arm (u, y, z)."""
    return ((30.0, 14.0, 72.0), (70.0, 22.0, 74.0), (112.0, 4.0, 70.0), (150.0, -12.0, 96.0), (200.0, -24.0, 180.0))


def jugular(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """u and y in mm of the internal jugular vein at height `z`."""
    up = np.maximum(z - 72, 0.0)
    return 30 + 0.04 * up, 14 - 0.42 * up


def mammary_u(shape: Shape) -> float:
    """u in mm of the internal mammary vessels."""
    return shape.sternum + 10
