"""The pelvis as signed distances: what targets and organs are defined by.

Places of organs follow usual topographic anatomy of a supine man: prostate behind the symphysis and before the rectum,
aortic bifurcation at L4, iliac bifurcation before the sacroiliac joint. All lengths are those of the reference man
(see `body`); built of exactly rounded operations only (see `sdf`), so that bytes are the same on any processor.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rollama.cohort.pelvis.body import Shape
from rollama.cohort.sdf import Grid, Point, capsule, ellipse, ellipsoid, length, smooth_union

BACK_Y = -112.0
"""The couch: buttocks are flattened there."""
FLOOR_Z = -78.0
"""Level of the pelvic floor beside the anal canal."""

ARTERIES: tuple[tuple[float, tuple[Point, ...]], ...] = (
    (6.0, ((9.0, 12.0, 118.0), (24.0, 4.0, 92.0), (38.0, -3.0, 66.0))),
    (4.8, ((38.0, -3.0, 66.0), (50.0, 14.0, 38.0), (60.0, 33.0, 6.0), (66.0, 50.0, -14.0), (72.0, 62.0, -40.0))),
    (4.8, ((72.0, 62.0, -40.0), (76.0, 60.0, -90.0), (78.0, 50.0, -170.0))),
    (3.8, ((38.0, -3.0, 66.0), (46.0, -22.0, 44.0), (51.0, -34.0, 18.0))),
)
"""Radius and course (u, y, z): common, external, femoral and internal iliac artery of one side."""
VEINS: tuple[tuple[float, tuple[Point, ...]], ...] = (
    (6.8, ((12.0, -6.0, 106.0), (26.0, -9.0, 88.0), (37.0, -15.0, 62.0))),
    (5.8, ((37.0, -15.0, 62.0), (47.0, 2.0, 36.0), (55.0, 21.0, 6.0), (58.0, 39.0, -14.0), (60.0, 57.0, -40.0))),
    (5.8, ((60.0, 57.0, -40.0), (66.0, 52.0, -90.0), (70.0, 42.0, -170.0))),
    (4.2, ((37.0, -15.0, 62.0), (42.0, -30.0, 42.0), (46.0, -40.0, 20.0))),
    (2.2, ((46.0, -22.0, 30.0), (46.0, -2.0, 8.0), (46.0, 18.0, -14.0))),
)
"""As `ARTERIES`; the last is the obturator bundle at the side wall."""
NODAL = (
    (6.5, ((20.0, 4.0, 96.0), (38.0, -8.0, 64.0))),
    (8.0, ((38.0, -8.0, 64.0), (48.5, 8.0, 37.0), (57.5, 27.0, 6.0), (60.0, 35.0, -2.0))),
    (5.0, ((38.0, -8.0, 64.0), (44.0, -26.0, 43.0), (48.0, -36.0, 20.0))),
    (3.0, ((46.0, -22.0, 34.0), (45.0, 0.0, 10.0), (45.0, 20.0, -16.0), (43.0, 28.0, -28.0))),
    (2.0, ((44.0, -26.0, 43.0), (47.0, 4.0, 40.0), (52.0, 18.0, 20.0), (45.0, 4.0, 8.0))),
)
"""Radius and course that the nodal target follows: artery and vein as one bundle, last the side wall between them."""


def course(z: np.ndarray, points: Sequence[tuple[float, float]]) -> np.ndarray:
    """A value that runs in straight pieces through (z, value) points of rising z, constant beyond their ends."""
    result = np.full_like(z, points[0][1])
    for (z0, v0), (z1, v1) in itertools.pairwise(points):
        result = result + (v1 - v0) / (z1 - z0) * np.clip(z - z0, 0, z1 - z0)
    return result


def oval(x: np.ndarray, y: np.ndarray, wide: np.ndarray, deep: np.ndarray) -> np.ndarray:
    """First-order signed distance to an ellipse at the origin whose radii may change with z."""
    k0 = length(x / wide, y / deep)
    k1 = length(x / (wide * wide), y / (deep * deep))
    distance: np.ndarray = np.where(k1 < 1e-6, -20.0, k0 * (k0 - 1) / np.maximum(k1, 1e-6))
    return distance


def smooth_cut(a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """Intersection of two signed distances with a rounded edge."""
    result: np.ndarray = -smooth_union(-a, -b, radius)
    return result


def strip(u: np.ndarray, y: np.ndarray, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray:
    """Distance within a slice to the line from `a` to `b`, whose ends (u, y) may change with z."""
    du, dy = b[0] - a[0], b[1] - a[1]
    along = np.clip(((u - a[0]) * du + (y - a[1]) * dy) / np.maximum(du * du + dy * dy, 1e-3), 0, 1)
    return length(u - a[0] - along * du, y - a[1] - along * dy)


@dataclass(frozen=True)
class Pelvis:
    """Fields of one slab of a grid, in the reference man's mm, negative inside unless said otherwise.

    `x`, `y`, `z` are open axes, `u` the distance from the midline. Fields are float32 (X, Y, slab) or broadcastable.
    """

    shape: Shape
    grid: Grid
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    @property
    def u(self) -> np.ndarray:
        """Distance from the midline in mm."""
        distance: np.ndarray = np.abs(self.x)
        return distance

    @property
    def voxel_mm(self) -> float:
        """Voxel size in reference mm."""
        return self.grid.voxel_mm / self.shape.mm

    @cached_property
    def skin(self) -> np.ndarray:
        """Depth under the skin, positive inside: trunk, buttocks with cleft, two thighs."""
        x, u, y, z = self.x, self.u, self.y, self.z
        over = self.shape.fat - 22
        wide = course(z, ((-60.0, 188.0), (10.0, 190.0), (80.0, 178.0), (140.0, 168.0))) + over
        front = oval(x, y - 6, wide, course(z, ((-60.0, 106.0 + 0.6 * over), (140.0, 104.0 + 0.6 * over))))
        front = smooth_cut(front, -94 - 0.1 * (y - 20) - z, 16.0)
        buttock = ellipsoid(u - 78, y + 52, z + 38, (96 + 0.5 * over, 72 + 0.5 * over, 92.0))
        thigh = ellipse(u - 96, y + 6, (86 + 0.5 * over, 92 + 0.5 * over))
        thigh = np.maximum(thigh, z + 10)
        outside = smooth_union(smooth_union(front, buttock, 10.0), thigh, 10.0)
        genitals = capsule(x, y, z, (0.0, 72.0, -90.0), (0.0, 92.0, -128.0), 24.0)
        outside = smooth_union(outside, genitals, 12.0)
        depth: np.ndarray = -np.maximum(outside, BACK_Y - y)
        return depth

    @cached_property
    def sacrum_front(self) -> np.ndarray:
        """y of the front of sacrum and coccyx, and of the lumbar vertebrae above, at each height."""
        return course(
            self.z,
            ((-46.0, -50.0), (-30.0, -60.0), (-8.0, -68.0), (14.0, -65.0), (44.0, -42.0), (66.0, -20.0), (80.0, -13.0),
             (104.0, -6.0), (140.0, -4.0)),
        )  # fmt: skip

    @cached_property
    def sacrum(self) -> np.ndarray:
        """Sacrum and coccyx."""
        z = self.z
        wide = course(
            z,
            ((-46.0, 4.0), (-30.0, 9.0), (-14.0, 20.0), (0.0, 34.0), (14.0, 42.0), (30.0, 46.0), (44.0, 48.0),
             (66.0, 50.0)),
        )  # fmt: skip
        thick = course(z, ((-46.0, 5.0), (-16.0, 8.0), (20.0, 12.0), (50.0, 17.0), (66.0, 18.0)))
        across = self.u / wide
        y = self.y - self.sacrum_front + thick + 7 * across * across * np.clip((z + 10) / 40, 0, 1)
        k0 = length(across, y / thick)
        body = (k0 - 1) * thick
        distance: np.ndarray = np.maximum(
            body, np.maximum(z - 66 - 0.3 * (self.y + 40) * np.clip(1 - across, 0, 1), -48 - z)
        )
        return distance

    @cached_property
    def vertebrae(self) -> np.ndarray:
        """Bodies of the fourth and fifth lumbar vertebra with the discs below them."""
        body = ellipse(self.x, self.y - self.sacrum_front + 17, (25.0, 17.0))
        distance: np.ndarray = np.maximum(body, 64 - self.z)
        return distance

    @cached_property
    def wing(self) -> np.ndarray:
        """Iliac wing of both sides: from the sacroiliac joint over its bend to the anterior spine."""
        z = self.z
        behind = (
            course(z, ((0.0, 66.0), (20.0, 60.0), (44.0, 55.0), (92.0, 60.0), (118.0, 86.0))),
            course(z, ((0.0, -24.0), (14.0, -42.0), (34.0, -66.0), (92.0, -68.0), (118.0, -48.0))),
        )
        bend = (
            course(z, ((0.0, 84.0), (40.0, 92.0), (90.0, 112.0), (118.0, 116.0))),
            course(z, ((0.0, -4.0), (40.0, -14.0), (90.0, -24.0), (118.0, -30.0))),
        )
        ahead = (
            course(z, ((0.0, 100.0), (30.0, 110.0), (70.0, 126.0), (92.0, 132.0), (118.0, 122.0))),
            course(z, ((0.0, 30.0), (30.0, 36.0), (66.0, 40.0), (92.0, 18.0), (118.0, -22.0))),
        )
        half = course(z, ((0.0, 11.0), (20.0, 8.0), (50.0, 5.0), (100.0, 5.0), (112.0, 7.0)))
        thick = 5 * np.clip(1 - length(self.u - 58, self.y + 64) / 34, 0, 1)  # the tuberosity behind the joint
        line = np.minimum(strip(self.u, self.y, behind, bend), strip(self.u, self.y, bend, ahead))
        distance: np.ndarray = np.maximum(line - half - thick, np.maximum(-4 - z, z - 120))
        return distance

    @cached_property
    def hip(self) -> np.ndarray:
        """Acetabulum, pubis with its rami and ischium of both sides; the joint is left free."""
        u, y, z = self.u, self.y, self.z
        head = self.from_head
        cup = smooth_cut(head - 36, (u - 90) * 0.85 - (z + 22) * 0.5 - 13, 8.0)
        parts = (
            capsule(u, y, z, (70.0, 40.0, -20.0), (46.0, 54.0, -34.0), 8.5),
            capsule(u, y, z, (46.0, 54.0, -34.0), (14.0, 58.0, -44.0), 7.5),
            ellipsoid(u - 11, y - 56, z + 54, (9.5, 10.0, 20.0)),
            capsule(u, y, z, (13.0, 52.0, -68.0), (40.0, 12.0, -92.0), 6.5),
            capsule(u, y, z, (40.0, 12.0, -92.0), (56.0, -26.0, -98.0), 9.0),
            capsule(u, y, z, (74.0, -16.0, -20.0), (66.0, -32.0, -58.0), 13.0),
            capsule(u, y, z, (66.0, -32.0, -58.0), (58.0, -36.0, -92.0), 15.0),
            capsule(u, y, z, (64.0, -34.0, -24.0), (50.0, -42.0, -30.0), 4.0),
        )
        result = cup
        for part in parts:
            result = smooth_union(result, part, 5.0)
        distance: np.ndarray = np.maximum(np.maximum(result, 27.5 - head), 2.0 - u)
        return distance

    @cached_property
    def from_head(self) -> np.ndarray:
        """Distance from the middle of the femoral head."""
        return length(self.u - 90, self.y - 20, self.z + 22)

    @cached_property
    def femur(self) -> np.ndarray:
        """Head, neck, trochanters and shaft of both femora."""
        u, y, z = self.u, self.y, self.z
        parts = (
            capsule(u, y, z, (92.0, 20.0, -23.0), (134.0, 4.0, -52.0), 14.5),
            ellipsoid(u - 144, y + 6, z + 46, (15.0, 20.0, 24.0)),
            capsule(u, y, z, (138.0, 2.0, -56.0), (126.0, 12.0, -170.0), 15.0),
            capsule(u, y, z, (128.0, -4.0, -88.0), (122.0, -12.0, -94.0), 9.0),
        )
        result = self.from_head - 24
        for part in parts:
            result = smooth_union(result, part, 5.0)
        return result

    @cached_property
    def bone(self) -> np.ndarray:
        """Every bone."""
        both = np.minimum(np.minimum(self.sacrum, self.vertebrae), np.minimum(self.wing, self.hip))
        distance: np.ndarray = np.minimum(both, self.femur)
        return distance

    @cached_property
    def cavity(self) -> np.ndarray:
        """What muscle and bone enclose: fat, bowel and organs, down to the pelvic floor."""
        z = self.z
        middle = course(z, ((-80.0, 6.0), (-50.0, 6.0), (-20.0, 0.0), (20.0, -4.0), (60.0, 20.0), (130.0, 34.0)))
        wide = course(z, ((-80.0, 20.0), (-60.0, 32.0), (-30.0, 49.0), (20.0, 60.0), (60.0, 88.0), (130.0, 128.0)))
        deep = course(z, ((-80.0, 30.0), (-60.0, 44.0), (-20.0, 60.0), (20.0, 70.0), (60.0, 66.0), (130.0, 50.0)))
        distance: np.ndarray = np.maximum(oval(self.x, self.y - middle, wide, deep), FLOOR_Z - z)
        return distance

    @cached_property
    def psoas(self) -> np.ndarray:
        """Psoas and iliopsoas of both sides, from the spine over the pubis to the lesser trochanter."""
        line = ((42.0, -16.0, 150.0), (52.0, -6.0, 90.0), (72.0, 20.0, 38.0), (86.0, 46.0, -2.0), (92.0, 50.0, -26.0),
                (120.0, 8.0, -92.0))  # fmt: skip
        radii = (21.0, 20.0, 17.0, 15.0, 13.0)
        parts = [capsule(self.u, self.y, self.z, a, b, r) for a, b, r in zip(line, line[1:], radii, strict=False)]
        result = parts[0]
        for part in parts[1:]:
            result = smooth_union(result, part, 6.0)
        return result

    @cached_property
    def obturator(self) -> np.ndarray:
        """Internal obturator muscle of both sides, on the inside of the acetabulum and the obturator foramen."""
        z = self.z
        start = (course(z, ((-80.0, 44.0), (-40.0, 54.0), (10.0, 62.0))), course(z, ((-80.0, -20.0), (10.0, -26.0))))
        end = (course(z, ((-80.0, 26.0), (-40.0, 46.0), (10.0, 62.0))), course(z, ((-80.0, 34.0), (10.0, 24.0))))
        half = course(z, ((-84.0, 6.0), (-50.0, 9.0), (0.0, 7.0), (10.0, 5.0)))
        distance: np.ndarray = np.maximum(strip(self.u, self.y, start, end) - half, np.maximum(-84 - z, z - 10))
        return distance

    @cached_property
    def rectum(self) -> np.ndarray:
        """Rectum with its wall, and the anal canal."""
        r, x = self.shape.rectum, self.x
        back = self.gland_back - 1.5
        line = ((0.0, -38.0, -93.0), (0.0, back - 13, -78.0), (0.0, back - r, -56.0), (0.0, back - r - 1, -34.0),
                (0.0, -36.0, -8.0), (0.0, -45.0, 16.0), (-6.0, -28.0, 40.0))  # fmt: skip
        radii = (10.0, 12.0, r, r, r, 0.9 * r)
        parts = [capsule(x, self.y, self.z, a, b, s) for a, b, s in zip(line, line[1:], radii, strict=False)]
        result = parts[0]
        for part in parts[1:]:
            result = smooth_union(result, part, 8.0)
        return result

    @property
    def gland_back(self) -> float:
        """y of the prostate's back."""
        return 21.0 - 0.92 * self.shape.prostate

    @property
    def gland_top(self) -> float:
        """z of the prostate's base."""
        return -53.0 + 0.96 * self.shape.prostate

    @cached_property
    def prostate(self) -> np.ndarray:
        """The gland, broad at its base and narrow at its apex, also where it was removed."""
        r = self.shape.prostate
        z = self.z + 53
        wide = 1 + 0.006 * np.clip(z, -24, 24)
        return ellipsoid(self.x / wide, self.y - 21, z, (1.13 * r, 0.92 * r, 0.96 * r))

    @cached_property
    def vesicles(self) -> np.ndarray:
        """Seminal vesicles of both sides between bladder and rectum, also where they were removed."""
        top, size = self.gland_top, self.shape.vesicles
        y = self.gland_back + 5.5
        inner = capsule(self.u, self.y, self.z, (4.0, y, top - 3), (19.0, y - 2, top + 9), 7.4 * size)
        outer = capsule(self.u, self.y, self.z, (19.0, y - 2, top + 9), (34.0, y - 7, top + 15), 6.0 * size)
        return smooth_union(inner, outer, 4.0)

    @cached_property
    def bladder(self) -> np.ndarray:
        """Bladder with its wall; after prostatectomy its neck is drawn down to the pelvic floor."""
        full = self.shape.filling
        radii = (37 + 10 * full, 29 + 8 * full, 24 + 13 * full)
        low = self.gland_top - 3 - (8 if self.shape.removed else 0)
        whole = ellipsoid(self.x, self.y - 27, self.z - low - radii[2], radii)
        distance: np.ndarray
        if self.shape.removed:
            neck = capsule(self.x, self.y, self.z, (0.0, 24.0, low + 10), (0.0, 20.0, low - 14), 8.0)
            distance = np.maximum(smooth_union(whole, neck, 18.0), 2.5 - self.rectum)
        else:
            gland = np.maximum(1.0 - self.prostate, 1.5 - self.vesicles)
            distance = np.maximum(np.maximum(whole, gland), 2.5 - self.rectum)
        return distance

    @cached_property
    def from_vessels(self) -> np.ndarray:
        """Distance to the surface of the nearest iliac vessel of either side that nodes follow."""
        found = [
            capsule(self.u, self.y, self.z, a, b, radius) for radius, line in NODAL for a, b in itertools.pairwise(line)
        ]
        distance: np.ndarray = np.minimum.reduce(np.broadcast_arrays(*found))
        return distance


def landmarks(shape: Shape, grid: Grid, start: int = 0, stop: int | None = None) -> Pelvis:
    """The fields of slices `start:stop` of a grid."""
    x, y, z = (
        ((axis - np.float32(middle)) / np.float32(scale)).astype(np.float32)
        for axis, middle, scale in zip(grid.axes(start, stop), shape.origin, shape.scale, strict=True)
    )
    return Pelvis(shape, grid, x, y, z)
