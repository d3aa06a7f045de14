"""What a training function needs to know about where it runs, without knowing Ray.

The launcher (ray_jobs) fills a `Worker` in; tests fill it in by hand for a single process.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from rollama.training.checkpoint import Report
from rollama.training.config import ScaleConfig
from rollama.training.loop import Callback

__all__ = ["Evaluated", "Evaluations", "ScaleConfig", "Worker", "inference_device", "keep_memory"]


@dataclass(frozen=True)
class Evaluated:
    """A model during training: after which step, and its figure on validation cases (more is better)."""

    step: int
    metric: str
    value: float
    cases: int


class Evaluations(Protocol):
    """Evaluates models beside the training that makes them."""

    def submit(self, step: int, folder: Path) -> None:
        """Take the artefact in `folder` and evaluate it; returns before that is done."""
        ...

    def collect(self) -> Sequence[Evaluated]:
        """Wait for all that were submitted, also by earlier attempts of the run; in the order of their steps."""
        ...

    def fetch(self, step: int) -> Path:
        """The artefact of a step; those of other steps may be deleted."""
        ...


def inference_device() -> torch.device:
    """Where a trained model runs unless told otherwise: the GPU that this process was given, else the CPU.

    Ray hides every GPU from a task or replica that asked for none.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def keep_memory(device: torch.device) -> None:
    """On a CPU under glibc: keep freed memory for the next step instead of giving it back to the system.

    A step frees gigabytes of activations at once; taking them anew, page by page, costs a tenth of the next step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if device.type == "cpu" and mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, -1)  # never trim the heap
        mallopt(_M_MMAP_MAX, 0)  # and take large blocks from it too


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Names of glibc's malloc.h."""


@dataclass(frozen=True)
class Worker:
    """This process in the group.

    Attributes:
        rank, world: position and size of the group; the process group is already initialised when `world > 1`
            (and also for `world == 1` under Ray).
        device: where to train.
        resume: folder of the checkpoint to go on from, or None.
        scratch: local folder for checkpoints before they are reported.
        report: see `training.checkpoint.Report`; every rank calls it, it is a barrier.
        metrics_path: where rank 0 appends its metrics.
        attempt: 0 for the first start of this worker group, then counting restarts.
        callbacks: handed in by the launcher and called on every rank after the trainer's own, each step.
        evaluations: on rank 0, where the launcher offers it.
        init: folder of the artefact whose weights training starts from, or None (see `training.start`).
    """

    rank: int
    world: int
    device: torch.device
    resume: Path | None
    scratch: Path
    report: Report
    metrics_path: Path
    attempt: int = 0
    callbacks: tuple[Callback, ...] = ()
    evaluations: Evaluations | None = None
    init: Path | None = None
