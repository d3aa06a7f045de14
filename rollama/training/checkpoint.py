"""Training checkpoints: whole state, cursor and configuration hash, on any number of workers.

A checkpoint is an artefact whose tensors are named by role (`param/...`, `exp_avg/...`, `exp_avg_sq/...`, ...) and
whose manifest holds the cursor: the number of finished steps. Nothing else is needed, because batch order, noise and
learning rate are functions of the step (see `sampler`, `schedule`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from rollama.core.errors import CheckpointError
from rollama.training.artefact import load_artefact, save_artefact
from rollama.training.loop import Engine, Metrics

Report = Callable[[int, Metrics, Path | None], None]
"""Called on every rank: (step, metrics, folder of the new checkpoint on rank 0, else None)."""


def save_checkpoint(folder: Path, state: Mapping[str, torch.Tensor], step: int, config_hash: str) -> None:
    """Write a checkpoint of `step` finished steps."""
    save_artefact(folder, state, {"kind": "checkpoint", "step": step, "config_hash": config_hash})


def load_checkpoint(folder: Path, config_hash: str) -> tuple[dict[str, torch.Tensor], int]:
    """Read a checkpoint: (state, finished steps).

    Raises:
        CheckpointError: damaged, not a checkpoint, or of a run with another configuration.
    """
    state, manifest = load_artefact(folder)
    if manifest.get("kind") != "checkpoint":
        raise CheckpointError(f"{folder}: is a {manifest.get('kind')!r}, not a training checkpoint")
    if manifest.get("config_hash") != config_hash:
        raise CheckpointError(
            f"{folder}: was written with another configuration or data; choose another run name or restore the settings"
        )
    return state, int(manifest["step"])


class Checkpointer:
    """Callback that saves every `every` steps and at the last one, through the report function of the launcher."""

    def __init__(self, engine: Engine, scratch: Path, config_hash: str, every: int, steps: int, report: Report) -> None:
        self.engine, self.scratch, self.config_hash = engine, scratch, config_hash
        self.every, self.steps, self.report = every, steps, report

    def after_step(self, step: int, metrics: Metrics) -> None:
        """Save when it is time (collective: every rank takes part)."""
        if step % self.every and step != self.steps:
            return
        state = self.engine.state()
        folder = None
        if self.engine.rank == 0:
            folder = self.scratch / f"step-{step:06d}"
            save_checkpoint(folder, state, step, self.config_hash)
        self.report(step, metrics, folder)
