"""Clients that ask again and again while something is done to what answers them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Answer = TypeVar("Answer")


@contextmanager
def steady(ask: Callable[[str], Answer], items: Sequence[str]) -> Iterator[list[tuple[str, Answer]]]:
    """One client an item; the answers as they come. What `ask` raises is raised at the end."""
    ended, answers = threading.Event(), list[tuple[str, Answer]]()

    def client(item: str) -> None:
        while not ended.is_set():
            answers.append((item, ask(item)))

    with ThreadPoolExecutor(len(items)) as pool:
        asking = [pool.submit(client, item) for item in items]
        try:
            yield answers
        finally:
            ended.set()
    for one in asking:
        one.result()
