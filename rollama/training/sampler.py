"""Which rows make up optimizer step k, as a pure function of (seed, k).

A resumed run, or one on another number of workers, must see the rows that the straight run would have seen. So there
is no iterator with hidden state: the rows of all epochs form one endless sequence of seeded permutations, step k is a
window of it, and a rank takes every `world`-th row of the window.

With weights an epoch has as many draws as without, and a row of weight w gets w of them (weights are scaled to a mean
of 1; a fraction is rounded up or down by chance, right in the mean). It stays a pure function of (seed, k).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rollama.core.seeding import numpy_generator

AGAIN = 1_000_000
"""Added to the epoch of a row for each time that it was drawn in this epoch before; more than any run's epochs."""


@dataclass(frozen=True)
class Draw:
    """One row of a step: its index and the epoch it is drawn in (part of every noise key).

    A row drawn again within an epoch counts as of an epoch `AGAIN` later, so that its noise is another.
    """

    epoch: int
    row: int


@dataclass(frozen=True)
class BatchOrder:
    """Batches of `batch` rows out of `rows`, reshuffled every epoch. No row is dropped at an epoch's end.

    `weights` (one a row, positive) says how often each is drawn; empty: every row once an epoch.
    """

    rows: int
    batch: int
    seed: int
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.rows < 1 or self.batch < 1:
            raise ValueError(f"need at least one row and a batch of one, found {self.rows} rows and batch {self.batch}")
        if self.weights and (len(self.weights) != self.rows or not min(self.weights) > 0):
            raise ValueError(f"need a positive weight for each of {self.rows} rows, found {len(self.weights)}")

    def step(self, step: int) -> list[Draw]:
        """The rows of optimizer step `step` (from 0), all ranks together."""
        first = step * self.batch
        return [self._draw(position) for position in range(first, first + self.batch)]

    def shard(self, step: int, rank: int, world: int) -> list[Draw]:
        """This rank's share of the step; the shares of all ranks are disjoint and together complete."""
        return self.step(step)[rank::world]

    def _draw(self, position: int) -> Draw:
        epoch, place = divmod(position, self.rows)
        if self.weights:
            return _weighted(self.weights, self.seed, epoch)[place]
        return Draw(epoch, _permutation(self.rows, self.seed, epoch)[place])


@lru_cache(maxsize=8)
def _permutation(rows: int, seed: int, epoch: int) -> tuple[int, ...]:
    order = numpy_generator(seed, "epoch", epoch).permutation(rows)
    return tuple(int(row) for row in order)


@lru_cache(maxsize=8)
def _weighted(weights: tuple[float, ...], seed: int, epoch: int) -> tuple[Draw, ...]:
    """The draws of an epoch: systematic sampling over the rows in a shuffled order, shuffled once more."""
    rows = len(weights)
    generator = numpy_generator(seed, "epoch", epoch, "weighted")
    order = generator.permutation(rows)
    ends = np.cumsum(np.asarray(weights)[order])
    points = (np.arange(rows) + generator.random()) * (ends[-1] / rows)
    drawn = order[np.minimum(np.searchsorted(ends, points, side="right"), rows - 1)]
    seen: Counter[int] = Counter()
    found = []
    for row in generator.permutation(drawn).tolist():
        found.append(Draw(epoch + AGAIN * seen[row], row))
        seen[row] += 1
    return tuple(found)
