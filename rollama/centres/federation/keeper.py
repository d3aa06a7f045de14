"""Who serves a coordinator goes on with a run that was cut off: nobody may be there to give the command again.

On a cluster the pod that is replaced takes with it the SuperLink, Flower's process of the run, and whoever had started
it. The record says whether a run was going on, the lock whether one is.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from rollama.centres.federation import processes, record
from rollama.centres.federation.state import RECORD
from rollama.core.errors import DataError
from rollama.core.lock import held

LOOK_EVERY_S = 20.0
ATTEMPTS = 10
"""Runs that are begun again while one coordinator serves; a SuperLink that just starts may cost some of them."""


class Keeper:
    """Looks now and then, and begins `rollama federation run` where a run was cut off."""

    def __init__(self, folder: Path, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.folder, self.say, self.clock = folder, say, clock
        self.runner: subprocess.Popen[bytes] | None = None
        self.left, self.next = ATTEMPTS, clock()

    def look(self) -> None:
        """Begin, if there is something to go on with and nobody is at it."""
        if self.clock() < self.next:
            return
        self.next = self.clock() + LOOK_EVERY_S
        if self.runner is not None and self.runner.poll() is None:
            return
        with contextlib.suppress(DataError):  # a damaged record is told by whoever runs the next round
            if self.left and record.unfinished(self.folder / RECORD) and not held(self.folder):
                self.left -= 1
                self.say("a run was cut off; going on with it" + ("" if self.left else ", for the last time"))
                self.runner = processes.runner(self.folder)

    def end(self) -> None:
        """Stop watching; the run itself belongs to the SuperLink."""
        if self.runner is not None and self.runner.poll() is None:
            self.runner.terminate()
