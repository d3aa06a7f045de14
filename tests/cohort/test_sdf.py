"""Signed distances are distances, partial volume keeps volumes, and noise belongs to places and not to voxels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rollama.cohort.sdf import (
    Grid,
    between,
    capsule,
    ellipse,
    ellipsoid,
    inside,
    length,
    smooth_union,
    smoothstep,
    value_noise,
)

FIELD_MM = 96.0
RADII = (34.0, 25.0, 20.0)


def cube(step: float) -> Grid:
    count = round(FIELD_MM / step)
    return Grid((count, count, count), (step, step, step))


def test_affine_is_ras_and_centred_on_the_origin() -> None:
    grid = Grid((80, 64, 48), (6.25, 6.0, 5.0))
    assert np.diag(grid.affine)[:3].tolist() == [6.25, 6.0, 5.0]
    assert np.allclose(grid.affine @ [39.5, 31.5, 23.5, 1], [0, 0, 0, 1])
    assert grid.field_mm == (500.0, 384.0, 240.0)
    assert grid.voxel_mm == pytest.approx((6.25 * 6.0 * 5.0) ** (1 / 3))


def test_axes_are_the_affine_s_coordinates_and_slabs_are_parts_of_them() -> None:
    grid = Grid((10, 8, 6), (2.0, 3.0, 5.0))
    x, y, z = grid.axes()
    assert [axis.shape for axis in (x, y, z)] == [(10, 1, 1), (1, 8, 1), (1, 1, 6)]
    assert (x[7, 0, 0], y[0, 2, 0], z[0, 0, 5]) == pytest.approx(tuple((grid.affine @ [7, 2, 5, 1])[:3]))
    assert grid.axes(2, 5)[2].tolist() == z[:, :, 2:5].tolist()


def test_round_primitives_are_exact_distances() -> None:
    x, y, z = cube(8.0).axes()
    radius = np.sqrt(x**2 + y**2 + z**2)
    assert np.allclose(ellipsoid(x, y, z, (30, 30, 30)), radius - 30, atol=1e-4)
    assert np.allclose(ellipse(x, y, (30, 30)), np.sqrt(x**2 + y**2) - 30, atol=1e-4)
    assert np.allclose(length(x, y, z), radius, atol=1e-4)


def test_an_ellipsoid_is_zero_on_its_surface_and_grows_at_one_mm_a_mm_there() -> None:
    rng = np.random.default_rng(0)
    direction = rng.standard_normal((3, 200))
    direction /= np.linalg.norm(direction, axis=0)
    radii = np.array(RADII)[:, None]
    surface = direction * radii
    x, y, z = surface
    assert np.abs(ellipsoid(x, y, z, RADII)).max() < 1e-9
    normal = surface / radii**2
    x, y, z = surface + 0.01 * normal / np.linalg.norm(normal, axis=0)
    assert np.allclose(ellipsoid(x, y, z, RADII), 0.01, rtol=0.01)
    zero = np.zeros(1)
    assert ellipsoid(zero, zero, zero, RADII) == [-20.0]
    assert ellipse(zero, zero, RADII[:2]) == [-25.0]


def test_a_capsule_is_the_exact_distance_to_its_line() -> None:
    x, y, z = (np.array(values) for values in ([0.0, 5.0, -7.0, 4.0], [3.0, 0.0, 0.0, 0.0], [0.0, 20.0, -4.0, 5.0]))
    found = capsule(x, y, z, (0.0, 0.0, 0.0), (0.0, 0.0, 10.0), 2.0)
    expected = [3.0, math.hypot(5, 10), math.hypot(7, 4), 4.0]
    assert np.allclose(found, np.array(expected) - 2)
    point = capsule(x, y, z, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0.0)  # a line without length is a point
    assert np.allclose(point, np.sqrt((x - 1) ** 2 + (y - 1) ** 2 + (z - 1) ** 2))


def test_a_smooth_union_fills_the_groove_only() -> None:
    a, b = np.linspace(-40, 40, 81), np.linspace(40, -40, 81)
    union = smooth_union(a, b, 12.0)
    least = np.minimum(a, b)
    assert (union <= least + 1e-9).all()
    assert union[40] == pytest.approx(least[40] - 3.0)  # a quarter of the radius, where both are equally near
    far = np.abs(a - b) >= 12
    assert np.allclose(union[far], least[far])


def test_smoothstep_goes_from_0_to_1_without_overshooting() -> None:
    t = smoothstep(np.linspace(-1, 2, 301))
    assert t[:101].max() == 0
    assert t[200:].min() == 1
    assert t[150] == pytest.approx(0.5)
    assert (np.diff(t) >= 0).all()


@pytest.mark.parametrize("step", [2.0, 4.0, 6.0])
def test_partial_volume_keeps_the_volume_of_an_ellipsoid_at_any_voxel_size(step: float) -> None:
    grid = cube(step)
    share = inside(ellipsoid(*grid.axes(), RADII), grid.voxel_mm)
    assert share.min() == 0
    assert share.max() == 1
    assert share.sum() * step**3 == pytest.approx(4 / 3 * math.pi * math.prod(RADII), rel=0.02)


@pytest.mark.parametrize("step", [2.0, 4.0, 6.0])
def test_a_shell_thinner_than_a_voxel_keeps_its_volume(step: float) -> None:
    grid = cube(step)
    share = between(ellipsoid(*grid.axes(), (36, 36, 36)), -1.5, 0.0, grid.voxel_mm)
    expected = 4 / 3 * math.pi * (36**3 - 34.5**3)
    assert share.max() <= 1.5 / step + 1e-5
    assert share.sum() * step**3 == pytest.approx(expected, rel=0.03)


def test_a_thick_shell_is_the_difference_of_two_solids() -> None:
    distance = ellipsoid(*cube(4.0).axes(), (36, 36, 36))
    shell = between(distance, -16.0, 0.0, 4.0)
    assert np.allclose(shell, inside(distance, 4.0) - inside(distance + 16, 4.0), atol=1e-5)


def test_noise_is_the_same_at_the_same_place_on_any_grid_and_slab() -> None:
    lattice = np.random.default_rng(1).standard_normal((9, 9, 9)).astype(np.float32)
    fine, coarse = Grid((31, 31, 31), (2.0, 2.0, 2.0)), Grid((15, 15, 15), (4.0, 4.0, 4.0))
    whole = value_noise(lattice, 8.0, *fine.axes())
    same = value_noise(lattice, 8.0, *coarse.axes())
    assert whole.dtype == np.float32
    assert (whole[1:-1:2, 1:-1:2, 1:-1:2] == same).all()
    assert (value_noise(lattice, 8.0, *fine.axes(7, 19)) == whole[:, :, 7:19]).all()


def test_noise_takes_the_lattice_s_values_goes_straight_between_and_continues_the_edge() -> None:
    lattice = np.random.default_rng(2).standard_normal((5, 5, 5)).astype(np.float32)
    zero = np.zeros((1, 1, 1), np.float32)

    def at(x: float) -> float:
        return float(value_noise(lattice, 10.0, np.array([[[x]]], np.float32), zero, zero)[0, 0, 0])

    assert at(0) == lattice[2, 2, 2]
    assert at(10) == pytest.approx(lattice[3, 2, 2], abs=1e-6)
    assert at(4) == pytest.approx(0.6 * lattice[2, 2, 2] + 0.4 * lattice[3, 2, 2], abs=1e-5)
    assert at(1000) == at(21) == pytest.approx(lattice[4, 2, 2], abs=0.01)
