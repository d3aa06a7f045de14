"""Which rows make up optimizer step k, as a pure function of (seed, k).

A resumed run, or one on another number of workers, must see the rows that the straight run would have seen. So there
is no iterator with hidden state: the rows of all epochs form one endless sequence of seeded permutations, step k is a
window of it, and a rank takes every `world`-th row of the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from rollama.core.seeding import numpy_generator


@dataclass(frozen=True)
class Draw:
    """One row of a step: its index and the epoch it is drawn in (part of every noise key)."""

    epoch: int
    row: int


@dataclass(frozen=True)
class BatchOrder:
    """Batches of `batch` rows out of `rows`, reshuffled every epoch. No row is dropped at an epoch's end."""

    rows: int
    batch: int
    seed: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.batch < 1:
            raise ValueError(f"need at least one row and a batch of one, found {self.rows} rows and batch {self.batch}")

    def step(self, step: int) -> list[Draw]:
        """The rows of optimizer step `step` (from 0), all ranks together."""
        first = step * self.batch
        return [self._draw(position) for position in range(first, first + self.batch)]

    def shard(self, step: int, rank: int, world: int) -> list[Draw]:
        """This rank's share of the step; the shares of all ranks are disjoint and together complete."""
        return self.step(step)[rank::world]

    def _draw(self, position: int) -> Draw:
        epoch, place = divmod(position, self.rows)
        return Draw(epoch, _permutation(self.rows, self.seed, epoch)[place])


@lru_cache(maxsize=8)
def _permutation(rows: int, seed: int, epoch: int) -> tuple[int, ...]:
    order = numpy_generator(seed, "epoch", epoch).permutation(rows)
    return tuple(int(row) for row in order)
