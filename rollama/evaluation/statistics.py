"""Means with confidence intervals in which the patient is the unit and the centre is kept.

Twenty patients make a noisy mean, and pooling centres of different size hides the worst one. So every figure comes
with its n and an interval: percentile bootstrap over patients, resampled within each centre when centres are pooled.
For yes/no metrics the bootstrap of "0 of 22" would be the interval [0, 0]; those get the exact Clopper-Pearson one.
Values that are NaN (not defined for a case) are left out and counted as `excluded`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from rollama.core.seeding import numpy_generator

RESAMPLES, LEVEL, SEED = 10_000, 0.95, 0
SETTINGS = {
    "interval": "percentile bootstrap over patients, stratified by centre; Clopper-Pearson for yes/no metrics",
    "resamples": RESAMPLES,
    "level": LEVEL,
    "seed": SEED,
}


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` cases with its interval; None where the cases are too few (0: no mean, 1: no interval)."""

    mean: float | None
    low: float | None
    high: float | None
    n: int
    excluded: int = 0

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        if self.mean is None:
            return "n/a"
        interval = "" if self.low is None else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.mean:.3f}{interval}"


def estimate(
    values: Sequence[float],
    centres: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = SEED,
) -> Estimate:
    """Mean with a seeded percentile bootstrap interval.

    Args:
        values: one value a patient; NaN is excluded and counted.
        centres: the centre of each value; resampling then stays within centres (sizes of centres are kept).
        resamples: number of bootstrap samples.
        level: coverage of the interval.
        seed: of the resampling.
    """
    array = np.asarray(values, dtype=np.float64)
    keep = ~np.isnan(array)
    kept = array[keep]
    n, excluded = int(keep.sum()), int((~keep).sum())
    if n == 0:
        return Estimate(None, None, None, 0, excluded)
    if n == 1:
        return Estimate(float(kept[0]), None, None, 1, excluded)
    labels = np.asarray(centres if centres is not None else [""] * len(array))[keep]
    generator = numpy_generator("bootstrap", seed)
    sums = np.zeros(resamples)
    for label in sorted(set(labels.tolist())):
        group = kept[labels == label]
        for start in range(0, resamples, 1000):  # a slice at a time keeps memory flat for large centres
            stop = min(start + 1000, resamples)
            draws = generator.integers(0, len(group), size=(stop - start, len(group)))
            sums[start:stop] += group[draws].sum(axis=1)
    low, high = np.quantile(sums / n, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(kept.mean()), float(low), float(high), n, excluded)


def rate(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """Share of ones among 0/1 values with the exact (Clopper-Pearson) interval; NaN is excluded and counted."""
    from scipy.stats import binomtest

    kept = [value for value in values if not math.isnan(value)]
    excluded = len(values) - len(kept)
    if not kept:
        return Estimate(None, None, None, 0, excluded)
    interval = binomtest(round(sum(kept)), len(kept)).proportion_ci(level, method="exact")
    return Estimate(sum(kept) / len(kept), float(interval.low), float(interval.high), len(kept), excluded)


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    centres: Sequence[str] | None = None,
    seed: int = SEED,
    level: float = LEVEL,
) -> Estimate:
    """Mean of A - B over the same patients with a paired bootstrap interval (patients are resampled, not values).

    A patient whose A or B is NaN is excluded and counted.

    Raises:
        ValueError: A and B are not of one length.
    """
    differences = [x - y for x, y in zip(a, b, strict=True)]
    return estimate(differences, centres, level=level, seed=seed)


def paired_rates(a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> Estimate:
    """Share of A minus share of B for 0/1 values of the same patients; a patient whose A or B is NaN is excluded.

    Two models that err on none of five patients give only differences of 0, and a bootstrap of those is the interval
    [0, 0]. This one (Newcombe, Stat Med 1998;17:2635, method 10: Wilson's intervals of both shares, joined by their
    correlation) stays as wide as five patients allow.

    Raises:
        ValueError: A and B are not of one length.
    """
    from scipy.stats import binomtest

    pairs = [(x, y) for x, y in zip(a, b, strict=True) if not math.isnan(x - y)]
    n, excluded = len(pairs), len(a) - len(pairs)
    if n == 0:
        return Estimate(None, None, None, 0, excluded)
    ones_a, ones_b = sum(x == 1 for x, _ in pairs), sum(y == 1 for _, y in pairs)
    both, neither = sum(x == y == 1 for x, y in pairs), sum(x == y == 0 for x, y in pairs)
    only_a, only_b = ones_a - both, ones_b - both
    (low_a, high_a), (low_b, high_b) = (
        binomtest(ones, n).proportion_ci(level, method="wilson") for ones in (ones_a, ones_b)
    )
    share_a, share_b = ones_a / n, ones_b / n
    margins = ones_a * (n - ones_a) * ones_b * (n - ones_b)
    product = both * neither - only_a * only_b
    if margins == 0:
        correlation = 0.0
    elif product > n / 2:  # continuity correction of the paper's equation for phi
        correlation = (product - n / 2) / math.sqrt(margins)
    else:
        correlation = min(0.0, product) / math.sqrt(margins)
    down, up = (share_a - low_a, high_b - share_b), (high_a - share_a, share_b - low_b)
    below, above = (math.sqrt(max(0.0, x * x - 2 * correlation * x * y + y * y)) for x, y in (down, up))
    difference = share_a - share_b
    return Estimate(difference, difference - below, difference + above, n, excluded)
