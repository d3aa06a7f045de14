"""Faults for tests of resume, as picklable callbacks of the training loop."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from rollama.training.loop import Metrics


@dataclass
class KillOnce:
    """SIGKILL the process that first reaches `step`; `marker` remembers over the restart that it happened.

    Steps of the tiny models take milliseconds, and Ray's controller takes note of a checkpoint about once a second: the
    process waits until `snapshot`, the controller's record, names `checkpoint` before it dies.
    """

    step: int
    marker: str
    snapshot: str
    checkpoint: str

    def after_step(self, step: int, metrics: Metrics) -> None:
        """Die without a chance to clean up."""
        if step != self.step:
            return
        try:
            handle = os.open(self.marker, os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return
        os.close(handle)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not self._recorded():
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)

    def _recorded(self) -> bool:
        path = Path(self.snapshot)
        return path.is_file() and self.checkpoint in path.read_text()


def losses(path: Path) -> dict[int, float]:
    """Loss of each step as finally logged."""
    from rollama.training.metrics_log import read_metrics

    return {row["step"]: row["loss"] for row in read_metrics(path)}
