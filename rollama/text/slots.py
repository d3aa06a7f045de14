"""Keys and values of rows that begin, grow and end at their own times.

Padding all rows on the left to one width, as Transformers' caches want it, copies the whole cache at every token and
makes short rows pay for long ones. Here a row has a place in a buffer that is made larger now and then, begins at
column 0 and knows its own length. Taking tokens back is setting that length: drafted tokens that turn out wrong cost
nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

STEP = 64
"""Columns by which buffers grow at least."""


class Slots:
    """The cache of all layers: K and V (rows, key-value heads, columns, head width) each."""

    def __init__(self, layers: int, heads: int, width: int, like: torch.Tensor) -> None:
        """Begin without rows; buffers are of the type and on the device of `like`."""
        self.layers, self.heads, self.width, self.like = layers, heads, width, like
        self.lengths: list[int] = []
        self.buffers: list[tuple[torch.Tensor, torch.Tensor]] = [self._empty(0, 0) for _ in range(layers)]

    @property
    def nbytes(self) -> int:
        """Memory of the buffers."""
        return sum(part.nbytes for pair in self.buffers for part in pair)

    def add(self) -> int:
        """A new row at the end; its number."""
        self.lengths.append(0)
        return len(self.lengths) - 1

    def reserve(self, columns: int) -> None:
        """Make room for all rows at so many columns."""
        rows, (have_rows, _, have_columns, _) = len(self.lengths), self.buffers[0][0].shape
        if rows <= have_rows and columns <= have_columns:
            return
        more_rows = have_rows if rows <= have_rows else max(rows, 2 * have_rows)
        more_columns = (
            have_columns if columns <= have_columns else -(-max(columns, 5 * have_columns // 4) // STEP) * STEP
        )
        for number, old in enumerate(self.buffers):  # one layer after the other: never twice the memory
            new = self._empty(more_rows, more_columns)
            for goal, source in zip(new, old, strict=True):
                goal[:have_rows, :, :have_columns] = source
            self.buffers[number] = new

    def keep(self, places: Sequence[int]) -> None:
        """Keep these rows, given in ascending order; without any, the memory is given back."""
        for goal, source in enumerate(places):
            if goal != source:
                length = self.lengths[source]
                for pair in self.buffers:
                    for part in pair:
                        part[goal, :, :length] = part[source, :, :length]
        self.lengths = [self.lengths[place] for place in places]
        if not places:
            self.buffers = [self._empty(0, 0) for _ in range(self.layers)]

    def copies(self, row: int, count: int) -> Slots:
        """A cache of so many copies of a row."""
        found, length = Slots(self.layers, self.heads, self.width, self.like), self.lengths[row]
        found.lengths = [length] * count
        found.buffers = [
            (k[row : row + 1, :, :length].repeat(count, 1, 1, 1), v[row : row + 1, :, :length].repeat(count, 1, 1, 1))
            for k, v in self.buffers
        ]
        return found

    def _empty(self, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (rows, self.heads, columns, self.width)
        return self.like.new_zeros(shape), self.like.new_zeros(shape)
