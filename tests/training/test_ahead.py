"""Batches made ahead are the same batches, in the same order, each once."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from rollama.training.ahead import Ahead


def test_every_step_is_made_once_and_in_another_thread() -> None:
    made: list[int] = []
    threads: set[int] = set()

    def batches(step: int) -> Iterator[int]:
        made.append(step)
        threads.add(threading.get_ident())
        yield from (10 * step, 10 * step + 1)

    with Ahead(batches, 4) as ahead:
        assert [ahead(step) for step in range(1, 4)] == [[10, 11], [20, 21], [30, 31]]
    assert made == [1, 2, 3]
    assert threading.get_ident() not in threads


def test_the_next_step_is_under_way_before_it_is_asked_for() -> None:
    second = threading.Event()

    def batches(step: int) -> list[int]:
        if step == 1:
            second.set()
        return [step]

    with Ahead(batches, 3) as ahead:
        ahead(0)
        assert second.wait(10)


def test_an_error_is_raised_at_its_own_step() -> None:
    def batches(step: int) -> list[int]:
        if step == 1:
            raise ValueError("broken case")
        return [step]

    with Ahead(batches, 3) as ahead:
        assert ahead(0) == [0]
        with pytest.raises(ValueError, match="broken case"):
            ahead(1)
