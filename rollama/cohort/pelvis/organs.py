"""A man's pelvis painted into a CT, from large structures to small.

HU are the cohort's own (see `rollama.cohort.painting`): fat, muscle and bone as in the chest, urine near water, gland
and rectal wall near muscle, stool mottled with gas. Nothing depends on the plan; after prostatectomy the place of the
gland holds fat, scar, the drawn-down bladder neck and a few clips.
"""

from __future__ import annotations

import numpy as np

from rollama.cohort.painting import (
    AIR,
    BLOOD,
    BONE,
    CLIP,
    DISC,
    FAT,
    MARROW,
    MUSCLE,
    SKIN,
    Painter,
    paint_couch,
    texture,
)
from rollama.cohort.pelvis.anatomy import ARTERIES, BACK_Y, VEINS, Pelvis, course
from rollama.cohort.sdf import Point, between, ellipse, ellipsoid, inside
from rollama.cohort.shifts import Scanner
from rollama.core.seeding import numpy_generator

SKIN_MM = 2.2
REACH_MM = 560.0
"""Edge of the cube that the pelvis' texture fills."""
URINE, PROSTATE, VESICLE, WALL, SCAR, STOOL, BOWEL = 6, 44, 30, 42, 5, 20, 34
"""Mean HU of pelvic organs."""


def paint_ct(body: Pelvis, scanner: Scanner) -> np.ndarray:
    """The noise-free CT of one slab.

    Args:
        body: the slab's fields.
        scanner: gives contrast agent and couch.

    Returns:
        float32 (x, y, z) in HU.
    """
    painter = Painter(body)
    coarse, fine = (texture(body, step, name, REACH_MM) for step, name in ((17.0, "coarse"), (6.0, "fine")))
    paint_couch(painter, scanner, BACK_Y)
    painter.paint(-body.skin, FAT + 6 * coarse)
    _muscles(painter, body, coarse, fine)
    painter.paint(body.cavity, FAT + 8 * coarse)
    _walls(painter, body)
    _bones(painter, body)
    _vessels(painter, scanner.contrast_hu)
    _bowel(painter, body, fine)
    _organs(painter, body, coarse, fine)
    painter.fill(between(body.skin, 0.0, SKIN_MM, body.voxel_mm), SKIN)
    return painter.hu


def _muscles(painter: Painter, body: Pelvis, coarse: np.ndarray, fine: np.ndarray) -> None:
    """Abdominal wall, gluteal and thigh muscles with the fat between them; the pelvic cavity is cut out later."""
    u, y, z, skin, fat = body.u, body.y, body.z, body.skin, body.shape.fat
    muscle = MUSCLE + 3 * coarse - 22 * np.clip(fine - 1.3, 0, 1)
    rim = fat + 6 * np.clip((-y - 40) / 40, 0, 1)
    trunk = np.maximum(ellipse(body.x, y + 6, (158.0, 96.0)), rim - skin)
    groin = np.clip((24 - z) / 40, 0, 1)  # below the inguinal ligament the midline holds fat, not muscle
    trunk = np.maximum(trunk, y - 96 + groin * (46 - 0.2 * u))
    trunk = np.maximum(trunk, -70 - z)
    thigh = np.maximum(np.maximum(ellipse(u - 104, y - 4, (62.0, 72.0)), rim - skin), z + 10)
    painter.paint(np.minimum(trunk, thigh), muscle)
    gluteal = np.maximum(np.minimum(trunk, thigh), y + 20)
    painter.fill(between(skin - rim, 25.0, 29.0, body.voxel_mm) * inside(gluteal, 6.0), FAT)  # under the maximus
    lateral = between(ellipse(u, y + 6, (158.0, 96.0)), -34.0, -31.0, body.voxel_mm)
    painter.fill(lateral * inside(np.maximum(np.abs(y) - 42, 60 - u), 6.0) * inside(-z - 50, 20.0), FAT)
    for centre, radii in (((102.0, -8.0), (30.0, 34.0)), ((118.0, 40.0), (34.0, 26.0)), ((72.0, 12.0), (26.0, 42.0))):
        ring = between(ellipse(u - centre[0], y - centre[1], radii), -1.5, 1.5, body.voxel_mm)
        painter.fill(0.4 * ring * inside(z + 62, 20.0) * inside(thigh, 3.0), FAT)  # between the thigh's muscles
    fossa = np.maximum(ellipse(u - 27, y + 50, (16.0, 36.0)), z + 46)
    painter.paint(np.maximum(fossa, 8 - skin), FAT)  # ischioanal
    natal = np.maximum(ellipse(u, y + 104, (16.0, 30.0)), 6 - skin)
    painter.paint(natal, FAT)


