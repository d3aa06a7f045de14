"""The CT's grey values: organs painted into the phantom in the order from large to small.

A picture that a radiation oncologist recognises needs more than the target's borders: lungs with vessels, heart and
great vessels, a spine with canal and processes, ribs that slope, shoulder girdle, muscles, breasts with gland and fat.
HU are those of real chest CTs (lung, fat and muscle measured on the two chest CTs of the package pyradiomics: see
docs/results/cohort.md); bone and contrast after textbooks.
"""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np

from rollama.cohort.anatomy import (
    RIB_SLOPE,
    WALL_MM,
    Anatomy,
    front,
    jugular,
    mammary_u,
    rib_distance,
    vein_of_axilla,
)
from rollama.cohort.body import SIGN, Shape
from rollama.cohort.facts import Mound
from rollama.cohort.painting import (
    AIR,
    BLOOD,
    BONE,
    CARTILAGE,
    DISC,
    FAT,
    GLAND,
    LIVER,
    LUNG,
    MARROW,
    MUSCLE,
    SALINE,
    SILICONE,
    SKIN,
    Painter,
    paint_couch,
    texture,
)
from rollama.cohort.sdf import Fields, Point, between, capsule, ellipse, ellipsoid, inside, length
from rollama.cohort.shifts import Scanner
from rollama.cohort.surgery import paint_marks, paint_streaks, scar
from rollama.core.seeding import numpy_generator
from rollama.data.plan import Side

SKIN_MM = 2.2
HEART_MM = (59.0, 44.0, 40.5)
"""Half axes of the heart: 440 cc."""


def paint_ct(body: Anatomy, scanner: Scanner) -> np.ndarray:
    """The noise-free CT of one slab.

    Args:
        body: the slab's fields.
        scanner: gives contrast agent and couch.

    Returns:
        float32 (x, y, z) in HU.
    """
    painter = Painter(body)
    coarse, fine = texture(body, 17.0, "coarse"), texture(body, 6.0, "fine")
    paint_couch(painter, scanner, -24 - (110 + 0.9 * (12 + body.shape.fat)))
    painter.paint(-body.skin, FAT + 6 * coarse)
    _breasts(painter, body, coarse, fine)
    _muscles(painter, body)
    _chest(painter, body, scanner.contrast_hu, coarse, fine)
    _spine(painter, body)
    _bones(painter, body)
    _neck(painter, body, scanner.contrast_hu)
    paint_marks(painter, body)
    painter.fill(between(body.skin, 0.0, SKIN_MM + scar(body), body.voxel_mm), SKIN)
    if scanner.metal:
        paint_streaks(painter, body)
    return painter.hu


def _breasts(painter: Painter, body: Anatomy, coarse: np.ndarray, fine: np.ndarray) -> None:
    shape = body.shape
    for side in Side:
        kind = shape.visible.mounds[side]
        if kind is Mound.NATURAL:
            share = np.clip(1.5 * (shape.density - 0.5) + 0.45 + 0.5 * coarse + 0.35 * fine, 0.03, 1.0)
            deep = np.maximum(body.breast[side] + 9, 8 - body.skin)
            cone = inside(np.maximum(deep, 4 - body.cage), 2 * body.voxel_mm)
            painter.fill(cone * share, GLAND)
            breast = shape.breasts[side]
            out = breast.projection + 4
            y = front(breast.u, breast.z) + 4 + out
            tip = (SIGN[side] * (breast.u + breast.lean * out), y, breast.z - breast.droop * out)
            painter.ball(tip, (5, 6, 5), SKIN)
        elif kind is not Mound.FLAT:
            painter.paint(body.implant[side], SILICONE if kind is Mound.IMPLANT else SALINE)


def _muscles(painter: Painter, body: Anatomy) -> None:
    u, y, z = body.u, body.y, body.z
    cage = body.cage
    back = np.maximum(np.maximum(cage - 13, -cage), y + 34 + 0.25 * z)
    painter.paint(np.maximum(back, 5 - body.skin), MUSCLE)  # latissimus, rhomboids, trapezius
    serratus = np.maximum(np.maximum(cage - 5, -cage), np.maximum(u * -1 + 78, z - 60))
    painter.paint(np.maximum(serratus, 4 - body.skin), MUSCLE)
    painter.tubes(((34.0, -104.0, -160.0), (30.0, -104.0, 40.0), (26.0, -84.0, 160.0)), 17.0, MUSCLE)
    painter.tubes(((122.0, -62.0, 6.0), (138.0, -52.0, 40.0), (166.0, -34.0, 96.0)), 11.0, MUSCLE)
    painter.tubes(((96.0, -62.0, 30.0), (150.0, -38.0, 92.0)), 17.0, MUSCLE)  # subscapularis and teres
    arms = body.shape.arms
    painter.tubes(((158.0, -22.0, 100.0), (204.0 + arms, -20.0, 190.0)), 30.0, MUSCLE)
    painter.tubes(((124.0, -30.0, 108.0), (168.0, -30.0, 116.0)), 24.0, MUSCLE)  # deltoid, supraspinatus
    painter.paint(np.maximum(body.pectoral, 4 - body.skin), MUSCLE)
    painter.paint(np.maximum(body.minor, 4 - body.skin), MUSCLE)


