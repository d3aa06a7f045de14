"""The CT has the organs of a chest where they belong, in patient coordinates, with their HU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from rollama.cohort.anatomy import RIB_PITCH, RIB_TOP, Anatomy, front, landmarks
from rollama.cohort.body import Shape
from rollama.cohort.organs import lung_vessels, paint_ct
from rollama.cohort.painting import Painter, texture
from rollama.cohort.sdf import Grid
from rollama.cohort.shifts import Scanner
from rollama.data.plan import Side
from tests.cohort.conftest import GRID

FINE = Grid((160, 128, 96), (3.125, 3.125, 3.0))
SCANNER = Scanner()


@dataclass(frozen=True)
class Phantom:
    """A patient's CT without and with contrast agent."""

    body: Anatomy
    hu: np.ndarray
    contrast: np.ndarray

    def at(self, x: float, y: float, z: float, contrast: bool = False) -> float:
        """HU of the voxel nearest to a point in reference mm."""
        index = tuple(
            int(np.abs(axis.ravel() - value).argmin())
            for axis, value in zip((self.body.x, self.body.y, self.body.z), (x, y, z), strict=True)
        )
        return float((self.contrast if contrast else self.hu)[index])


@pytest.fixture(scope="module")
def phantom(make_shape: Callable[..., Shape]) -> Phantom:
    body = landmarks(make_shape(4), FINE)
    return Phantom(body, paint_ct(body, SCANNER), paint_ct(body, SCANNER.updated(contrast_hu=100.0)))


def test_both_lungs_are_full_of_air_and_the_air_around_the_patient_is_emptier(phantom: Phantom) -> None:
    body = phantom.body
    for sign in (1, -1):
        lung = (sign * body.x > 50) & (body.cage < -14) & (body.z > -20) & (body.z < 40)
        assert lung.sum() > 3000
        assert np.median(phantom.hu[lung]) == pytest.approx(-850, abs=40)
        assert (phantom.hu[lung] < -700).mean() > 0.8
    assert phantom.at(0, 150, 0) == -1000


def test_the_heart_lies_on_the_patient_s_left_at_negative_x(phantom: Phantom) -> None:
    assert phantom.at(-40, 25, -45) == pytest.approx(45, abs=10)
    assert phantom.at(58, 30, -25) < -600
    blood = (phantom.contrast - phantom.hu > 30) & (phantom.body.z < -20) & (phantom.body.z > -60)
    places = np.argwhere(blood & (phantom.body.y > -20))[:, 0]
    assert phantom.body.x.ravel()[places].mean() < -8


def test_the_liver_lies_right_below_the_lung(phantom: Phantom) -> None:
    assert phantom.at(60, 5, -80) == pytest.approx(58, abs=25)
    assert phantom.at(60, 5, -5) < -600


def test_spine_canal_and_sternum_lie_in_the_midline(phantom: Phantom) -> None:
    assert phantom.at(0, -70, 0) > 150
    assert phantom.at(0, -93 + 0.0011 * 400, 0) < 60  # canal
    assert phantom.at(0, front(0.0, 0.0) - 5, 0) > 120
    assert phantom.at(0, front(0.0, 0.0) + 25, 0) < -50  # fat before it


def test_the_trachea_is_air_in_the_upper_chest(phantom: Phantom) -> None:
    assert phantom.at(0, -29, 55) < -600
    assert phantom.at(0, -29, 0) > -200


def test_the_aorta_descends_on_the_left_and_takes_contrast(phantom: Phantom) -> None:
    place = (-26.0, -56.0, 2.0)
    assert phantom.at(*place) == pytest.approx(45, abs=15)
    assert phantom.at(*place, contrast=True) - phantom.at(*place) == pytest.approx(100, abs=20)
    mirrored = (26.0, -56.0, 2.0)
    assert phantom.at(*mirrored, contrast=True) - phantom.at(*mirrored) < 30


def test_contrast_reaches_blood_and_its_organs_only(phantom: Phantom) -> None:
    more = phantom.contrast - phantom.hu
    assert more.min() > -0.01
    assert 0.01 < (more > 50).mean() < 0.2
    bone = phantom.hu > 400
    assert more[bone].max() < 60


