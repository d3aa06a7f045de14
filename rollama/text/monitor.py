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
from typing import Any

import torch

from rollama.core.errors import DataError
from rollama.core.registry import Task
from rollama.core.seeding import derive_seed
from rollama.data.case import Split, TextCase
from rollama.data.chat import form_of
from rollama.data.dataset import TextDataset
from rollama.data.tokenization import source_and_answer
from rollama.text.config import TextConfig
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


def best_of(found: Sequence[Evaluated]) -> Evaluated:
    """The evaluated model with the highest figure, the earliest of equals."""
    best = max(found, key=lambda item: (item.value, -item.step))
    log.info("step %d is kept: %s %.3f on %d validation cases", best.step, best.metric, best.value, best.cases)
    return best


def validation_cases(data: TextDataset, number: int) -> tuple[TextCase, ...]:
    """The validation cases that are generated for: the same each time, from all centres."""
    found = sorted(data.select(Split.VALIDATION), key=lambda case: derive_seed(case.case_id, "monitor"))
    return tuple(found[:number])


def check_validation(data: TextDataset, task: Task, config: TextConfig, tokenizer: Any, context: int) -> None:
    """Find out before training what would make every evaluation fail.

    Raises:
        DataError: there are no validation cases, texts that are empty or leave no room for an answer, or for P no plan
            that can be scored; names the cases.
    """
    cases = validation_cases(data, config.monitor.cases)
    every = f"monitor.every={config.monitor.every}"
    if not cases:
        raise DataError(f"{data.root}: no case in the validation split, which {every} needs")
    form = form_of(tokenizer, config.template)
    bad = []
    for case in cases:
        text, answer = source_and_answer(task, case)
        room = context - config.max_new_tokens - len(form.prompt(task, text))
        if not text.strip() or not answer.strip() or room < 0:
            bad.append(case.case_id)
    if bad:
        raise DataError(
            f"{data.root}: {every} cannot use the validation case(s) {', '.join(bad[:20])}: a text is empty, or leaves "
            f"no room for an answer of max_new_tokens={config.max_new_tokens} in the base's {context} tokens"
        )
    if task is Task.PLAN and all(case.plan is None for case in cases):
        raise DataError(f"{data.root}: {every} scores plans field by field, and no validation plan has the plan's form")
