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
    a: Sequence[float], b: Sequence[float], centres: Sequence[str] | None = None, seed: int = SEED
) -> Estimate:
    """Mean of A - B over the same patients with a paired bootstrap interval (patients are resampled, not values).

    A patient whose A or B is NaN is excluded and counted.

    Raises:
        ValueError: A and B are not of one length.
    """
    differences = [x - y for x, y in zip(a, b, strict=True)]
    return estimate(differences, centres, seed=seed)
