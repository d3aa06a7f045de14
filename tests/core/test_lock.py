"""One run at a time, across processes; a killed one lets go."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from rollama.core.errors import ConfigError
from rollama.core.lock import LOCK, alone, held

OTHER = """
import sys, time
from pathlib import Path
from rollama.core.lock import alone
with alone(Path(sys.argv[1]), "training"):
    print("mine", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    assert not held(tmp_path)
    with subprocess.Popen([sys.executable, "-c", OTHER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "mine\n"
        assert held(tmp_path)
        with (
            pytest.raises(ConfigError, match="another run of this training is going on"),
            alone(tmp_path, "training", 0.0),
        ):
            pass
        other.kill()
    assert not held(tmp_path)
    with alone(tmp_path, "training"):
        assert held(tmp_path)
    assert not held(tmp_path), "asking takes nothing"
    with (tmp_path / LOCK).open() as other_asks:
        fcntl.flock(other_asks, fcntl.LOCK_SH)
        assert not held(tmp_path)