def test_ribs_are_bone_and_between_them_is_none(phantom: Phantom) -> None:
    body = phantom.body
    y = -20.0
    shell = (np.abs(body.cage + 5.6) < 2) & (body.u > 90) & (np.abs(body.y - y) < 6)
    k = (RIB_TOP - body.z - 0.3 * body.y) / RIB_PITCH
    off = np.broadcast_to(np.abs(k - np.rint(k)) * RIB_PITCH, body.cage.shape)
    assert phantom.hu[shell & (off < 2)].mean() > phantom.hu[shell & (off > 8)].mean() + 150


@pytest.mark.parametrize("side", Side)
def test_a_breast_is_fat_with_gland_between(phantom: Phantom, side: Side) -> None:
    body = phantom.body
    deep = (body.breast[side] < -8) & (body.skin > 12) & (body.cage > 40)
    values = phantom.hu[deep]
    assert values.size > 300
    assert -125 < values.min() < -60
    assert -110 < values.mean() < 30
    assert values.std() > 8


def test_the_skin_and_the_muscle_before_the_ribs_are_denser_than_fat(phantom: Phantom) -> None:
    body = phantom.body
    chest = (body.z < 20) & (body.z > -60) & (body.y > 10)
    rim = phantom.hu[chest & (np.abs(body.skin - 1.9) < 0.3)].mean()
    under = phantom.hu[chest & (body.skin > 6) & (body.skin < 9) & (body.cage > 25) & (body.pectoral > 6)].mean()
    assert rim > under + 40
    pectoral = phantom.hu[chest & (body.pectoral < -3)]
    assert pectoral.mean() == pytest.approx(50, abs=20)


def test_couches_differ_and_lie_behind_the_patient(make_anatomy: Callable[..., Anatomy]) -> None:
    body = make_anatomy(0)
    images = [paint_ct(body, SCANNER.updated(couch=couch)) for couch in ("flat", "curved", "thick")]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        changed = np.abs(images[one] - images[other]) > 40
        assert changed.any()
        assert not (changed & (body.skin > 10)).any()
        assert body.y.ravel()[np.argwhere(changed)[:, 1]].max() < -60


def test_texture_belongs_to_the_body_and_not_to_the_grid(make_shape: Callable[..., Shape]) -> None:
    one, other = landmarks(make_shape(0), GRID), landmarks(make_shape(1), GRID)
    field = texture(one, 17.0, "coarse")
    assert field.std() == pytest.approx(1.0, abs=0.25)
    assert abs(np.corrcoef(field.ravel(), texture(other, 17.0, "coarse").ravel())[0, 1]) < 0.1
    assert abs(np.corrcoef(field.ravel(), texture(one, 17.0, "fine").ravel())[0, 1]) < 0.1
    odd, fine = Grid((21, 21, 11), (8.0, 8.0, 8.0)), Grid((41, 41, 21), (4.0, 4.0, 4.0))
    coarse_field, fine_field = (texture(landmarks(make_shape(0), grid), 17.0, "coarse") for grid in (odd, fine))
    assert (fine_field[::2, ::2, ::2] == coarse_field).all()


def test_lung_vessels_are_the_body_s_own_and_lie_on_both_sides() -> None:
    vessels = lung_vessels(7)
    assert vessels == lung_vessels(7)
    assert vessels != lung_vessels(8)
    starts = [ends[0][0] for _, _, _, ends in vessels]
    assert min(starts) < -60
    assert max(starts) > 60
    assert max(radius for _, _, radius, _ in vessels) == 4.6


def test_the_painter_mixes_by_the_share_of_a_voxel_and_paints_nothing_outside_the_slab(
    make_shape: Callable[..., Shape],
) -> None:
    body = landmarks(make_shape(0), GRID, 10, 20)
    painter = Painter(body)
    assert (painter.hu == -1000).all()
    painter.fill(np.full((1, 1, 1), 0.25, np.float32), 200.0)
    assert np.allclose(painter.hu, -700)
    painter.ball((0.0, 0.0, 500.0), (10, 10, 10), 3000.0)
    assert np.allclose(painter.hu, -700)
    z = float(body.z.ravel()[5])
    painter.ball((40.0, 0.0, z), (20, 20, 20), 3000.0)
    i, j, k = (int(v) for v in np.unravel_index(painter.hu.argmax(), painter.hu.shape))
    assert painter.hu[i, j, k] == pytest.approx(3000)
    cc = ((painter.hu + 700) / 3700).sum() * np.prod(GRID.spacing) / np.prod(body.shape.scale)
    assert cc == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.05)
