"""Is the model good, while it trains? Generation beside the training, and the best model instead of the last.

The loss does not say when a model begins to write worse texts. Generating inside the training loop stops all workers,
and hangs or crawls under ZeRO-3, whose ranks must all take part. So only the trained parameters are gathered; an
artefact is written and handed over, and a task elsewhere generates (see `ray_jobs.monitor`) while training goes on.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from rollama.text.checkpoint import load_text_model
from rollama.text.engine import DeepSpeedEngine
from rollama.training.loop import Metrics
from rollama.training.worker import Evaluated, Evaluations

Save = Callable[[Path, Mapping[str, torch.Tensor]], None]
"""Write an artefact: (folder, trained parameters by the module's names)."""

log = logging.getLogger(__name__)


class Monitor:
    """Callback that hands the model over every `every` steps and at the last one."""

    def __init__(
        self, engine: DeepSpeedEngine, save: Save, every: int, steps: int, scratch: Path, to: Evaluations | None
    ) -> None:
        self.engine, self.save, self.every, self.steps = engine, save, every, steps
        self.scratch, self.to = scratch, to

    def after_step(self, step: int, metrics: Metrics) -> None:
        """Hand over when it is time (collective: every rank takes part in gathering)."""
        if step % self.every and step != self.steps:
            return
        tensors = self.engine.parameters()
        if self.to is None:  # another rank than the first
            return
        folder = self.scratch / f"model-{step:06d}"
        self.save(folder, tensors)
        self.to.submit(step, folder)
        shutil.rmtree(folder, ignore_errors=True)


def best_of(found: Sequence[Evaluated]) -> tuple[Evaluated, dict[str, torch.Tensor]]:
    """The evaluated model with the highest figure (the earliest of equals) and its tensors.

    Raises:
        CheckpointError: its artefact is damaged.
    """
    best = max(found, key=lambda item: (item.value, -item.step))
    log.info("step %d is kept: %s %.3f on %d validation cases", best.step, best.metric, best.value, best.cases)
    return best, load_text_model(best.folder).tensors
