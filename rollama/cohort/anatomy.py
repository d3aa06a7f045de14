"""A chest CT phantom: every patient another size and shape, every border a target needs visible.

Real breast CTs with contours cannot be shipped. This phantom is built from signed distances to ellipsoids and tubes
on a millimetre grid, in patient coordinates: RAS+, so +x points to the patient's RIGHT, +y to the front, +z to the
head. The patient's left breast, and most of the heart, have negative x.

The CT must not tell which side is treated: both breasts bulge unless a mastectomy, of the treated side or an old one
of the other side, took one away; there are no clips and no scars, and the two breasts differ a little at random.
Synthetic anatomy tests software and method, not clinical accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rollama.cohort.shifts import Scanner
from rollama.data.plan import Side

AIR, FAT, GLAND, MUSCLE, BLOOD, LUNG, BONE, MARROW, SKIN = -1000, -105, 25, 55, 45, -790, 520, 220, 20
"""Mean HU of tissues (bone lowered for voxels of several mm)."""

WALL_MM = 10.0
"""Thickness of the rib cage: ribs and intercostal muscle between its outer surface and the lung."""

SIGN = {Side.RIGHT: 1.0, Side.LEFT: -1.0}
"""Sign of x of a side in RAS+."""


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

    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Open mesh of coordinates in mm, float32, shapes (X,1,1), (1,Y,1), (1,1,Z)."""
        x, y, z = (
            ((np.arange(n) - (n - 1) / 2) * step).astype(np.float32)
            for n, step in zip(self.shape, self.spacing, strict=True)
        )
        return x[:, None, None], y[None, :, None], z[None, None, :]


@dataclass(frozen=True)
class Shape:
    """A patient's body, all lengths in mm. `breasts` maps a side to (u, z, width, depth, height) of its ellipsoid."""

    origin: tuple[float, float, float]
    height: float
    cage: tuple[float, float, float]
    fat: float
    pectoral: float
    sternum: float
    clavicle: float
    breasts: Mapping[Side, tuple[float, float, float, float, float]]
    mounds: Mapping[Side, bool]
    density: float
    heart: float
    dome: float


@dataclass(frozen=True)
class Anatomy:
    """The phantom and the fields that targets are defined by, each (x, y, z) or broadcastable to it.

    `u` is |distance from the midline|; `cage` and `skin` are signed distances in mm to the rib cage's outer surface
    (positive outside) and to the skin (positive inside: depth); `breast` holds each side's breast ellipsoid
    (negative inside), also where the mound is gone, because the chest wall's borders follow it.
    """

    grid: Grid
    shape: Shape
    hu: np.ndarray
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    cage: np.ndarray
    skin: np.ndarray
    pectoral: np.ndarray
    breast: Mapping[Side, np.ndarray]

    @property
    def u(self) -> np.ndarray:
        """Distance from the midline in mm."""
        distance: np.ndarray = np.abs(self.x)
        return distance


def draw_shape(rng: np.random.Generator, mounds: Mapping[Side, bool], size: float = 1.0) -> Shape:
    """Draw a patient's body.

    Args:
        rng: the case's generator for the body.
        mounds: which breasts bulge.
        size: mean size of the centre's patients (1 = average).
    """
    build = size * rng.normal(1.0, 0.035)
    width, depth, tall = rng.normal(62, 5), np.clip(rng.normal(54, 10), 36, 76), rng.normal(62, 5)
    u, z = rng.normal(76, 4), rng.normal(-38, 7)
    breasts = {}
    for side in Side:
        natural = rng.normal(1.0, 0.04, 3)  # no two breasts are alike
        breasts[side] = (
            float(u + rng.normal(0, 2)),
            float(z + rng.normal(0, 2.5)),
            float(width * natural[0]),
            float(depth * natural[1]),
            float(tall * natural[2]),
        )
    return Shape(
        origin=(float(rng.normal(0, 5)), float(rng.normal(-12, 5)), float(rng.normal(0, 6))),
        height=float(np.clip(rng.normal(1.0, 0.035), 0.92, 1.08)),
        cage=(float(126 * build), float(88 * build * rng.normal(1, 0.03)), float(125 + rng.normal(0, 3))),
        fat=float(np.clip(rng.normal(15, 4), 8, 26)),
        pectoral=float(np.clip(rng.normal(10, 1.5), 7, 14)),
        sternum=float(rng.normal(17, 1.5)),
        clavicle=float(rng.normal(84, 2.5)),
        breasts=breasts,
        mounds=dict(mounds),
        density=float(np.clip(rng.normal(0.55, 0.15), 0.3, 0.9)),
        heart=float(rng.normal(1.0, 0.06)),
        dome=float(rng.normal(-88, 8)),
    )


