"""Progress for people and for logs: a bar with the time left on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_S = 15.0
PRIOR_S = 300.0
"""Seconds of work at the planned pace that the plan is trusted for, before the observed pace counts more."""


class Update(Protocol):
    """Report progress: units done, the total if it changed, a short remark such as the current loss."""

    def __call__(self, done: int, total: int | None = None, note: str = "") -> None: ...


@contextmanager
def bar(title: str, total: int, console: Console | None = None) -> Iterator[Update]:
    """Show one piece of work; yields the function to call as it advances."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        lines = _Lines(title, total, console)
        yield lines
        lines.close()
        return
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=total, note="")

        def update(done: int, total: int | None = None, note: str = "") -> None:
            if total is not None:
                progress.update(task, total=total)
            progress.update(task, completed=done, note=note)

        yield update


class _Lines:
    """Progress as plain lines, at most one every LINE_EVERY_S seconds."""

    def __init__(self, title: str, total: int, console: Console) -> None:
        self.title, self.total, self.console = title, total, console
        self.started = self.last = time.monotonic()
        self.first: int | None = None
        console.print(f"{title} ...", highlight=False)

    def __call__(self, done: int, total: int | None = None, note: str = "") -> None:
        self.total = total or self.total
        now = time.monotonic()
        if self.first is None:
            self.first, self.started = done, now
        if now - self.last < LINE_EVERY_S and not (note and done == self.total):  # the last remark may hold for minutes
            return
        self.last = now
        rate = (done - self.first) / (now - self.started) if done > self.first else 0.0
        left = f", about {(self.total - done) / rate:.0f} s left" if rate and done < self.total else ""
        self.console.print(f"{self.title}: {done}/{self.total}{left} {note}".rstrip(), highlight=False)

    def close(self) -> None:
        """Say that the work is finished."""
        self.console.print(f"{self.title}: done in {time.monotonic() - self.started:.0f} s", highlight=False)


@dataclass
class Itinerary:
    """The phases of a long command with their expected seconds; the rest of the estimate follows the observed pace."""

    phases: dict[str, float]
    console: Console
    started: float = field(default_factory=time.monotonic)
    spent: dict[str, float] = field(default_factory=dict)

    def announce(self) -> None:
        """Print the plan with its estimate."""
        total = sum(self.phases.values())
        self.console.print(f"{len(self.phases)} phases, about {total / 60:.0f} minutes on two cores:", highlight=False)
        for name, seconds in self.phases.items():
            self.console.print(f"  {name:<30} {seconds:5.0f} s", highlight=False)

    def left(self) -> float:
        """Seconds still expected: what is planned for the remaining phases, at the pace of the finished ones."""
        expected = sum(self.phases[phase] for phase in self.spent)
        pace = (sum(self.spent.values()) + PRIOR_S) / (expected + PRIOR_S)
        return sum(seconds for phase, seconds in self.phases.items() if phase not in self.spent) * pace

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Mark a phase: says what starts, how long the run has taken and how long it will."""
        number = len(self.spent) + 1
        minutes = (time.monotonic() - self.started) / 60
        self.console.print(
            f"[bold]\\[{number}/{len(self.phases)}] {name}[/] "
            f"({minutes:.1f} min so far, about {self.left() / 60:.0f} min to go)",
            highlight=False,
        )
        begun = time.monotonic()
        yield
        self.spent[name] = time.monotonic() - begun
