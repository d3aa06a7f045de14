"""Patients share a network: turns, common batches, own faults."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from rollama.segmentation.pool import WindowPool
from rollama.segmentation.text_encoder import Words


class Network:
    """Each row's sum plus its word; remembers what came together; waits at the gate."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.gate, self.entered = threading.Event(), threading.Event()

    def __call__(self, patches: torch.Tensor, origin: torch.Tensor, words: Words | None) -> torch.Tensor:
        self.entered.set()
        assert self.gate.wait(10)
        if bool((patches < 0).any()):
            raise MemoryError
        self.batches.append(patches[:, 0, 0, 0, 0].tolist())
        said = torch.zeros(len(patches)) if words is None else words.states[:, 0, 0]
        return (patches + said[:, None, None, None, None]) * 2


@pytest.fixture
def network() -> Network:
    return Network()


def ask(pool: WindowPool, value: float, rows: int = 1, word: float | None = None, size: int = 2) -> torch.Tensor:
    words = None if word is None else Words(torch.full((rows, 1, 1), word))
    return pool(torch.full((rows, 1, size, 2, 2), value), torch.zeros(rows, 3), words)


@pytest.fixture
def pool(network: Network, request: pytest.FixtureRequest) -> Iterator[WindowPool]:
    made = WindowPool(network, getattr(request, "param", 0))
    yield made
    network.gate.set()
    made.close()
    made.thread.join(10)
    assert not made.thread.is_alive()


def together(pool: WindowPool, network: Network, *asked: dict[str, float]) -> list[object]:
    """Ask in this order while the network is busy with a first patient; the answers or errors."""
    with ThreadPoolExecutor(len(asked) + 1) as threads:
        first = threads.submit(ask, pool, 100.0)
        assert network.entered.wait(10)
        waiting = []
        for number, item in enumerate(asked, 1):
            waiting.append(threads.submit(ask, pool, **item))  # type: ignore[arg-type]
            end = time.monotonic() + 10
            while pool.asked.qsize() < number:
                assert time.monotonic() < end
        network.gate.set()
        first.result(10)
        return [one.exception(10) or one.result(10).flatten()[0].item() for one in waiting]


def test_patients_take_turns(pool: WindowPool, network: Network) -> None:
    assert together(pool, network, {"value": 1.0}, {"value": 2.0, "rows": 2}) == [2.0, 4.0]
    assert network.batches == [[100.0], [1.0], [2.0, 2.0]]


@pytest.mark.parametrize("pool", [40], indirect=True)
def test_windows_go_together_as_far_as_there_is_room(pool: WindowPool, network: Network) -> None:
    found = together(pool, network, *({"value": float(n), "rows": 2, "word": 0.5} for n in range(3)))
    assert found == [1.0, 3.0, 5.0]
    assert network.batches == [[100.0], [0.0, 0.0, 1.0, 1.0], [2.0, 2.0]], "five windows of eight voxels fit"


@pytest.mark.parametrize("pool", [10_000], indirect=True)
def test_what_differs_in_form_does_not_go_together(pool: WindowPool, network: Network) -> None:
    asked = ({"value": 1.0, "word": 0.0}, {"value": 2.0}, {"value": 3.0, "size": 4}, {"value": 4.0, "size": 4})
    assert together(pool, network, *asked) == [2.0, 4.0, 6.0, 8.0]
    assert network.batches == [[100.0], [1.0], [2.0], [3.0, 4.0]]


@pytest.mark.parametrize("pool", [10_000], indirect=True)
def test_a_failing_batch_is_tried_one_by_one(pool: WindowPool, network: Network) -> None:
    found = together(pool, network, {"value": 1.0}, {"value": -1.0}, {"value": 3.0})
    assert found[::2] == [2.0, 6.0] and isinstance(found[1], MemoryError)
