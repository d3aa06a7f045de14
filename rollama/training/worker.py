"""What a training function needs to know about where it runs, without knowing Ray.

The launcher (ray_jobs) fills a `Worker` in; tests fill it in by hand for a single process.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from rollama.training.checkpoint import Report
from rollama.training.config import ScaleConfig
from rollama.training.loop import Callback

__all__ = ["ScaleConfig", "Worker", "inference_device"]


def inference_device() -> torch.device:
    """Where a trained model runs unless told otherwise: the GPU that this process was given, else the CPU.

    Ray hides every GPU from a task or replica that asked for none.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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