def build_anatomy(shape: Shape, grid: Grid, scanner: Scanner, rng: np.random.Generator) -> Anatomy:
    """Build the noise-free CT and the fields for the targets.

    Args:
        shape: the patient's body.
        grid: voxel grid.
        scanner: gives contrast agent and couch.
        rng: the case's generator for tissue texture.
    """
    ax, ay, az = grid.axes()
    x, y, z = ax - shape.origin[0], ay - shape.origin[1], (az - shape.origin[2]) / shape.height
    u = np.abs(x)
    cage_x, cage_y, cage_z = shape.cage
    cage = ellipsoid(x, y, np.maximum(z + 20, 0), (cage_x, cage_y, cage_z))
    breast = {side: _breast(shape, side, x, y, z) for side in Side}
    outside = _body(shape, x, y, z)
    for side, mound in breast.items():
        if shape.mounds[side]:
            outside = smooth_union(outside, mound, 14.0)
    skin = -outside
    pectoral = pectoral_major(shape, u, y, z, cage) & (skin > 4)

    hu = np.full(grid.shape, AIR, np.float32)
    _add_couch(hu, y + 0 * x + 0 * z, x, shape, scanner)
    hu[skin > 0] = FAT
    texture = _texture(rng, grid)
    for side, mound in breast.items():
        if shape.mounds[side]:
            gland = (mound < -2) & (skin > 5) & (cage > 8)
            share = np.clip(shape.density + 0.35 * texture, 0.15, 1.0)
            hu[gland] = (FAT + (GLAND - FAT) * share)[gland]
    _add_muscles(hu, u, y, z, cage, skin, pectoral)
    _add_cage(hu, shape, x, u, y, z, cage, texture, scanner.contrast_hu)
    _add_neck(hu, shape, u, y, z, cage, skin, scanner.contrast_hu)
    hu[(skin > 0) & (skin < 3)] = SKIN
    return Anatomy(grid, shape, hu, x, y, z, cage, skin, pectoral, breast)


def ellipsoid(x: np.ndarray, y: np.ndarray, z: np.ndarray, radii: tuple[float, float, float]) -> np.ndarray:
    """First-order signed distance to an ellipsoid at the origin, negative inside (after I. Quilez)."""
    a, b, c = radii
    k0 = np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)
    k1 = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2 + (z / c**2) ** 2)
    distance: np.ndarray = np.where(k1 < 1e-6, -min(radii), k0 * (k0 - 1) / np.maximum(k1, 1e-6))
    return distance


