"""Progress for people and for logs: a bar with the time left on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Update = Callable[..., None]
LINE_EVERY_S = 15.0


@contextmanager
def bar(title: str, total: int, console: Console | None = None) -> Iterator[Callable[[int, str], None]]:
    """Show one piece of work.

    Yields:
        a function `(done, note)`; `note` is a short remark such as the current loss.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        with _lines(title, total, console) as update:
            yield update
        return
    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=total, note="")
        yield lambda done, note="": progress.update(task, completed=done, note=note)


@contextmanager
def _lines(title: str, total: int, console: Console) -> Iterator[Callable[[int, str], None]]:
    started = last = time.monotonic()
    first: int | None = None

    def update(done: int, note: str = "") -> None:
        nonlocal last, first
        now = time.monotonic()
        first = done if first is None else first
        if now - last < LINE_EVERY_S:
            return
        last = now
        rate = (done - first) / (now - started) if done > first else 0.0
        left = f", about {(total - done) / rate:.0f} s left" if rate else ""
        console.print(f"{title}: {done}/{total}, {now - started:.0f} s{left} {note}", highlight=False)

    console.print(f"{title}: {total} to do", highlight=False)
    yield update
    console.print(f"{title}: done in {time.monotonic() - started:.0f} s", highlight=False)


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
            self.console.print(f"  {name:<42} {seconds:5.0f} s", highlight=False)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Mark a phase; prints when it starts and how long the whole still takes."""
        pending = [phase for phase in self.phases if phase not in self.spent]
        expected = sum(self.phases[phase] for phase in self.spent)
        observed = sum(self.spent.values())
        pace = observed / expected if expected > 60 else 1.0
        left = sum(self.phases[phase] for phase in pending) * pace
        number = len(self.spent) + 1
        self.console.print(
            f"[bold]\\[{number}/{len(self.phases)}] {name}[/] ({(time.monotonic() - self.started) / 60:.1f} min so far, "
            f"about {left / 60:.0f} min to go)",
            highlight=False,
        )
        begun = time.monotonic()
        yield
        self.spent[name] = time.monotonic() - begun
