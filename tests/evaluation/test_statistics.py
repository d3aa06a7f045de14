"""Intervals: reproducible, stratified, honest about n."""

import math

import numpy as np
import pytest

from rollama.evaluation import statistics
from rollama.evaluation.statistics import estimate, paired_difference, rate


def test_interval_agrees_with_scipy() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(1).beta(5, 2, size=30)
    ours = estimate(values.tolist())
    theirs = bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(2)).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.01)
    assert ours.high == pytest.approx(theirs.high, abs=0.01)


def test_same_seed_same_interval() -> None:
    values = np.random.default_rng(5).normal(size=30).tolist()
    assert estimate(values, seed=3) == estimate(values, seed=3)
    assert estimate(values, seed=3) != estimate(values, seed=4)


def test_stratified_resampling_ignores_differences_between_centres() -> None:
    values, centres = [0.0] * 10 + [1.0] * 10, ["a"] * 10 + ["b"] * 10
    stratified, plain = estimate(values, centres), estimate(values)
    assert stratified.low == stratified.high == 0.5
    assert plain.low is not None
    assert plain.low < 0.35


def test_nan_is_excluded_and_counted() -> None:
    result = estimate([1.0, math.nan, 0.0, math.nan])
    assert (result.mean, result.n, result.excluded) == (0.5, 2, 2)
    assert estimate([math.nan]).mean is None
    assert estimate([0.7]).low is None


def test_none_of_22_is_not_certainly_none() -> None:
    result = rate([0.0] * 22)
    assert result.mean == result.low == 0.0
    assert result.high == pytest.approx(1 - 0.025 ** (1 / 22))


def test_paired_difference_is_narrower_than_the_spread_of_patients() -> None:
    generator = np.random.default_rng(0)
    patients = generator.uniform(0, 1, 40)
    result = paired_difference((patients + 0.1).tolist(), patients.tolist())
    assert result.mean == pytest.approx(0.1)
    assert result.low == pytest.approx(0.1)
    with pytest.raises(ValueError, match="zip"):
        paired_difference([1.0], [1.0, 2.0])


def test_paired_rates_give_the_published_interval():
    both, only_a, only_b = 36, 12, 2  # Newcombe 1998, method 10
    a = [1.0] * both + [1.0] * only_a + [0.0] * only_b
    b = [1.0] * both + [0.0] * only_a + [1.0] * only_b
    found = statistics.paired_rates(a, b)
    assert (found.mean, found.low, found.high) == (
        pytest.approx(0.2), pytest.approx(0.0569, abs=5e-4), pytest.approx(0.3404, abs=5e-4)
    )  # fmt: skip
    turned = statistics.paired_rates(b, a)
    assert (turned.low, turned.high) == (pytest.approx(-found.high), pytest.approx(-found.low))


def test_paired_rates_of_few_cases_without_an_error_are_wide():
    few, many = (statistics.paired_rates([0.0] * n, [0.0] * n) for n in (5, 500))
    assert few.mean == many.mean == 0.0
    assert few.high - few.low > 0.8 and many.high - many.low < 0.02
    assert statistics.paired_rates([math.nan, 1.0], [1.0, 1.0]).excluded == 1
    assert statistics.paired_rates([math.nan], [1.0]).mean is None
