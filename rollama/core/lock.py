"""One run of something at a time: who runs it holds a file in its folder, and the end of that process lets go."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from rollama.core.errors import ConfigError

LOCK, LOCK_S, POLL_S = "run.lock", 60.0, 1.0

log = logging.getLogger(__name__)


@contextlib.contextmanager
def alone(folder: Path, what: str, patience_s: float = LOCK_S) -> Iterator[None]:
    """Hold the folder of a run; the process of one that was killed lets go of it within seconds.

    Args:
        folder: the run's.
        what: is run there, for the message: `training`.
        patience_s: seconds to wait for whoever holds it.

    Raises:
        ConfigError: another process holds it.
        OSError: the file system knows no locks.
    """
    with (folder / LOCK).open("w") as stream:
        deadline, told = time.monotonic() + patience_s, False
        while not _taken(stream):
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"{folder}: another run of this {what} is going on (it holds {LOCK}); wait for it or end it"
                )
            if not told:
                log.warning("%s: another run of this %s is going on; waiting up to %.0f s", folder, what, patience_s)
                told = True
            time.sleep(POLL_S)
        yield


def held(folder: Path) -> bool:
    """Whether a run is going on at this moment. Asking takes nothing, so two who ask do not see each other."""
    try:
        stream = (folder / LOCK).open()
    except OSError:  # nobody has ever run here, or it is not ours to read
        return False
    with stream:
        return not _taken(stream, fcntl.LOCK_SH)


def _taken(stream: TextIO, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(stream, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
