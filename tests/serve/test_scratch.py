"""Temporary folders of the endpoint: gone after use, and after the death of whoever used them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from serve.scratch import PREFIX, scratch, sweep_scratch

LEFT = """
import os, signal
from serve.scratch import scratch
with scratch() as folder:
    (folder / "ct").write_text("a patient")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def age(place: Path) -> None:
    for folder in place.iterdir():
        os.utime(folder, (1, 1), follow_symlinks=False)


def test_it_is_empty_and_gone_afterwards(place: Path) -> None:
    with scratch() as folder:
        assert folder.is_relative_to(place) and not any(folder.iterdir())
        (folder / "ct").write_text("a patient")
    assert not any(place.iterdir())


def test_what_a_killed_process_left_is_deleted_and_what_is_in_use_is_not(place: Path) -> None:
    subprocess.run([sys.executable, "-c", LEFT], cwd=Path(__file__).resolve().parents[2], check=False)
    (left,) = place.iterdir()
    assert (left / "work" / "ct").is_file()
    assert sweep_scratch() == 0  # it might be one that is being made
    with scratch() as mine:
        (mine / "ct").write_text("another patient")
        age(place)
        assert sweep_scratch() == 1
        assert (mine / "ct").is_file() and not left.exists()


def test_a_link_of_that_name_is_left_alone(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "lock").write_text("")
    (place / f"{PREFIX}x").symlink_to(elsewhere)
    age(place)
    assert sweep_scratch() == 0 and elsewhere.is_dir()
