"""Faults for tests of resume, as picklable callbacks of the training loop."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from rollama.training.loop import Metrics


@dataclass
class KillOnce:
    """SIGKILL the process that first reaches `step`; `marker` remembers over the restart that it happened."""

    step: int
    marker: str

    def after_step(self, step: int, metrics: Metrics) -> None:
        """Die without a chance to clean up."""
        if step != self.step:
            return
        try:
            handle = os.open(self.marker, os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return
        os.close(handle)
        os.kill(os.getpid(), signal.SIGKILL)


def losses(path: Path) -> dict[int, float]:
    """Loss of each step as finally logged."""
    from rollama.training.metrics_log import read_metrics

    return {row["step"]: row["loss"] for row in read_metrics(path)}
