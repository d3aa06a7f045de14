import io

import pytest
from rich.console import Console

from rollama.cli import progress


def plain():
    return Console(file=io.StringIO(), force_terminal=False, width=200)


def test_logs_get_lines_with_the_time_left(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    console = plain()
    with progress.bar("training", 100, console) as update:
        for step in range(0, 101, 10):
            update(step, note=f"loss {step}")
            now[0] += 10
    text = console.file.getvalue()
    assert "training ..." in text
    assert "training: 20/100, about 80 s left loss 20" in text
    assert "training: 100/100 loss 100" in text  # what may hold for minutes is told
    assert text.count("\n") < 10  # not a line a step
    assert "training: done in 110 s" in text


def test_terminals_get_a_bar():
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    with progress.bar("cohort", 4, console) as update:
        update(2, 8)
        update(8)
    assert "8/8" in console.file.getvalue()


def test_the_estimate_follows_the_pace(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    trip = progress.Itinerary({"a": 100, "b": 100, "c": 200}, plain())
    assert trip.left() == 400
    with trip.phase("a"):
        now[0] += 200  # twice as slow as planned
    assert trip.left() == pytest.approx(300 * (200 + progress.PRIOR_S) / (100 + progress.PRIOR_S))
    trip.announce()
    assert "3 phases, about 7 minutes" in trip.console.file.getvalue()