def _chest(painter: Painter, body: Anatomy, contrast: float, coarse: np.ndarray, fine: np.ndarray) -> None:
    shape = body.shape
    x, y, z, cage = body.x, body.y, body.z, body.cage
    painter.paint(cage, MUSCLE)
    lung = cage + WALL_MM
    painter.paint(lung, LUNG + 22 * coarse + 14 * fine + 25 * np.clip(-y / 80, -1, 1))  # denser where it hangs
    for low, high, radius, points in lung_vessels(shape.seed):
        painter.local(low, high, BLOOD + contrast, lambda x, y, z, p=points, r=radius: capsule(x, y, z, p[0], p[1], r))
    dome = _diaphragm(shape, x, y)
    below = np.maximum(lung, z - dome)
    painter.paint(below, np.where(x > -30, LIVER + 0.3 * contrast, 42.0) + 5 * coarse)
    painter.paint(
        np.maximum(below + 5, ellipsoid(x + 78, y - 18, z + 150, (42.0, 40.0, 46.0))), -850
    )  # gas in the stomach
    half = 25 + 0.10 * np.clip(z, -60, 90) - 0.0016 * np.clip(y, 0, 90) * np.clip(y, 0, 90)
    middle = np.maximum(np.maximum(body.u - half, lung - 1), dome - z)
    painter.paint(middle, -92 + 8 * coarse)  # mediastinal fat
    _heart(painter, body, contrast)
    blood = BLOOD + contrast
    painter.tube(((14, 14, -12), (15, 13, 42), (8, 4, 52)), 15.0, blood)  # ascending aorta
    painter.tube(((8, 4, 52), (-14, -24, 52), (-24, -48, 42)), 13.0, blood)  # arch
    painter.tube(((-24, -48, 42), (-26, -56, 0), (-22, -56, -160)), 11.5, blood)  # descending aorta
    painter.tube(((-14, 22, -6), (-20, 12, 26)), 13.5, blood)  # pulmonary trunk
    painter.tube(((-18, 6, 24), (20, -6, 20), (44, -16, 10)), 10.0, blood)
    painter.tube(((-20, 8, 26), (-44, -20, 18)), 9.5, blood)
    painter.tube(((30, 2, -8), (29, 4, 62)), 9.0, blood)  # superior vena cava
    painter.tube(((29, 4, 62), (30, 14, 72)), 7.0, blood)
    painter.tube(((29, 4, 60), (-4, 26, 66), (-30, 14, 72)), 6.5, blood)  # left brachiocephalic vein
    for end in ((18, -10, 78), (-12, -16, 80), (-22, -28, 80)):
        painter.tube(((0, -6, 56), end), 5.0, blood)
    painter.tube(((0, -24, 78), (0, -35, 26)), 8.5, AIR + 30)  # trachea
    painter.tube(((0, -35, 26), (26, -36, 4), (48, -34, -10)), 6.5, AIR + 60)
    painter.tube(((0, -35, 26), (-30, -36, 0), (-50, -34, -16)), 6.0, AIR + 60)
    painter.tube(((-3, -46, 90), (-4, -50, 0), (-10, -44, -160)), 7.5, 40)  # oesophagus
    painter.tube(((-3, -46, 60), (-4, -50, 0)), 2.0, -300)


