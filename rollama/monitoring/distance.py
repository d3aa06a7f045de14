"""How far two counts over the same bins lie apart, and how sure that is.

The distance is Jensen and Shannon's: with shares p and q and their mean m, the square root of the mean of the two
relative entropies (base 2) to m; 0 when the shares are equal, 1 when they have nothing in common (Lin 1991, Endres and
Schindelin 2003). The population stability index, which is better known, is infinite as soon as one case falls into a
bin that was empty in training; usual code pads such bins with a small number, and the result depends on it. For small
differences the two say the same: PSI is about 8 ln 2 = 5.5 times the square of the distance, so PSI 0.1 is 0.13 and PSI
0.25 is 0.21.

Few cases lie far from everything by chance. So the observed distance is held against what it would be if both counts
came from one distribution (drawn from the counts together), and gets an interval (both counts drawn anew, less what
drawing alone adds). Only an interval below the threshold says "no drift".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DRAWS = 20_000
PSI_PER_SQUARE = 8 * float(np.log(2))

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shift:
    """A distance without what chance adds, its interval (95 %), and the chance that equal distributions look so."""

    distance: float
    low: float
    high: float
    chance: float


def divergence(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Jensen-Shannon divergence in bits over the last axis; rows are shares that sum to one."""
    middle = (first + second) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(side > 0, side * np.log2(side / middle), 0.0).sum(axis=-1) for side in (first, second)]
    found: npt.NDArray[np.float64] = np.clip((parts[0] + parts[1]) / 2, 0.0, 1.0)
    return found


def shift(reference: Counts, current: Counts, rng: np.random.Generator, draws: int = DRAWS) -> Shift:
    """How far the current cases lie from the reference.

    Args:
        reference, current: cases in each bin, of one length; each with at least one case.
        rng: draws what chance does.
        draws: how often.
    """
    p, q = _shares(reference), _shares(current)
    sizes = int(reference.sum()), int(current.sum())
    observed = float(divergence(p, q))
    pooled = _shares(reference + current)
    null = divergence(*(rng.multinomial(n, pooled, draws) / n for n in sizes))
    chance = (1 + int((null >= observed - 1e-12).sum())) / (1 + draws)
    drawn = divergence(*(rng.multinomial(n, share, draws) / n for n, share in zip(sizes, (p, q), strict=True)))
    added = max(float(drawn.mean()) - observed, 0.0)
    # The observed value itself holds as much of chance as the draws add to it, so that is taken off twice there.
    low, high = np.sqrt(np.clip(np.percentile(drawn, (2.5, 97.5)) - 2 * added, 0.0, 1.0))
    # A bin that no case fell into may still hold 3/n of them (rule of three), which draws from the counts never show.
    unseen = min(1.0, (1.5 / min(sizes)) ** 0.5)
    return Shift(max(observed - added, 0.0) ** 0.5, float(low), max(float(high), unseen), chance)


def adjusted(chances: list[float]) -> list[float]:
    """Holm's correction: chances that hold for all of a family of tests at once, in the order given."""
    order = sorted(range(len(chances)), key=chances.__getitem__)
    found, highest = [0.0] * len(chances), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, chances[place] * (len(chances) - rank)))
        found[place] = highest
    return found


def _shares(counts: Counts) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = counts / counts.sum()
    return found
