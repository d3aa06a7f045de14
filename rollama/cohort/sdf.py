"""Signed distances and partial volume: the same body on any voxel grid, with the same bytes on any processor.

A phantom drawn voxel by voxel has stairs where a scanner has partial volume, and looks different at 6 mm and at 2 mm.
Here every structure is a signed distance in mm (negative inside); a voxel's HU is mixed by how much of it lies inside.

All fields are made of +, -, x, / and square roots only. Those are exactly rounded everywhere; sine, exp or power
differ in the last digit between processors, and with them the cohort's hashes would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float, float]
Fields = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Coordinates x, y, z in mm, broadcastable to one another."""


@dataclass(frozen=True)
class Grid:
    """Voxel grid centred on the origin of patient coordinates; index 0 of x is the patient's leftmost voxel."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]

    @property
    def affine(self) -> np.ndarray:
        """4x4 voxel -> mm (RAS+), float64."""
        affine: np.ndarray = np.eye(4)
        np.fill_diagonal(affine[:3, :3], self.spacing)
        affine[:3, 3] = [-(n - 1) / 2 * step for n, step in zip(self.shape, self.spacing, strict=True)]
        return affine

    @property
    def field_mm(self) -> tuple[float, float, float]:
        """Extent of the grid along each axis in mm."""
        x, y, z = (n * step for n, step in zip(self.shape, self.spacing, strict=True))
        return (x, y, z)

    @property
    def voxel_mm(self) -> float:
        """Edge of a cube of the voxel's volume, in mm."""
        return float(np.cbrt(np.prod(self.spacing)))

    def axes(self, start: int = 0, stop: int | None = None) -> Fields:
        """Open mesh of coordinates in mm, float32, shapes (X,1,1), (1,Y,1), (1,1,Z); z of slices `start:stop` only."""
        x, y, z = (
            ((np.arange(n) - (n - 1) / 2) * step).astype(np.float32)
            for n, step in zip(self.shape, self.spacing, strict=True)
        )
        return x[:, None, None], y[None, :, None], z[None, None, start:stop]


def length(*parts: np.ndarray) -> np.ndarray:
    """Euclidean length; unlike numpy.hypot of exactly rounded operations only."""
    total = parts[0] * parts[0]
    for part in parts[1:]:
        total = total + part * part
    result: np.ndarray = np.sqrt(total)
    return result


def smoothstep(t: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth between."""
    t = np.clip(t, 0.0, 1.0)
    result: np.ndarray = t * t * (3 - 2 * t)
    return result


def ellipsoid(x: np.ndarray, y: np.ndarray, z: np.ndarray, radii: Sequence[float]) -> np.ndarray:
    """First-order signed distance to an ellipsoid at the origin, negative inside (after I. Quilez)."""
    a, b, c = radii
    k0 = length(x / a, y / b, z / c)
    k1 = length(x / (a * a), y / (b * b), z / (c * c))
    distance: np.ndarray = np.where(k1 < 1e-6, -min(radii), k0 * (k0 - 1) / np.maximum(k1, 1e-6))
    return distance


def ellipse(x: np.ndarray, y: np.ndarray, radii: Sequence[float]) -> np.ndarray:
    """First-order signed distance to an ellipse at the origin, constant along z."""
    a, b = radii
    k0 = length(x / a, y / b)
    k1 = length(x / (a * a), y / (b * b))
    distance: np.ndarray = np.where(k1 < 1e-6, -min(radii), k0 * (k0 - 1) / np.maximum(k1, 1e-6))
    return distance


def capsule(x: np.ndarray, y: np.ndarray, z: np.ndarray, a: Point, b: Point, radius: float) -> np.ndarray:
    """Signed distance to a line from `a` to `b` with round ends."""
    ab = [end - start for start, end in zip(a, b, strict=True)]
    pa = (x - a[0], y - a[1], z - a[2])
    size = ab[0] * ab[0] + ab[1] * ab[1] + ab[2] * ab[2]
    along = np.clip((pa[0] * ab[0] + pa[1] * ab[1] + pa[2] * ab[2]) / max(size, 1e-6), 0.0, 1.0)
    distance: np.ndarray = length(pa[0] - ab[0] * along, pa[1] - ab[1] * along, pa[2] - ab[2] * along) - radius
    return distance


def smooth_union(a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """Union of two signed distances with a fillet of `radius` mm (polynomial smooth minimum)."""
    h = np.clip(0.5 + 0.5 * (b - a) / radius, 0, 1)
    blended: np.ndarray = b + (a - b) * h - radius * h * (1 - h)
    return blended


def inside(distance: np.ndarray, voxel_mm: float) -> np.ndarray:
    """Share of a voxel that lies inside, 0 to 1, from the distance at its centre."""
    share: np.ndarray = np.clip(0.5 - distance / voxel_mm, 0.0, 1.0)
    return share


def between(distance: np.ndarray, low: np.ndarray | float, high: np.ndarray | float, voxel_mm: float) -> np.ndarray:
    """Share of a voxel that lies in the shell `low < distance < high`, also when the shell is thinner than a voxel."""
    half = voxel_mm / 2
    overlap = np.minimum(distance + half, high) - np.maximum(distance - half, low)
    share: np.ndarray = np.clip(overlap / voxel_mm, 0.0, 1.0)
    return share


def value_noise(lattice: np.ndarray, step_mm: float, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Linear interpolation of a cubic lattice of random values, centred on the origin, on an open mesh of coordinates.

    Args:
        lattice: values (n, n, n), float32.
        step_mm: distance of lattice points.
        x: coordinates (X, 1, 1) in mm; outside the lattice its edge is continued.
        y: coordinates (1, Y, 1).
        z: coordinates (1, 1, Z).

    Returns:
        float32 (X, Y, Z).
    """
    result = lattice
    for axis, values in enumerate((x, y, z)):
        place = np.clip(values.ravel() / step_mm + (lattice.shape[axis] - 1) / 2, 0, lattice.shape[axis] - 1.001)
        low = np.floor(place).astype(int)
        shape = [1, 1, 1]
        shape[axis] = -1
        weight = (place - low).astype(np.float32).reshape(shape)
        result = np.take(result, low, axis) * (1 - weight) + np.take(result, low + 1, axis) * weight
    return result
