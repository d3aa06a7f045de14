"""Mixing materials into a CT by partial volume; the couch and the random texture that bodies of all sites have."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from rollama.cohort.body import SIGN
from rollama.cohort.sdf import Point, between, capsule, ellipsoid, inside, value_noise
from rollama.cohort.shifts import Scanner
from rollama.core.seeding import numpy_generator

AIR, FAT, GLAND, MUSCLE, BLOOD, LUNG, LIVER, FLUID = -1000, -112, 30, 52, 45, -850, 58, 15
BONE, MARROW, CARTILAGE, DISC, SKIN, CLIP, SILICONE, SALINE = 720, 210, 105, 75, 20, 3000, 90, 5
"""Mean HU of tissues and materials."""


class Frame(Protocol):
    """Coordinates to paint on: open axes and the voxel size, both in reference mm."""

    @property
    def x(self) -> np.ndarray: ...
    @property
    def y(self) -> np.ndarray: ...
    @property
    def z(self) -> np.ndarray: ...
    @property
    def voxel_mm(self) -> float: ...


class Seeded(Protocol):
    """A body's shape, as far as its texture goes."""

    @property
    def seed(self) -> int: ...


class Textured(Frame, Protocol):
    """A frame of a body that has a texture of its own."""

    @property
    def shape(self) -> Seeded: ...


class Painter:
    """Mixes materials into a CT by the share of each voxel that lies inside a structure."""

    def __init__(self, body: Frame) -> None:
        self.body = body
        shape = (body.x.shape[0], body.y.shape[1], body.z.shape[2])
        self.hu = np.full(shape, AIR, np.float32)
        self.axes = [axis.ravel() for axis in (body.x, body.y, body.z)]

    def fill(self, share: np.ndarray, hu: np.ndarray | float) -> None:
        """Replace `share` (0 to 1) of each voxel by a material."""
        self.hu += share * (hu - self.hu)

    def paint(self, distance: np.ndarray, hu: np.ndarray | float) -> None:
        """Fill where a signed distance on the whole slab is negative."""
        self.fill(inside(distance, self.body.voxel_mm), hu)

    def local(
        self, low: Sequence[float], high: Sequence[float], hu: float, distance: Callable[..., np.ndarray]
    ) -> None:
        """Fill a small structure, computed within a box in reference mm only. `distance(x, y, z)` on open axes."""
        margin = 1.0 * self.body.voxel_mm
        place = []
        for axis, a, b in zip(self.axes, low, high, strict=True):
            start, stop = np.searchsorted(axis, (a - margin, b + margin))
            if start >= stop:
                return
            place.append(slice(int(start), int(stop)))
        i, j, k = place
        share = inside(distance(self.body.x[i], self.body.y[:, j], self.body.z[:, :, k]), self.body.voxel_mm)
        region = self.hu[i, j, k]
        region += share * (hu - region)

    def tube(self, points: Sequence[Point], radius: float, hu: float) -> None:
        """Fill a tube along a line of points."""
        for a, b in itertools.pairwise(points):
            low = [min(p, q) - radius for p, q in zip(a, b, strict=True)]
            high = [max(p, q) + radius for p, q in zip(a, b, strict=True)]
            self.local(low, high, hu, lambda x, y, z, a=a, b=b: capsule(x, y, z, a, b, radius))

    def tubes(self, points: Sequence[Point], radius: float, hu: float) -> None:
        """A tube on both sides; points have u in place of x."""
        for sign in SIGN.values():
            self.tube([(sign * u, y, z) for u, y, z in points], radius, hu)

    def ball(self, centre: Point, radii: Sequence[float], hu: float) -> None:
        """Fill an ellipsoid."""
        low = [c - r for c, r in zip(centre, radii, strict=True)]
        high = [c + r for c, r in zip(centre, radii, strict=True)]
        self.local(low, high, hu, lambda x, y, z: ellipsoid(x - centre[0], y - centre[1], z - centre[2], radii))


def texture(body: Textured, step_mm: float, name: str, reach_mm: float = 640.0) -> np.ndarray:
    """Smooth random field (x, y, z) of about unit variance that belongs to the body, the same on any grid.

    Args:
        body: the slab; `shape.seed` names the field.
        step_mm: distance of the random values in between which the field is linear.
        name: which of the body's fields.
        reach_mm: edge of the cube that the values fill.
    """
    count = int(reach_mm / step_mm) + 2
    lattice = numpy_generator(body.shape.seed, name).standard_normal((count, count, count), dtype=np.float32)
    return 1.6 * value_noise(lattice, step_mm, body.x, body.y, body.z)


def paint_couch(painter: Painter, scanner: Scanner, back_y: float) -> None:
    """The scanner's couch under a back that reaches down to `back_y` (reference mm): a foam core between two shells."""
    body, voxel = painter.body, painter.body.voxel_mm
    top: np.ndarray = np.asarray(back_y - 1, np.float32)
    if scanner.couch == "curved":
        top = top + (body.x / 210) * (body.x / 210) * 26
    thickness = 34.0 if scanner.couch == "thick" else 20.0
    depth, wide = top - body.y + 0 * body.z, inside(np.abs(body.x) - 220, voxel)
    painter.fill(between(depth, 0, thickness, voxel) * wide, -890)
    for low in (0.0, thickness - 2.5):
        painter.fill(between(depth, low, low + 2.5, voxel) * wide, -150)
