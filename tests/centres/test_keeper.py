"""A run that was cut off is gone on with, one at a time, and not for ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rollama.centres.federation import processes, record
from rollama.centres.federation.keeper import ATTEMPTS, LOOK_EVERY_S, Keeper
from rollama.core.lock import alone


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Commands that stand for `rollama federation run`; each waits until it is ended."""
    found: list[subprocess.Popen[bytes]] = []

    def runner(_: Path) -> subprocess.Popen[bytes]:
        found.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        return found[-1]

    monkeypatch.setattr(processes, "runner", runner)
    return found


def test_what_was_cut_off_is_begun_again_and_watched(tmp_path: Path, begun: list[subprocess.Popen[bytes]]) -> None:
    clock, said = Clock(), list[str]()
    keeper = Keeper(tmp_path, said.append, clock)

    def look(count: int) -> None:
        clock.now += LOOK_EVERY_S
        keeper.look()
        keeper.look()  # not at every look of who serves
        assert len(begun) == count

    look(0)  # nothing was ever run
    record.append(tmp_path / "record.jsonl", "started")
    with alone(tmp_path, "federation"):
        look(0)
    look(1)
    look(1)  # it is at it
    begun[0].kill()
    begun[0].wait()
    look(2)  # its SuperLink was just starting, say
    keeper.end()
    assert begun[1].wait(10) != 0
    record.append(tmp_path / "record.jsonl", "stopped", reason="a person stopped it")
    look(2)
    assert len(said) == 2


def test_it_gives_up_some_time(tmp_path: Path, begun: list[subprocess.Popen[bytes]]) -> None:
    clock, said = Clock(), list[str]()
    keeper = Keeper(tmp_path, said.append, clock)
    record.append(tmp_path / "record.jsonl", "started")
    for _ in range(ATTEMPTS + 3):
        clock.now += LOOK_EVERY_S
        keeper.look()
        begun[-1].kill()
        begun[-1].wait()
    assert len(begun) == ATTEMPTS and said[-1].endswith("for the last time")
