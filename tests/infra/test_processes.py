"""Only what we started is ended, and a recycled process id is not ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.cluster import processes


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(processes, "RECORDS", tmp_path / "processes")
    monkeypatch.setattr(processes, "LOGS", tmp_path / "logs")
    return tmp_path


def test_starts_records_and_stops() -> None:
    processes.start("sleeper", ["sleep", "60"])
    pid = processes.recorded()["sleeper"]
    assert pid != os.getpid()
    processes.check_alive("sleeper")
    processes.stop("sleeper")
    assert processes.recorded() == {}
    assert processes.start_time(pid) is None


def test_an_end_is_told_with_the_log() -> None:
    processes.start("talker", [sys.executable, "-c", "print('no such flag: --foo')"])
    pid = json.loads((processes.RECORDS / "talker.json").read_text())["pid"]
    os.waitpid(pid, 0)
    with pytest.raises(processes.StartError, match=r"talker ended(.|\n)*no such flag: --foo"):
        processes.check_alive("talker")


def test_a_recycled_id_is_left_alone() -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        processes.RECORDS.mkdir()
        (processes.RECORDS / "old.json").write_text(json.dumps({"pid": bystander.pid, "started": 1}))
        assert processes.recorded() == {}
        processes.stop("old")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_stubborn_process_is_killed() -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    )
    processes.start("stubborn", [sys.executable, "-c", code])
    log = processes.LOGS / "stubborn.log"
    for _ in range(200):
        if "ready" in log.read_text():
            break
        time.sleep(0.05)
    pid = processes.recorded()["stubborn"]
    processes.stop("stubborn", patience_s=0.5)
    assert processes.start_time(pid) is None


def test_finds_processes_by_their_argument(tmp_path: Path) -> None:
    marker = str(tmp_path / "socket")
    child = subprocess.Popen(["sleep", "60"], env={})
    shim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", marker])
    try:
        deadline = time.monotonic() + 10
        while not (found := processes.with_argument(Path(sys.executable).name, marker)):
            assert time.monotonic() < deadline  # a command line is empty for a moment after exec
        assert found == [shim.pid]
        assert processes.with_argument("containerd-shim-runc-v2", marker) == []
    finally:
        for process in (child, shim):
            process.kill()
            process.wait()
