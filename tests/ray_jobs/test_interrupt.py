"""Ctrl-C in the middle of training, as a user presses it: one message, no half-written model, and it resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rollama.training.metrics_log import read_metrics
from tests.signals import hear_ctrl_c

pytestmark = pytest.mark.slow
STEPS = 60
SNAPSHOT = "checkpoint_manager_snapshot.json"


def start(workspace: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rollama", "train", "s", "--preset", "tiny", "--workspace", str(workspace),
               "--set", f"s.steps={STEPS}", "--set", "s.scale.checkpoint_every=5"]  # fmt: skip
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, env=os.environ, preexec_fn=hear_ctrl_c
    )


def test_ctrl_c_stops_cleanly_and_the_run_goes_on(tmp_path):
    process = start(tmp_path)
    deadline = time.monotonic() + 240
    # Steps take milliseconds here, and Ray takes note of a checkpoint about once a second.
    while not any("step-0000" in path.read_text() for path in tmp_path.glob(f"train/*/ray/{SNAPSHOT}")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "there is no checkpoint"
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, message = process.communicate(timeout=120)
    assert process.returncode == 130, message
    assert "run the same command again" in " ".join(message.split())
    assert "Traceback" not in message
    assert not (tmp_path / "models" / "s").exists()
    assert list(tmp_path.glob("models/.part*")) == []
    again = start(tmp_path)
    try:
        _, message = again.communicate(timeout=600)
    finally:
        again.kill()
    assert again.returncode == 0, message
    (log,) = tmp_path.glob("train/*/metrics.jsonl")
    rows = read_metrics(log)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert {row["attempt"] for row in rows} == {0, 1}, "some steps are of the first run, some of the second"
    assert (tmp_path / "models" / "s" / "manifest.json").is_file()
