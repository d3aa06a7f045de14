"""Micro-batches without padding, whose content does not depend on how many workers there are.

Padding costs as much as real tokens. Here the documents of a micro-batch lie one after the other in a single row, and
attention and positions begin anew with each (see `attention`), so a document cannot tell whether it is alone. The
documents of an optimizer step are spread over its micro-batches so that each has about the same number of tokens, and
only then dealt to the workers: a run on two workers computes the very micro-batches of a run on one, if `micro_batch`
divides a worker's share. Every batch knows the answer tokens of its whole step, the denominator of every loss, so the
loss is the same however a step is cut.
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
class Document:
    """One training text inside a batch: the key of its noise, and its place (`row`, `start`, `length` in tokens)."""

    case_id: str
    epoch: int
    row: int
    start: int
    length: int

    @property
    def place(self) -> tuple[int, slice]:
        """Index into the first two axes of a (B, T, ...) tensor."""
        return self.row, slice(self.start, self.start + self.length)


@dataclass(frozen=True)
class TextBatch:
    """One micro-batch of D documents in B x T tokens, A of them answer tokens.

    Packed, B is 1 and T the sum of the lengths. Padded (on the right), B is D; padding needs no attention mask, because
    attention is causal and no real token comes after padding.

    Attributes:
        ids: (B, T) token ids; padding holds 0 and is never looked at.
        documents: where each document lies.
        positions: (A,) index into the flattened (B*T) hidden states of the token *before* each answer token.
        targets: (A,) the answer tokens, the end token included.
        answer_document: (A,) the document of each answer token.
        global_tokens: answer tokens of the whole optimizer step, all micro-batches and workers.
        global_documents: documents of the whole optimizer step.
        step: optimizer step, from 0.
    """

    ids: torch.Tensor
    documents: tuple[Document, ...]
    positions: torch.Tensor
    targets: torch.Tensor
    answer_document: torch.Tensor
    global_tokens: int
    global_documents: int
    step: int = 0

    @property
    def case_ids(self) -> tuple[str, ...]:
        """The cases whose texts these are."""
        return tuple(document.case_id for document in self.documents)

    @property
    def spans(self) -> tuple[tuple[int, int], ...] | None:
        """(first, end) of each document in the single row of a packed batch; None for a padded one."""
        if len(self.ids) > 1 or len(self.documents) == 1:
            return None
        return tuple((document.start, document.start + document.length) for document in self.documents)

    @property
    def token_positions(self) -> torch.Tensor:
        """(B, T) position of each token in its document."""
        places = torch.zeros(self.ids.shape, dtype=torch.long)
        for document in self.documents:
            places[document.place] = torch.arange(document.length)
        return places.to(self.ids.device)


def collate(
    rows: Sequence[TokenRow],
    epochs: Sequence[int],
    global_tokens: int,
    global_documents: int,
    device: torch.device,
    packed: bool = True,
    step: int = 0,
) -> TextBatch:
    """Lay documents one after the other, or each in its own padded row, and index their answers."""
    lengths = [len(row.ids) for row in rows]
    height, width = (1, sum(lengths)) if packed else (len(rows), max(lengths))
    ids = torch.zeros(height, width, dtype=torch.long)
    documents: list[Document] = []
    positions: list[int] = []
    targets: list[int] = []
    answer_document: list[int] = []
    for index, (row, epoch) in enumerate(zip(rows, epochs, strict=True)):
        place = (0, sum(lengths[:index])) if packed else (index, 0)
        document = Document(row.case_id, epoch, *place, lengths[index])
        documents.append(document)
        ids[document.place] = torch.tensor(row.ids)
        first = document.row * width + document.start
        positions += range(first + row.prompt_length - 1, first + lengths[index] - 1)
        targets += row.ids[row.prompt_length :]
        answer_document += [index] * row.answer_length
    return TextBatch(
        ids=ids.to(device),
        documents=tuple(documents),
        positions=torch.tensor(positions, device=device),
        targets=torch.tensor(targets, device=device),
        answer_document=torch.tensor(answer_document, device=device),
        global_tokens=global_tokens,
        global_documents=global_documents,
        step=step,
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
    packed: bool = True

    def __post_init__(self) -> None:
        if self.order.batch % self.world:
            raise ConfigError(
                f"batch: {self.order.batch} rows cannot be dealt evenly to {self.world} workers; "
                f"choose a multiple of {self.world}"
            )

    def step(self, step: int) -> Iterator[TextBatch]:
        """This worker's micro-batches of optimizer step `step`."""
        draws = [(self.rows[draw.row], draw.epoch) for draw in self.order.step(step)]
        draws.sort(key=lambda pair: (-len(pair[0].ids), pair[0].case_id, pair[1]))
        tokens = sum(row.answer_length for row, _ in draws)
        size = documents_at_once(self.micro_batch, self.order.batch, self.world)
        groups = (_balanced if self.packed else _alike)(draws, size)
        for turn in range(0, len(groups), self.world):
            # Back and forth, so that no worker always gets the longest.
            place = self.rank if (turn // self.world) % 2 == 0 else self.world - 1 - self.rank
            rows, epochs = zip(*groups[turn + place], strict=True)
            yield collate(rows, epochs, tokens, len(draws), self.device, self.packed, step)


def documents_at_once(micro_batch: int, batch: int, world: int) -> int:
    """Documents of a micro-batch: at most `micro_batch`, and so that every worker has as many micro-batches."""
    return math.gcd(micro_batch, batch // world)


Drawn = list[tuple[TokenRow, int]]


def _balanced(draws: Drawn, size: int) -> list[Drawn]:
    """Groups of `size` documents with about equal sums of lengths: the longest first, each to the shortest group."""
    groups: list[Drawn] = [[] for _ in range(len(draws) // size)]
    sums = [0] * len(groups)
    for draw in draws:
        chosen = min((index for index in range(len(groups)) if len(groups[index]) < size), key=sums.__getitem__)
        groups[chosen].append(draw)
        sums[chosen] += len(draw[0].ids)
    return groups


def _alike(draws: Drawn, size: int) -> list[Drawn]:
    """Groups of `size` documents of about equal length, which need the least padding."""
    return [draws[first : first + size] for first in range(0, len(draws), size)]
