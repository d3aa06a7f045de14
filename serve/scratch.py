"""Folders for a patient's CT and results while a job is at work, gone afterwards also when the process was killed.

A process that is killed cannot tidy up, and what it leaves is patients' data. So every folder holds a file that its
process keeps locked; the lock ends with the process, however that ends. Whoever finds a folder with an unlocked file
may delete it: servers look when they look for lost jobs. Locks hold between containers on one machine, where process
ids do not.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "rollama-serve-"
LOCK = "lock"
YOUNG_S = 10.0
"""A folder is not yet locked in the moment after it is made."""


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder in the system's place for temporary files, until the block ends."""
    with (
        tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name,
        (Path(name) / LOCK).open("w") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = Path(name) / "work"
        folder.mkdir()
        yield folder


def sweep_scratch() -> int:
    """Delete what killed processes of this user left; how many folders."""
    gone = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            status = folder.lstat()
            mine = status.st_uid == os.geteuid() and not folder.is_symlink()
            if not mine or time.time() - status.st_mtime < YOUNG_S:
                continue
            with (folder / LOCK).open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except (BlockingIOError, FileNotFoundError):  # at work, or gone in this moment
            continue
        gone += 1
    return gone
