"""Ray that comes up late is started again; what else goes wrong is told at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ray_jobs import common
from ray_jobs.remote import FAILURE
from rollama.core.errors import ClusterError, ConfigError
from rollama.core.lock import alone
from rollama.core.storage import open_storage
from rollama.text.config import TextConfig

SAID = "The current node timed out during startup. This could happen because some of the raylet failed to startup"


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[Exception | None]:
    """What each start of Ray comes to; what is left of it at the end was not tried."""
    import ray

    outcomes: list[Exception | None] = []

    def init(**_: Any) -> None:
        if outcome := outcomes.pop(0):
            raise outcome

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    return outcomes


def test_late_twice_and_then_there(starts: list[Exception | None], caplog: pytest.LogCaptureFixture) -> None:
    starts += [Exception(SAID), Exception(SAID), None]
    common.start_ray(2)
    assert not starts and caplog.text.count("starting it again") == 2


def test_always_late_is_told_in_words(starts: list[Exception | None]) -> None:
    starts += [Exception(SAID)] * common.STARTS
    with pytest.raises(ClusterError, match="too busy"):
        common.start_ray(2)


def test_another_fault_is_not_repeated(starts: list[Exception | None]) -> None:
    starts += [ValueError("no such option"), None]
    with pytest.raises(ValueError, match="no such option"):
        common.start_ray(2)
    assert starts == [None]


def test_ray_still_says_it_so() -> None:
    """The words that are looked for are Ray's own, of the installed version."""
    import inspect

    from ray._private import node

    assert common.LATE in " ".join(inspect.getsource(node.Node.__init__).replace('"', " ").split())


def test_a_second_process_does_not_join_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(common, "PATIENCE_S", 0.0)
    started: list[int] = []
    monkeypatch.setattr(common, "start_ray", started.append)
    (tmp_path / "data").mkdir()
    run = tmp_path / "run"
    run.mkdir()
    (run / FAILURE).write_text("{}")
    with alone(run, "training"), pytest.raises(ConfigError, match=f"{run}: another run of this training is going on"):
        common.launch(print, TextConfig(), tmp_path / "data", run, tmp_path / "out")
    assert not started, "it is told before Ray is started"
    assert (run / FAILURE).is_file(), "what the other run keeps is left alone"


def test_a_file_system_without_locks_is_told_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("rollama.core.lock.fcntl.flock", refuse)
    with common._alone(open_storage(tmp_path / "run")):
        assert (tmp_path / "run").is_dir()
    assert "cannot be locked (No locks available)" in caplog.text
