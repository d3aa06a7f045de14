"""Rows in a cache: growing, leaving, copying keep what was written."""

from __future__ import annotations

import torch

from rollama.text.slots import STEP, Slots


def filled(lengths: list[int]) -> Slots:
    slots = Slots(2, 1, 4, torch.zeros(0))
    for length in lengths:
        row = slots.add()
        slots.reserve(length)
        slots.lengths[row] = length
        for layer, pair in enumerate(slots.buffers):
            for part, buffer in enumerate(pair):
                buffer[row, :, :length] = marks(row, layer, part, length)
    return slots


def marks(row: int, layer: int, part: int, length: int) -> torch.Tensor:
    return (1000 * row + 100 * layer + 50 * part + torch.arange(length, dtype=torch.float32))[None, :, None]


def check(slots: Slots, place: int, row: int, length: int) -> None:
    assert slots.lengths[place] == length
    for layer, pair in enumerate(slots.buffers):
        for part, buffer in enumerate(pair):
            wanted = marks(row, layer, part, length).expand(1, length, 4)
            assert torch.equal(buffer[place, :, :length], wanted)


def test_growing_in_both_directions_keeps_everything() -> None:
    slots = filled([3, STEP + 1, 10, 200])
    for row, length in enumerate([3, STEP + 1, 10, 200]):
        check(slots, row, row, length)
    before = slots.nbytes
    slots.reserve(200)
    assert slots.nbytes == before == 2 * 2 * slots.buffers[0][0].nbytes


def test_rows_leave() -> None:
    slots = filled([3, 5, 7, 9])
    slots.keep([1, 3])
    check(slots, 0, 1, 5)
    check(slots, 1, 3, 9)
    slots.keep([])
    assert slots.lengths == [] and slots.nbytes == 0
    assert slots.add() == 0


def test_copies_are_rows_of_their_own() -> None:
    slots = filled([3, 6])
    copies = slots.copies(1, 3)
    copies.buffers[0][0][0] = 7
    check(copies, 2, 1, 6)
    check(slots, 1, 1, 6)