def _walls(painter: Painter, body: Pelvis) -> None:
    """Muscles on the inside of the ring, in front of the belly and beside the spine."""
    u, y, z, shape = body.u, body.y, body.z, body.shape
    painter.paint(np.maximum(np.maximum(body.wing - 13, -body.wing), body.cavity - 16), MUSCLE)  # iliacus
    painter.paint(body.psoas, MUSCLE)
    painter.paint(body.obturator, MUSCLE)
    painter.tubes(((36.0, -52.0, 22.0), (72.0, -50.0, 4.0), (136.0, -14.0, -22.0)), 9.0, MUSCLE)  # piriformis
    painter.tubes(((22.0, 34.0, -70.0), (22.0, -6.0, -72.0), (12.0, -34.0, -72.0)), 3.5, MUSCLE)  # levator ani
    painter.tubes(((30.0, -28.0, -56.0), (22.0, -36.0, -68.0)), 3.0, MUSCLE)
    front = course(z, ((-36.0, 66.0), (20.0, 80.0), (150.0, 85.0))) - 0.004 * u * u
    rectus = np.maximum(np.maximum(np.abs(y - front) - 5.5, np.abs(u - 21) - course(z, ((-36.0, 10.0), (60.0, 19.0)))),
                        -38 - z)  # fmt: skip
    painter.paint(rectus, MUSCLE)
    back = ellipse(u - 30, y - body.sacrum_front + 56, (27.0, 17.0))
    painter.paint(np.maximum(np.maximum(back, 24 - z), shape.fat * 0.7 - body.skin), MUSCLE)  # erector spinae
    painter.tubes(((46.0, 46.0, -52.0), (62.0, 24.0, -110.0), (84.0, 10.0, -170.0)), 17.0, MUSCLE)  # adductors
    painter.tubes(((46.0, 26.0, -66.0), (70.0, 6.0, -60.0), (120.0, -14.0, -50.0)), 10.0, MUSCLE)  # external obturator


def _bones(painter: Painter, body: Pelvis) -> None:
    voxel, x, u, y, z = body.voxel_mm, body.x, body.u, body.y, body.z
    joint = body.from_head - 28
    painter.paint(np.maximum(joint, 24 - body.from_head), MUSCLE)
    for bone, shell, marrow in (
        (np.maximum(body.sacrum, 5 - body.skin), 2.0, 150.0), (body.wing, 3.0, MARROW), (body.hip, 3.0, MARROW + 40),
    ):  # fmt: skip
        painter.paint(bone, marrow)
        painter.fill(between(bone, -shell, 0.3, voxel), BONE)
    gap = between(np.minimum(body.sacrum, body.wing + 30) - 1, 0.0, 2.0, voxel)
    painter.fill(gap * inside(body.wing - 2, voxel) * inside(np.abs(z - 40) - 30, voxel), 80)  # sacroiliac joint
    for level, away, depth in ((52.0, 25.0, -44.0), (33.0, 23.0, -60.0), (15.0, 20.0, -74.0), (-1.0, 17.0, -77.0)):
        for sign in (1.0, -1.0):
            painter.ball((sign * away, depth, level), (5.0, 8.0, 5.0), -40)  # nerves in their holes
    canal = ellipse(x, y - body.sacrum_front + 27, (10.0, 5.0))
    painter.paint(np.maximum(canal, 4 - z), 0.0)
    painter.paint(body.vertebrae, MARROW)
    painter.fill(between(body.vertebrae, -2.0, 0.5, voxel), BONE * 0.75)
    for level in (69.0, 107.0):
        disc = np.maximum(body.vertebrae, np.abs(z - level) - 5)
        painter.paint(disc, DISC)
    behind = y - body.sacrum_front
    arch = np.maximum(np.maximum(ellipse(x, behind + 42, (19.0, 13.0)), 70 - z), -body.vertebrae)
    painter.paint(arch, BONE * 0.6)
    spine = np.maximum(np.maximum(np.abs(x) - 3.5, np.abs(behind + 64) - 14), np.abs(z - 92) - 13)
    painter.paint(spine, BONE * 0.6)
    painter.paint(np.maximum(np.maximum(u - 40, np.abs(behind + 32) - 4), np.abs(z - 92) - 7), BONE * 0.6)
    painter.paint(np.maximum(ellipse(x, behind + 42, (11.0, 8.5)), 66 - z), 10.0)  # dural sac
    painter.paint(np.maximum(np.maximum(u - 2.5, np.abs(y - 56) - 9), np.abs(z + 54) - 19), 90)  # symphysis
    painter.paint(body.femur, MARROW + 80 * inside(body.from_head - 22, 6.0))
    painter.fill(between(body.femur, -2.0, 0.3, voxel), BONE)
    shaft = inside(z + 66, 20.0)
    painter.fill(between(body.femur, -6.5, 0.3, voxel) * shaft, BONE + 380)
    painter.fill(inside(body.femur + 7, voxel) * shaft, -30)


def _vessels(painter: Painter, contrast: float) -> None:
    for radius, line in ARTERIES:
        painter.tubes(line, radius + 1.0, FAT)
        painter.tubes(line, radius, BLOOD + contrast)
    for radius, line in VEINS:
        painter.tubes(line, radius, BLOOD + 0.8 * contrast)
    painter.tube(((0.0, 13.0, 116.0), (0.0, 16.0, 170.0)), 9.0, BLOOD + contrast)  # aorta
    painter.tube(((14.0, -2.0, 108.0), (22.0, 10.0, 170.0)), 10.5, BLOOD + 0.8 * contrast)  # inferior vena cava


