"""Make the next step's batches while this step computes.

Reading, resampling and augmenting a case takes as long on a node with GPUs as the step itself. Everything random in a
batch is a function of step and case, so making it earlier, in another thread, changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

Batches = Callable[[int], Iterable[Any]]


class Ahead:
    """`batches(step)`, with step + 1 already under way. A context manager; leaving it waits for what is under way.

    What `batches` raises is raised when its step is asked for.
    """

    def __init__(self, batches: Batches, steps: int) -> None:
        """Take what makes a step's batches, and the number of steps, after which nothing is made."""
        self._batches, self._steps = batches, steps
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: tuple[int, Future[list[Any]]] | None = None

    def __call__(self, step: int) -> list[Any]:
        """The batches of a step."""
        waiting, self._next = self._next, None
        now = waiting[1] if waiting is not None and waiting[0] == step else self._submit(step)
        if step + 1 < self._steps:
            self._next = step + 1, self._submit(step + 1)
        return now.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _submit(self, step: int) -> Future[list[Any]]:
        return self._pool.submit(lambda: list(self._batches(step)))
