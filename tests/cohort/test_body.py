"""Drawn bodies are possible, differ, have no preferred side, and do not depend on what surgery left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from rollama.cohort.body import Shape, check_shape, draw_shape, seen_as
from rollama.cohort.facts import Mound, Site, Visible
from rollama.core.errors import DataError
from rollama.core.seeding import numpy_generator
from rollama.data.plan import Side
from tests.cohort.conftest import NOTHING, PLAIN

FLAT = Visible(mounds={Side.LEFT: Mound.FLAT, Side.RIGHT: Mound.NATURAL}, clips=NOTHING, seroma=NOTHING)


@pytest.mark.parametrize("size", [0.97, 1.0, 1.02])
def test_every_drawn_body_is_possible(size: float) -> None:
    for number in range(300):
        check_shape(draw_shape(numpy_generator("possible", number), PLAIN, size))


def test_the_two_breasts_differ_at_random_and_neither_side_is_larger() -> None:
    shapes = [draw_shape(numpy_generator("sides", n), PLAIN) for n in range(400)]
    for name in ("projection", "width", "height", "u", "z", "droop", "lean"):
        left, right = (np.array([getattr(s.breasts[side], name) for s in shapes]) for side in Side)
        assert 0.42 < (left > right).mean() < 0.58, name
        assert abs((left - right).mean()) < 0.15 * (left - right).std(), name
    ratio = [s.breasts[Side.LEFT].projection / s.breasts[Side.RIGHT].projection for s in shapes]
    assert 0.02 < np.std(ratio) < 0.1


def test_what_surgery_left_changes_no_draw(make_shape: Callable[..., Shape]) -> None:
    assert make_shape(3, FLAT) == seen_as(make_shape(3, PLAIN), FLAT)
    assert make_shape(3, FLAT) != make_shape(3, PLAIN)


def test_patients_differ_and_the_same_patient_does_not(make_shape: Callable[..., Shape]) -> None:
    assert make_shape(1) == make_shape(1)
    scales = np.array([make_shape(number).scale for number in range(100)])
    assert (scales.std(axis=0) > 0.02).all()
    assert len({make_shape(number).seed for number in range(100)}) == 100


def test_a_centre_of_larger_patients_has_larger_patients() -> None:
    small, large = (
        np.mean([draw_shape(numpy_generator("size", n), PLAIN, size).scale for n in range(100)], axis=0)
        for size in (0.95, 1.05)
    )
    assert (large / small)[:2] == pytest.approx([1.05 / 0.95] * 2)  # broader and deeper, not longer
    assert large[2] == small[2]


def test_beds_lie_in_their_quadrant(make_shape: Callable[..., Shape]) -> None:
    outwards = {site: [] for site in Site}  # type: dict[Site, list[float]]
    upwards = {site: [] for site in Site}  # type: dict[Site, list[float]]
    for number in range(60):
        shape = make_shape(number)
        for side, breast in shape.breasts.items():
            for site, bed in shape.beds[side].items():
                outwards[site].append(bed.u - breast.u)
                upwards[site].append(bed.z - breast.z)
                assert 0 < bed.out < breast.projection
                assert 9 <= bed.radius <= 14
    for site, (out, up) in {
        Site.UPPER_OUTER: (1, 1), Site.LOWER_OUTER: (1, -1), Site.UPPER_INNER: (-1, 1), Site.LOWER_INNER: (-1, -1),
    }.items():  # fmt: skip
        assert (np.array(outwards[site]) * out > 0).all()
        assert (np.array(upwards[site]) * up > 0).all()
    assert np.abs(outwards[Site.CENTRAL]).max() < 15


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fat": 90.0}, r"fat \(mm\) is 90; accepted: 3 to 60"),
        ({"pectoral": -1.0}, r"pectoral \(mm\) is -1; accepted: 3 to 20"),
        ({"sternum": 40.0}, r"sternum \(half width, mm\) is 40"),
        ({"clavicle": 20.0}, r"clavicle \(z, mm\) is 20"),
        ({"density": 1.5}, r"density is 1.5"),
        ({"heart": 2.0}, r"heart \(scale\) is 2"),
        ({"dome": 80.0}, r"dome \(mm\) is 80"),
        ({"scale": (1.0, 0.5, 1.0)}, r"scale along y is 0.5; accepted: 0.7 to 1.4"),
        ({"fat": float("nan")}, r"fat \(mm\) is nan"),
    ],
)
def test_an_impossible_body_is_refused_by_quantity(
    make_shape: Callable[..., Shape], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=f"impossible geometry: {message}"):
        check_shape(replace(make_shape(), **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"u": 20.0, "width": 61.0}, r"right breast, u - width \(mm from the midline\) is -41"),
        ({"height": 200.0}, r"right breast, height \(mm\) is 200"),
        ({"projection": -5.0}, r"right breast, projection \(mm\) is -5; accepted: 15 to 110"),
        ({"z": 60.0}, r"right breast, z \(mm\) is 60"),
    ],
)
def test_an_impossible_breast_is_refused_by_side_and_quantity(
    make_shape: Callable[..., Shape], changes: dict[str, float], message: str
) -> None:
    shape = make_shape()
    breasts = {**shape.breasts, Side.RIGHT: replace(shape.breasts[Side.RIGHT], **changes)}
    with pytest.raises(DataError, match=f"impossible geometry: {message}"):
        check_shape(replace(shape, breasts=breasts))


def test_a_seroma_in_a_removed_breast_is_refused(make_shape: Callable[..., Shape]) -> None:
    fluid = {Side.LEFT: Site.CENTRAL, Side.RIGHT: None}
    with pytest.raises(DataError, match="seroma in the left breast, which was removed"):
        check_shape(make_shape(0, replace(FLAT, seroma=fluid)))
    check_shape(make_shape(0, replace(PLAIN, seroma=fluid)))
