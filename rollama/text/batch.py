"""Micro-batches whose content does not depend on how many workers there are.

The rows of an optimizer step are sorted by length (little padding), cut into micro-batches, and only then dealt to
the workers. So a run on two workers computes the very micro-batches of a run on one, and every batch knows the global
number of answer tokens of its step, which is the denominator of every loss, without communication.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from rollama.core.errors import ConfigError
from rollama.data.tokenization import TokenRow
from rollama.training.sampler import BatchOrder


@dataclass(frozen=True)
class TextBatch:
    """One micro-batch, padded on the right. B rows, T tokens, A answer tokens.

    Padding needs no attention mask: attention is causal, and no real token comes after padding.

    Attributes:
        ids: (B, T) token ids; padding holds 0 and is never looked at.
        lengths: real tokens of each row.
        positions: (A,) index into the flattened (B*T) hidden states of the token *before* each answer token.
        targets: (A,) the answer tokens, the end token included.
        answer_row: (A,) the row of each answer token.
        case_ids, epochs: keys of each row's noise.
        global_tokens: answer tokens of the whole optimizer step, all micro-batches and workers.
        global_rows: rows of the whole optimizer step.
    """

    ids: torch.Tensor
    lengths: tuple[int, ...]
    positions: torch.Tensor
    targets: torch.Tensor
    answer_row: torch.Tensor
    case_ids: tuple[str, ...]
    epochs: tuple[int, ...]
    global_tokens: int
    global_rows: int


def collate(
    rows: Sequence[TokenRow], epochs: Sequence[int], global_tokens: int, global_rows: int, device: torch.device
) -> TextBatch:
    """Pad rows on the right and index their answers."""
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    positions: list[int] = []
    targets: list[int] = []
    answer_row: list[int] = []
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        positions += range(index * width + row.prompt_length - 1, index * width + len(row.ids) - 1)
        targets += row.ids[row.prompt_length :]
        answer_row += [index] * row.answer_length
    return TextBatch(
        ids=ids.to(device),
        lengths=tuple(len(row.ids) for row in rows),
        positions=torch.tensor(positions, device=device),
        targets=torch.tensor(targets, device=device),
        answer_row=torch.tensor(answer_row, device=device),
        case_ids=tuple(row.case_id for row in rows),
        epochs=tuple(epochs),
        global_tokens=global_tokens,
        global_rows=global_rows,
    )


@dataclass(frozen=True)
class TextBatches:
    """A worker's micro-batches of each step; every worker gets the same number of them."""

    rows: Sequence[TokenRow]
    order: BatchOrder
    micro_batch: int
    rank: int
    world: int
    device: torch.device

    def __post_init__(self) -> None:
        if self.order.batch % self.world:
            raise ConfigError(
                f"batch: {self.order.batch} rows cannot be dealt evenly to {self.world} workers; "
                f"choose a multiple of {self.world}"
            )

    def step(self, step: int) -> Iterator[TextBatch]:
        """This worker's micro-batches of optimizer step `step`, longest rows first."""
        draws = [(self.rows[draw.row], draw.epoch) for draw in self.order.step(step)]
        draws.sort(key=lambda pair: (-len(pair[0].ids), pair[0].case_id, pair[1]))
        tokens = sum(row.answer_length for row, _ in draws)
        size = math.gcd(self.micro_batch, self.order.batch // self.world)
        groups = [draws[first : first + size] for first in range(0, len(draws), size)]
        for turn in range(0, len(groups), self.world):
            # Back and forth, so that no worker always gets the longest rows.
            place = self.rank if (turn // self.world) % 2 == 0 else self.world - 1 - self.rank
            group = groups[turn + place]
            yield collate([row for row, _ in group], [epoch for _, epoch in group], tokens, len(draws), self.device)
