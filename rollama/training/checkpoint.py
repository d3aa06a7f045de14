"""Training checkpoints: whole state, cursor and configuration hash, on any number of workers.

A checkpoint is an artefact whose tensors are named by role (`param/...`, `exp_avg/...`, `exp_avg_sq/...`, ...) and
whose manifest holds the cursor: the number of finished steps. Nothing else is needed, because batch order, noise and
learning rate are functions of the step (see `sampler`, `schedule`). State that no rank can hold whole is written in
pieces (see `shards`); both forms are read on any number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from rollama.core.errors import CheckpointError
from rollama.training.artefact import load_artefact, read_manifest, save_artefact
from rollama.training.loop import Engine, Metrics
from rollama.training.shards import FORM, ShardedState, save_shards

Report = Callable[[int, Metrics, Path | None], None]
"""Called on every rank: (step, metrics, folder with this rank's files of the new checkpoint, or None)."""


def save_checkpoint(folder: Path, state: Mapping[str, torch.Tensor], step: int, config_hash: str) -> None:
    """Write a checkpoint of `step` finished steps."""
    save_artefact(folder, state, {"kind": "checkpoint", "step": step, "config_hash": config_hash})


def load_checkpoint(folder: Path, config_hash: str) -> tuple[Mapping[str, torch.Tensor], int]:
    """Read a checkpoint: (state, finished steps). State in pieces is read from the folder when it is used.

    Raises:
        CheckpointError: damaged, not a checkpoint, or of a run with another configuration.
    """
    manifest = read_manifest(folder)
    if manifest.get("kind") != "checkpoint":
        raise CheckpointError(f"{folder}: is a {manifest.get('kind')!r}, not a training checkpoint")
    if manifest.get("config_hash") != config_hash:
        raise CheckpointError(
            f"{folder}: was written with another configuration or data; choose another run name or restore the settings"
        )
    pieces = manifest.get("form") == FORM
    return ShardedState(folder) if pieces else load_artefact(folder)[0], int(manifest["step"])


class Checkpointer:
    """Callback that saves every `every` steps and at the last one, through the report function of the launcher."""

    def __init__(self, engine: Engine, scratch: Path, config_hash: str, every: int, steps: int, report: Report) -> None:
        self.engine, self.scratch, self.config_hash = engine, scratch, config_hash
        self.every, self.steps, self.report = every, steps, report

    def after_step(self, step: int, metrics: Metrics) -> None:
        """Save when it is time (collective: every rank takes part)."""
        if step % self.every and step != self.steps:
            return
        folder = self.scratch / f"step-{step:06d}"
        mine = self.engine.rank == 0 or self.engine.sharded
        if self.engine.sharded:
            manifest = {"kind": "checkpoint", "step": step, "config_hash": self.config_hash}
            save_shards(folder, self.engine.pieces(), manifest, self.engine.rank)
        else:
            state = self.engine.state()
            if self.engine.rank == 0:
                save_checkpoint(folder, state, step, self.config_hash)
        self.report(step, metrics, folder if mine else None)