def _bowel(painter: Painter, body: Pelvis, fine: np.ndarray) -> None:
    """Loops in the abdomen and the sigmoid; none comes near the iliac vessels or the bladder."""
    rng = numpy_generator(body.shape.seed, "bowel")
    loops: list[tuple[Point, float, bool]] = []
    for _ in range(26):
        z = rng.uniform(34, 150)
        wide = 40 + 0.55 * (z - 30)
        place = (float(rng.uniform(-wide, wide)), float(rng.uniform(18, 66)), float(z))
        loops.append((place, float(rng.uniform(11, 17)), bool(rng.random() < 0.4)))
    room = np.maximum(body.cavity + 3, np.maximum(10 - body.from_vessels, 4 - body.bladder))
    room = np.maximum(room, np.maximum(2 - body.psoas, 4 - body.bone))
    field, air = np.full(room.shape, 1e3, np.float32), np.full(room.shape, 1e3, np.float32)
    for (x, y, z), radius, gas in loops:
        field = np.minimum(field, ellipsoid(body.x - x, body.y - y, body.z - z, (1.35 * radius, radius, radius)))
        if gas:
            bubble = ellipsoid(body.x - x, body.y - y, body.z - z, (1.2 * radius - 3, radius - 4, radius - 4))
            air = np.minimum(air, np.maximum(bubble, y + 2 - body.y))
    sigmoid = ((-6.0, -28.0, 40.0), (-26.0, 0.0, 50.0), (-66.0, 22.0, 66.0), (-104.0, 20.0, 110.0),
               (-108.0, 10.0, 160.0))  # fmt: skip
    right = ((84.0, 24.0, 74.0), (108.0, 14.0, 160.0))
    loops_hu = BOWEL + 7 * np.clip(fine, -2, 2)
    painter.paint(np.maximum(field, room), loops_hu)
    painter.paint(np.maximum(np.maximum(air, room + 3), field + 2.5), AIR + 60)
    for line, radius in ((sigmoid, 12.0), (right, 21.0)):
        painter.tube(line, radius, WALL)
        painter.tube(line, radius - 3, STOOL - 60)
    painter.tube(right, 9.0, -500)


def _organs(painter: Painter, body: Pelvis, coarse: np.ndarray, fine: np.ndarray) -> None:
    shape = body.shape
    painter.paint(body.rectum, WALL)
    lumen = np.maximum(body.rectum + 3.5, -72 - body.z)
    stool = STOOL + 10 * coarse - 60 * np.clip(fine - 0.6, 0, 1.5)
    painter.paint(lumen, stool)
    # Gas rises: it fills the front of the lumen, the more the lower its level lies.
    level = course_of_rectum(body) + shape.rectum * (1.0 - 1.1 * shape.gas)
    painter.paint(np.maximum(lumen + 0.5, level - body.y), AIR + 40)
    painter.paint(body.bladder, WALL)
    painter.paint(body.bladder + 3.5, URINE + 2 * coarse)
    painter.ball((0.0, 18.0, -92.0), (12.0, 14.0, 10.0), MUSCLE)  # penile bulb
    for sign in (1.0, -1.0):
        painter.tube(((sign * 26.0, 6.0, -92.0), (sign * 6.0, 54.0, -84.0)), 6.0, MUSCLE)  # crura
    painter.tube(((0.0, 54.0, -84.0), (0.0, 72.0, -92.0), (0.0, 92.0, -126.0)), 14.0, MUSCLE - 8)
    if shape.removed:
        place = np.minimum(body.prostate + 4, body.vesicles + 3)
        place = np.maximum(place, np.maximum(0.5 - body.bladder, 0.5 - body.rectum))
        painter.fill(inside(place, 6.0) * np.clip(0.55 + 0.3 * fine, 0.1, 0.9), SCAR + 20)
        painter.tube(((0.0, 20.0, -62.0), (0.0, 17.0, -84.0)), 6.5, WALL)  # anastomosis and urethra
        for sign, y, z in ((1.0, 8.0, -40.0), (-1.0, 10.0, -46.0), (1.0, 14.0, -62.0), (-1.0, 2.0, -32.0)):
            painter.ball((sign * 20.0, y, z), (1.4, 1.4, 1.8), CLIP * 0.6)
        return
    painter.paint(body.vesicles, VESICLE + 5 * fine)
    painter.paint(body.prostate, PROSTATE + 4 * coarse + 3 * fine)
    painter.tube(((0.0, 17.0, -74.0), (0.0, 17.0, -84.0)), 6.0, WALL)
    if shape.calcified:
        for x, z in ((3.0, -50.0), (-4.0, -54.0), (1.0, -58.0)):
            painter.ball((x, 19.0, z), (1.6, 1.2, 1.6), 420)


def course_of_rectum(body: Pelvis) -> np.ndarray:
    """y of the middle of the rectum at each height."""
    middle = body.gland_back - 1.5 - body.shape.rectum
    return course(
        body.z, ((-93.0, -38.0), (-78.0, middle), (-34.0, middle - 1), (-8.0, -36.0), (16.0, -45.0), (40.0, -28.0))
    )
