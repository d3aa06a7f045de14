"""The phantom looks like a chest CT in the right coordinates, and does not betray the side."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from rollama.cohort.anatomy import Anatomy, Grid, Shape, draw_shape
from rollama.core.seeding import numpy_generator
from rollama.data.plan import Side

GRID = Grid((80, 64, 48), (6.0, 6.0, 6.0))
BOTH = {Side.LEFT: True, Side.RIGHT: True}


def at(phantom: Anatomy, x: float, y: float, z: float) -> float:
    """HU at a point given relative to the body's own origin."""
    point = np.array([x, y, z]) + phantom.shape.origin
    index = np.rint((point - phantom.grid.affine[:3, 3]) / phantom.grid.spacing).astype(int)
    return float(phantom.hu[tuple(index)])


def breast_volume(phantom: Anatomy, side: Side) -> float:
    right = phantom.x > 0 if side is Side.RIGHT else phantom.x < 0
    bulge = right & (phantom.skin > 0) & (phantom.cage > 35) & (phantom.z < 20)
    return float(bulge.sum() * np.prod(phantom.grid.spacing) / 1000)


def test_affine_is_ras_and_centred() -> None:
    affine = GRID.affine
    assert np.allclose(np.diag(affine)[:3], 6.0)
    middle = affine @ [39.5, 31.5, 23.5, 1]
    assert np.allclose(middle[:3], 0)


def test_organs_lie_where_they_should(make_anatomy: Callable[..., Anatomy]) -> None:
    phantom = make_anatomy()
    assert at(phantom, 85, 0, 0) == pytest.approx(-790, abs=200)  # right lung
    assert at(phantom, -85, 0, 10) == pytest.approx(-790, abs=200)  # left lung
    assert at(phantom, -40, 22, -52) == pytest.approx(45, abs=10)  # heart: patient's left, negative x in RAS+
    assert at(phantom, 60, 22, -52) < -500  # no heart there on the right
    assert at(phantom, 0, -phantom.shape.cage[1] + 20, 0) > 150  # spine at the back
    assert at(phantom, 0, phantom.shape.cage[1] - 3, -20) > 150  # sternum in front
    assert at(phantom, 0, 170, 0) == -1000  # air before the patient


def test_a_missing_mound_is_missing(make_anatomy: Callable[..., Anatomy]) -> None:
    both, one = make_anatomy(1), make_anatomy(1, {Side.LEFT: True, Side.RIGHT: False})
    assert breast_volume(one, Side.RIGHT) < 0.3 * breast_volume(both, Side.RIGHT)
    assert breast_volume(one, Side.LEFT) == pytest.approx(breast_volume(both, Side.LEFT), rel=0.02)


def test_asymmetry_is_random_and_not_of_one_side() -> None:
    shapes: list[Shape] = [draw_shape(numpy_generator("sides", n), BOTH) for n in range(300)]
    larger = [s.breasts[Side.LEFT][3] > s.breasts[Side.RIGHT][3] for s in shapes]
    assert 0.4 < np.mean(larger) < 0.6
    ratio = [s.breasts[Side.LEFT][3] / s.breasts[Side.RIGHT][3] for s in shapes]
    assert 0.02 < np.std(ratio) < 0.1


def test_patients_differ_and_fit_the_grid(make_anatomy: Callable[..., Anatomy]) -> None:
    volumes = []
    for number in range(12):
        phantom = make_anatomy(number)
        inside = phantom.skin > 0
        assert not inside[0].any()
        assert not inside[-1].any()
        assert not inside[:, -1].any()
        volumes.append(breast_volume(phantom, Side.LEFT))
    assert max(volumes) > 1.3 * min(volumes)


def test_the_field_is_the_same_in_any_voxel_size(make_anatomy: Callable[..., Anatomy]) -> None:
    coarse, fine = make_anatomy(3), make_anatomy(3, grid=Grid((160, 128, 96), (3.0, 3.0, 3.0)))
    assert (fine.skin > 0).sum() / 8 == pytest.approx((coarse.skin > 0).sum(), rel=0.02)
