"""Simulated readers err by their own amount, forget a level now and then, and agree with each other well."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from rollama.cohort.anatomy import Anatomy
from rollama.cohort.readers import JITTER_MM, MISSED, READERS, draw_as_reader, reader_map
from rollama.cohort.sdf import Grid
from rollama.cohort.targets import label_map
from rollama.core.seeding import numpy_generator
from rollama.data.parts import Part
from rollama.data.plan import Dose, Guideline, Level, Plan, Side, Surgery, Technique, Volume
from tests.cohort.conftest import GRID

BALL = Grid((40, 40, 40), (3.0, 3.0, 3.0))


def ball(radius: float = 35.0) -> np.ndarray:
    x, y, z = BALL.axes()
    mask: np.ndarray = (x**2 + y**2 + z**2 < radius**2).astype(np.uint8)
    return mask


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def border_error(jitter: float, number: int) -> np.ndarray:
    """How far in mm a drawn border lies outside the true one, along 60 rays from the centre."""
    rng = np.random.default_rng(number)
    rays = rng.standard_normal((60, 3))
    rays /= np.linalg.norm(rays, axis=1)[:, None]
    drawn = draw_as_reader(ball(), BALL, jitter, numpy_generator("reader", number))
    along = np.arange(5.0, 55.0, 0.5)
    index = np.rint((rays[:, None] * along[None, :, None]) / 3.0 + 19.5).astype(int)
    hit = drawn[tuple(np.moveaxis(index, 2, 0))]
    assert hit[:, 0].all()
    assert not hit[:, -1].any()
    border: np.ndarray = along[hit.argmin(axis=1)] - 35.0
    return border


@pytest.fixture(scope="module")
def labels(make_anatomy: Callable[..., Anatomy]) -> np.ndarray:
    plan = Plan(
        side=Side.LEFT, surgery=Surgery.CONSERVING, volume=Volume.BREAST,
        levels=(Level.L1, Level.L2, Level.L3, Level.L4), dose=Dose(gy=50, fractions=25), technique=Technique.VMAT,
        guideline=Guideline.ESTRO,
    )  # fmt: skip
    return label_map(make_anatomy(2), plan)


def test_the_border_scatters_by_the_reader_s_jitter() -> None:
    spreads = [
        float(np.concatenate([border_error(jitter, n) for n in range(24)]).std()) for jitter in (0.0, 1.5, 3.0, 4.0)
    ]
    assert spreads[0] < 2.0  # the grid, and each reader's habit
    assert spreads == sorted(spreads)
    assert spreads[2] == pytest.approx(3.5, rel=0.2)
    assert spreads[3] == pytest.approx(4.5, rel=0.2)


def test_a_reader_s_habit_moves_the_whole_border_and_on_average_nobody_is_larger() -> None:
    sizes = np.array([draw_as_reader(ball(), BALL, 0.0, numpy_generator("habit", n)).sum() for n in range(30)])
    truth = ball().sum()
    assert (sizes > truth).any()
    assert (sizes < truth).any()
    assert sizes.mean() == pytest.approx(truth, rel=0.06)


def test_the_same_generator_draws_the_same_contour_and_another_one_does_not() -> None:
    one, same, other = (draw_as_reader(ball(), BALL, 2.5, numpy_generator("reader", n)) for n in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_what_is_empty_stays_empty() -> None:
    nothing = np.zeros(BALL.shape, np.uint8)
    drawn = draw_as_reader(nothing, BALL, 5.0, numpy_generator("empty"))
    assert drawn.dtype == bool
    assert not drawn.any()
    assert not reader_map(nothing, BALL, [numpy_generator("empty", n) for n in range(READERS)]).any()


def test_a_reader_who_forgets_leaves_out_one_level_and_nothing_else(labels: np.ndarray) -> None:
    lost = set()
    for number in range(12):
        full, without = (
            draw_as_reader(labels, GRID, 0.0, numpy_generator("forgets", number), missed=missed)
            for missed in (0.0, 1.0)
        )
        gone = {
            part for part in Part if (own := labels == part).any() and (without & own).sum() < 0.5 * (full & own).sum()
        }
        assert len(gone) == 1
        lost |= gone
        assert not (without & ~full).any()
    assert lost <= {Part.L1, Part.L2, Part.L3, Part.L4}
    assert len(lost) >= 3


def test_a_level_is_forgotten_seldom_and_never_the_only_one(labels: np.ndarray) -> None:
    rng_draws = []
    for number in range(400):  # the draws of draw_as_reader without its volume
        rng = numpy_generator("seldom", number)
        rng.standard_normal((23, 23, 23), dtype=np.float32)
        rng.normal()
        rng_draws.append(rng.random() < MISSED)
    assert 0.01 < np.mean(rng_draws) < 0.08
    assert draw_as_reader(labels, GRID, 0.0, numpy_generator("seldom", rng_draws.index(True))).sum() < (
        draw_as_reader(labels, GRID, 0.0, numpy_generator("seldom", rng_draws.index(True)), missed=0.0).sum()
    )
    only = np.where(labels == Part.L3, labels, 0).astype(np.uint8)
    assert draw_as_reader(only, GRID, 0.0, numpy_generator("only", 3), missed=1.0).any()


def test_readers_agree_well_and_not_perfectly(labels: np.ndarray) -> None:
    found = reader_map(labels, GRID, [numpy_generator("agree", n) for n in range(READERS)])
    assert found.dtype == np.uint8
    assert found.max() <= 7
    masks = [(found >> bit) & 1 == 1 for bit in range(READERS)]
    for one, other in itertools.combinations([labels > 0, *masks], 2):
        assert 0.7 < dice(one, other) < 0.99
    for bit, (mask, jitter) in enumerate(zip(masks, JITTER_MM, strict=True)):
        alone = draw_as_reader(labels, GRID, jitter, numpy_generator("agree", bit))
        assert (mask == alone).all()


def test_readers_differ_from_one_another_by_level_of_care() -> None:
    assert len(JITTER_MM) == READERS == 3
    assert list(JITTER_MM) == sorted(set(JITTER_MM))
    scores = [
        np.mean([dice(ball() > 0, draw_as_reader(ball(), BALL, jitter, numpy_generator("care", n))) for n in range(6)])
        for jitter in (JITTER_MM[0], 6.0)
    ]
    assert scores[0] > scores[1] + 0.03