def smooth_union(a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """Union of two signed distances with a fillet of `radius` mm (polynomial smooth minimum)."""
    h = np.clip(0.5 + 0.5 * (b - a) / radius, 0, 1)
    blended: np.ndarray = b + (a - b) * h - radius * h * (1 - h)
    return blended


def _body(shape: Shape, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    a, b = shape.cage[0] + 16 + shape.fat, shape.cage[1] + 12 + shape.fat
    trunk = ellipsoid(x, y, np.maximum(z - 35, 0), (a, b, 115.0))
    shoulders = ellipsoid(np.abs(x) - 138, y + 22, z - 92, (66.0, 56.0, 62.0))
    neck = np.maximum(np.hypot(x, y + 20) - 56, 80 - z)
    return smooth_union(smooth_union(trunk, shoulders, 30.0), neck, 30.0)


def front(shape: Shape, u: float, z: float) -> float:
    """y in mm of the rib cage's front surface at distance `u` from the midline and height `z`."""
    a, b, c = shape.cage
    return float(b * np.sqrt(max(1 - (u / a) ** 2 - (max(z + 20, 0) / c) ** 2, 0.0)))


def _breast(shape: Shape, side: Side, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    u0, z0, width, depth, tall = shape.breasts[side]
    y0 = front(shape, u0, z0) + 8
    return ellipsoid(x - SIGN[side] * u0, y - y0, z - z0, (width, depth + 10, tall))


def minor_edges(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Medial and lateral edge (|x| in mm) of the pectoralis minor at height `z`."""
    lateral = 92 + 0.12 * (z - 40)
    return lateral - 36, lateral


def lift(z: np.ndarray) -> np.ndarray:
    """How far in mm the pectoralis major stands off the rib cage at height `z`: room for the minor and level 2."""
    t = np.clip((z - 2) / 30, 0, 1)
    gap: np.ndarray = 1 + 19 * t * t * (3 - 2 * t)
    return gap


def pectoral_major(shape: Shape, u: np.ndarray, y: np.ndarray, z: np.ndarray, cage: np.ndarray) -> np.ndarray:
    """Mask of the pectoralis major of both sides."""
    gap = lift(z)
    shell = (cage > gap) & (cage < gap + shape.pectoral)
    mask: np.ndarray = shell & (u > shape.sternum) & (u < 118) & (y > 6) & (z > -48 + 0.3 * (118 - u)) & (z < 78)
    return mask


def _texture(rng: np.random.Generator, grid: Grid) -> np.ndarray:
    """Smooth random field of about unit variance, correlated over some 15 mm, the same for any voxel size."""
    from scipy import ndimage

    coarse = rng.standard_normal((34, 28, 22)).astype(np.float32)
    zoom = [n / m for n, m in zip(grid.shape, coarse.shape, strict=True)]
    field: np.ndarray = ndimage.zoom(coarse, zoom, order=1)
    return field


def _add_couch(hu: np.ndarray, y: np.ndarray, x: np.ndarray, shape: Shape, scanner: Scanner) -> None:
    top = np.asarray(-(shape.cage[1] + 14 + shape.fat))
    if scanner.couch == "curved":
        top = top + (x / 210) ** 2 * 26 - 4
    thickness = 30 if scanner.couch == "thick" else 18
    depth = top - y
    inside = (depth > 0) & (depth < thickness) & (np.abs(x) < 225)
    hu[inside] = -880
    hu[inside & ((depth < 6) | (depth > thickness - 6))] = -250


def _add_muscles(
    hu: np.ndarray,
    u: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    cage: np.ndarray,
    skin: np.ndarray,
    pectoral: np.ndarray,
) -> None:
    hu[pectoral] = MUSCLE
    medial, lateral = minor_edges(z)
    minor = (u > medial) & (u < lateral) & (cage > 13) & (cage < 20) & (y > -12) & (z > 6) & (z < 80) & (skin > 4)
    hu[minor] = MUSCLE
    back = (cage > 0) & (cage < 14) & (y < -38) & (skin > 6)  # latissimus, trapezius and the back extensors
    hu[back] = MUSCLE
    shoulder = ellipsoid(u - 150, y + 28, z - 98, (42.0, 34.0, 44.0))
    hu[(shoulder < 0) & (skin > 8)] = MUSCLE
    hu[ellipsoid(u - 158, y + 26, z - 104, (19.0, 18.0, 20.0)) < 0] = MARROW


def _add_cage(
    hu: np.ndarray,
    shape: Shape,
    x: np.ndarray,
    u: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    cage: np.ndarray,
    texture: np.ndarray,
    contrast: float,
) -> None:
    hu[cage < 0] = MUSCLE
    slope = z - 0.35 * y  # ribs fall towards the front
    rib = (cage < -1) & (cage > -WALL_MM + 1) & (np.cos(2 * np.pi * slope / 29.0) > 0.35)
    hu[rib] = BONE
    hu[rib & (y > 30) & (u < 75)] = 110  # costal cartilage
    lung = cage < -WALL_MM
    hu[lung] = (LUNG + 45 * texture)[lung]
    mediastinum = lung & (ellipsoid(x, y - 5, 0 * z, (34.0, 90.0, 1.0)) < 0)
    hu[mediastinum] = -75
    heart = ellipsoid(x + 24, y - 22, z + 52, (58 * shape.heart, 48 * shape.heart, 52 * shape.heart))
    hu[lung & (heart < 0)] = BLOOD + contrast
    hu[lung & (np.hypot(x + 10, y - 8) < 15) & (z > -30) & (z < 45)] = BLOOD + contrast  # ascending aorta and arch
    hu[lung & (np.hypot(x + 22, y + 42) < 12) & (z < 45)] = BLOOD + contrast  # descending aorta
    hu[lung & (np.hypot(x - 20, y - 14) < 10) & (z > -20)] = BLOOD + contrast  # superior vena cava
    dome = shape.dome + np.where(x > 0, 10, -2) - (x * x + y * y) / 420
    below = lung & (z < dome)
    hu[below] = (58 + 6 * texture + 0.3 * contrast)[below]
    vessel = (np.abs(u - shape.sternum - 8) < 4) & (np.abs(cage + WALL_MM + 3) < 4) & (y > 20) & (z < 76)
    hu[vessel] = BLOOD + 60 + contrast  # internal mammary vessels
    sternum = (cage > -12) & (cage < 2) & (u < shape.sternum) & (y > 20) & (z > -62) & (z < 78)
    hu[sternum] = MARROW
    spine = np.hypot(x, y + shape.cage[1] - 20)
    np.copyto(hu, MARROW + 40, where=spine < 21)
    np.copyto(hu, 30, where=np.hypot(x, y + shape.cage[1] + 6) < 8)  # spinal canal
    hu[(np.hypot(x, y + 30) < 9) & (z > -5)] = AIR + 40  # trachea


def _add_neck(
    hu: np.ndarray,
    shape: Shape,
    u: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    cage: np.ndarray,
    skin: np.ndarray,
    contrast: float,
) -> None:
    above = (cage > 0) & (skin > 4) & (z > 70)
    hu[above & (np.hypot(u - 17, y + 2) < 7)] = BLOOD + contrast  # carotid and jugular
    hu[above & (np.hypot(u - 34, y + 34) < 14)] = MUSCLE  # scalenes
    hu[above & (ellipsoid(u, y + 62, 0 * z, (48.0, 22.0, 1.0)) < 0)] = MUSCLE  # neck extensors
    hu[above & (u < 14) & (y < 0) & (y > -24)] = GLAND + 40  # thyroid and oesophagus
    hu[above & (np.hypot(u, y + 30) < 9)] = AIR + 40
    head = front(shape, 20, 60)
    along = np.clip((u - 14) / 112, 0, 1)
    tube = np.hypot(y - (head - 38 * along), z - (shape.clavicle + 10 * along))
    hu[(tube < 7) & (u > 12) & (u < 128) & (skin > 3)] = BONE
