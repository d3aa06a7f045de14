"""The distance against known values, its chance against the frequency, its interval against the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from rollama.monitoring.distance import PSI_PER_SQUARE, adjusted, divergence, shift


def counts(*values: int) -> np.ndarray:
    return np.array(values)


def test_it_is_scipy_s_distance() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        p, q = rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(6))
        q[0] = 0
        q /= q.sum()
        assert divergence(p, q) == pytest.approx(jensenshannon(p, q, base=2) ** 2)
    assert divergence(counts(1, 0), counts(0, 1)) == 1 and divergence(counts(1, 0), counts(1, 0)) == 0


def test_small_differences_are_a_psi() -> None:
    p, q = np.array([0.3, 0.3, 0.4]), np.array([0.33, 0.29, 0.38])
    psi = float(((p - q) * np.log(p / q)).sum())
    assert PSI_PER_SQUARE * divergence(p, q) == pytest.approx(psi, rel=0.01)


def test_few_equal_cases_exclude_nothing() -> None:
    for n, sure in ((1, False), (20, False), (40, True)):
        found = shift(counts(600), counts(n), np.random.default_rng(0))
        assert found.distance == found.low == 0 and found.chance == 1
        assert (found.high < 0.2) is sure, "n identical cases may hide a share of 3/n elsewhere"


def test_a_scanner_never_seen_is_seen_at_once() -> None:
    found = shift(counts(600, 0), counts(0, 5), np.random.default_rng(0))
    assert found.distance > 0.9 and found.chance < 1e-4


@pytest.mark.parametrize(("n", "m", "bins"), [(10, 100, 8), (40, 100, 3), (60, 600, 10)])
def test_chance_is_the_frequency_of_false_alarms(n: int, m: int, bins: int) -> None:
    rng = np.random.default_rng(2)
    trials = 400
    found = []
    for _ in range(trials):
        share = rng.dirichlet(np.ones(bins))
        found.append(shift(rng.multinomial(m, share), rng.multinomial(n, share), rng, 400).chance)
    alarms = np.mean(np.array(found) < 0.05)
    assert alarms < 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5


def test_the_interval_covers_the_true_distance_mostly() -> None:
    rng = np.random.default_rng(3)
    p, q = np.array([0.5, 0.2, 0.2, 0.1]), np.array([0.2, 0.3, 0.2, 0.3])
    true = float(divergence(p, q)) ** 0.5
    found = [shift(rng.multinomial(300, p), rng.multinomial(60, q), rng, 400) for _ in range(200)]
    covered = np.mean([item.low <= true <= item.high for item in found])
    assert covered > 0.88
    assert abs(np.mean([item.distance for item in found]) - true) < 0.03, "what chance adds is taken off"


def test_holm_keeps_the_order_and_never_lowers_a_chance() -> None:
    assert adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjusted([0.5, 0.9]) == [1.0, 1.0] and adjusted([]) == []