def _diaphragm(shape: Shape, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Height of the diaphragm in mm: a dome under each lung, the left one lower."""
    right = -44 - ((x - 62) * (x - 62) + (y - 8) * (y - 8)) / 175
    left = -57 - ((x + 62) * (x + 62) + (y - 4) * (y - 4)) / 175
    height: np.ndarray = np.maximum(np.maximum(right, left), -150) + shape.dome
    return height


def _heart(painter: Painter, body: Anatomy, contrast: float) -> None:
    shape = body.shape
    centre = (-20.0, 16.0, -34.0 + 0.5 * shape.dome)
    rows = _axes_of_heart()
    radii = [shape.heart * r for r in HEART_MM]

    def local(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> Fields:
        p = (x - centre[0], y - centre[1], z - centre[2])
        first, second, third = (a * p[0] + b * p[1] + c * p[2] for a, b, c in rows)
        return first, second, third

    low, high = [c - 70 for c in centre], [c + 70 for c in centre]
    painter.local(low, high, -88, lambda x, y, z: ellipsoid(*local(x, y, z), [r + 3 for r in radii]))  # pericardial fat
    painter.local(low, high, BLOOD + 0.55 * contrast, lambda x, y, z: ellipsoid(*local(x, y, z), radii))
    if contrast:
        for shift, size in ((-16.0, 0.5), (14.0, 0.46)):  # the chambers stand out from the muscle

            def chamber(x: np.ndarray, y: np.ndarray, z: np.ndarray, s: float = shift, r: float = size) -> np.ndarray:
                a, b, c = local(x, y, z)
                return ellipsoid(a + 4, b - s, c, [q * r for q in radii])

            painter.local(low, high, BLOOD + contrast, chamber)
    for start, end in (((-6, 40, -8), (-52, 52, -58)), ((16, 34, -14), (28, 26, -58))):  # coronary vessels in fat
        painter.tube((start, end), 5.0, -70)
        painter.tube((start, end), 1.8, BLOOD + contrast)


@cache
def _axes_of_heart() -> tuple[Point, ...]:
    """Orthonormal rows: the long axis points to the patient's left, front and feet."""
    long = np.array([-0.72, 0.50, -0.48])
    across = np.cross(long, [0.2, 0.3, 0.93])
    rows = [v / np.sqrt(v @ v) for v in (long, across, np.cross(long, across))]
    return tuple((float(a), float(b), float(c)) for a, b, c in rows)


@lru_cache(maxsize=8)
def lung_vessels(seed: int) -> tuple[tuple[Point, Point, float, tuple[Point, Point]], ...]:
    """Branching vessels of both lungs: lower and upper corner of a box, radius, two ends."""
    rng = numpy_generator(seed, "vessels")
    found = []

    def branch(start: np.ndarray, towards: np.ndarray, reach: float, radius: float, depth: int) -> None:
        end = start + towards * reach
        a, b = (tuple(float(v) for v in p) for p in (start, end))
        low = tuple(min(p, q) - radius for p, q in zip(a, b, strict=True))
        high = tuple(max(p, q) + radius for p, q in zip(a, b, strict=True))
        found.append((low, high, radius, (a, b)))
        if depth == 0:
            return
        for _ in range(3 if depth > 1 else 2):
            turned = towards + 0.75 * rng.standard_normal(3)
            branch(end, turned / np.sqrt(turned @ turned), reach * rng.uniform(0.6, 0.85), 0.62 * radius, depth - 1)

    for sign in (1.0, -1.0):
        for angle in range(6):
            away = np.array([sign * 0.9, 0.0, 0.0]) + 0.8 * rng.standard_normal(3) + [0, 0, 0.5 * (angle - 2.5) / 2.5]
            away[0] = sign * abs(away[0])
            branch(np.array([sign * 42.0, -16.0, 6.0]), away / np.sqrt(away @ away), 26.0, 4.6, 3)
    return tuple(found)  # type: ignore[arg-type]


def _spine(painter: Painter, body: Anatomy) -> None:
    voxel = body.voxel_mm
    x, z = body.x, body.z
    y = body.y - (-70 + 0.0011 * (z + 20) * (z + 20))
    block = z / 23.0
    phase = np.abs(block - np.rint(block)) * 23.0  # 0 in the middle of a vertebra, 11.5 in the disc
    vertebra = ellipse(x, y, (17.0, 14.5))
    disc = inside(vertebra, voxel) * inside(8.6 - phase, 1.5)
    painter.paint(vertebra, np.where(phase > 7.4, BONE * 0.6, MARROW) + 0 * x)
    painter.fill(between(vertebra, -2.0, 0.5, voxel), BONE * 0.75)
    painter.fill(disc, DISC)
    arch = np.maximum(ellipse(x, y + 24, (15.0, 12.0)), phase - 9.5)
    painter.paint(arch, BONE * 0.7)
    spine = np.maximum(np.maximum(np.abs(x) - 3.2, np.abs(y + 48) - 15), phase - 7.0)
    painter.paint(spine, BONE * 0.7)
    wings = np.maximum(capsule(np.abs(x), y, 0 * z, (10.0, -24.0, 0.0), (34.0, -30.0, 0.0), 5.0), phase - 5.0)
    painter.paint(wings, BONE * 0.65)
    painter.paint(ellipse(x, y + 23, (9.0, 8.0)), 0.0)  # canal
    painter.paint(ellipse(x, y + 23, (5.0, 4.2)), 38.0)  # cord


def _bones(painter: Painter, body: Anatomy) -> None:
    shape = body.shape
    u, y, z, cage = body.u, body.y, body.z, body.cage
    across = rib_distance(y, z) * (1.0 / np.sqrt(1 + RIB_SLOPE * RIB_SLOPE))
    rib = length((cage + 5.6) * 1.35, across) - 5.8
    rib = np.maximum(rib, 18 - u)
    in_front = inside(u - 62, 10.0) * inside(38 - y, 10.0)  # the front ends are cartilage
    painter.paint(rib, BONE + (CARTILAGE - BONE) * in_front)
    marrow = length((cage + 5.6) * 1.35, across) - 3.0
    painter.paint(np.maximum(marrow, 18 - u), MARROW + (CARTILAGE - MARROW) * in_front)
    width = shape.sternum + 11 * np.clip((z - 34) / 12, 0, 1) - 8 * np.clip((-66 - z) / 10, 0, 1)
    sternum = np.maximum(np.maximum(u - width, np.abs(cage + 5) - 6.5), np.maximum(z - 66, -84 - z))
    sternum = np.maximum(sternum, 18 - y)
    painter.paint(sternum, BONE * 0.7)
    painter.paint(sternum + 2.2, MARROW - 60)
    vessels = length(np.abs(u - mammary_u(shape)) - 2.6, cage + WALL_MM + 1.5) - 1.8
    painter.paint(np.maximum(np.maximum(vessels, 18 - y), np.maximum(z - 70, -90 - z)), BLOOD + 40)
    head = front(16.0, 64.0) + 2
    line = ((16.0, head, shape.clavicle), (58.0, head + 6, shape.clavicle + 8), (104.0, -2.0, shape.clavicle + 24),
            (150.0, -22.0, shape.clavicle + 44))  # fmt: skip
    painter.tubes(line, 6.2, BONE)
    painter.tubes(line, 3.2, MARROW)
    plate = np.maximum(np.abs(cage - 15) - 2.6, np.maximum(y + 26 + 0.35 * (u - 60), 44 - u))
    plate = np.maximum(plate, np.maximum(-34 + 0.4 * (u - 60) - z, z - 96))
    painter.paint(plate, BONE * 0.8)  # scapula
    painter.tubes(((104.0, -66.0, 74.0), (146.0, -34.0, 104.0)), 6.0, BONE * 0.75)
    painter.tubes(((112.0, -10.0, 92.0), (132.0, -24.0, 100.0)), 5.0, BONE * 0.8)  # coracoid
    arm = (204.0 + shape.arms, -20.0, 190.0)
    for radius, hu in ((21.0, BONE * 0.75), (18.0, MARROW)):
        for sign in SIGN.values():
            painter.ball((sign * 158.0, -22.0, 102.0), (radius, radius, radius), hu)
    painter.tubes(((162.0, -22.0, 108.0), arm), 11.0, BONE)
    painter.tubes(((162.0, -22.0, 108.0), arm), 6.0, -40)


def _neck(painter: Painter, body: Anatomy, contrast: float) -> None:
    blood = BLOOD + contrast
    u, y, z = body.u, body.y, body.z
    above = np.maximum(74 - z, 5 - body.skin)
    painter.paint(np.maximum(above, ellipse(u, y + 78, (44.0, 24.0))), MUSCLE)  # extensors
    ju, jy = jugular(z)
    painter.paint(np.maximum(length(u - ju, y - jy) - 6.0, 72 - z), blood)
    painter.paint(np.maximum(length(u - ju + 10, y - jy + 5) - 3.6, 76 - z), blood)  # carotid
    painter.tubes(((46.0, -22.0, 74.0), (28.0, -42.0, 180.0)), 7.5, MUSCLE)  # scalenes
    painter.tubes(((16.0, 26.0, 74.0), (34.0, 2.0, 112.0), (44.0, -40.0, 180.0)), 7.5, MUSCLE)  # sternocleidomastoid
    painter.tubes(vein_of_axilla(), 5.0, blood)
    painter.tubes([(p[0], p[1] - 11, p[2] + 9) for p in vein_of_axilla()[1:]], 4.0, blood)
    painter.tubes(((14.0, -2.0, 92.0), (17.0, -10.0, 122.0)), 8.0, 95 + 0.5 * contrast)  # thyroid
    painter.tube(((0, -12, 150), (0, -14, 110), (0, -24, 76)), 12.0, CARTILAGE - 30)
    painter.tube(((0, -12, 150), (0, -14, 110), (0, -24, 76)), 8.5, AIR + 30)
    painter.tube(((-3, -34, 150), (-3, -46, 88)), 7.0, 45)
