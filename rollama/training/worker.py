"""What a training function needs to know about where it runs, without knowing Ray.

The launcher (ray_jobs) fills a `Worker` in; tests fill it in by hand for a single process.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field

from rollama.core.config import StrictModel
from rollama.training.checkpoint import Report
from rollama.training.loop import Callback


class ScaleConfig(StrictModel):
    """How many workers, with what, and how the run survives failures."""

    workers: int = Field(2, ge=1, description="Ray Train workers (processes)")
    gpus_per_worker: float = Field(0, ge=0, le=1, description="0 trains on CPU over gloo, 1 on GPU over NCCL")
    cpus_per_worker: int = Field(1, ge=1, description="CPU cores and threads of a worker")
    memory_gib_per_worker: float | None = Field(None, gt=0, description="memory to reserve, if the cluster counts it")
    checkpoint_every: int = Field(20, ge=1, description="optimizer steps between checkpoints")
    keep_checkpoints: int = Field(2, ge=1)
    max_failures: int = Field(3, ge=0, description="worker failures survived before the run is given up")


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
