"""Evaluate models of a running training in Ray tasks of their own.

Rank 0 stores each model below the run's `evaluations/` and starts a task for it. The task asks for no CPU, so that it
starts even where the workers have all of them, and leaves its result beside the model; so a restarted worker knows what
was evaluated before it.
"""

from __future__ import annotations

import json
import logging
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from ray_jobs.common import worker_environment
from ray_jobs.remote import EVALUATIONS, evaluation_results, fetched
from rollama.core.config import build
from rollama.core.errors import ConfigError
from rollama.core.registry import Task
from rollama.core.storage import Storage, open_storage
from rollama.data.case import TextCase
from rollama.data.dataset import open_texts
from rollama.data.store import resolve
from rollama.data.tokenization import source_and_answer
from rollama.evaluation.fields import compare_plans, read_generated
from rollama.evaluation.rouge import rouge
from rollama.text.config import TextConfig
from rollama.text.monitor import validation_cases
from rollama.training.centres import restricted
from rollama.training.worker import Evaluated

PATIENCE_S = 3600.0
METRICS = {Task.SUMMARY: "rougeL", Task.PLAN: "fields_mean"}

log = logging.getLogger(__name__)


@dataclass
class RayEvaluations:
    """Implements `training.worker.Evaluations` for a run and its data set.

    One task runs at a time: each holds a base model in memory, and they are slower than training on few cores.
    """

    run: Storage
    dataset: str
    task: Task
    config: TextConfig
    scratch: Path
    started: dict[int, Any] = field(default_factory=dict)

    def submit(self, step: int, folder: Path) -> None:
        """Store the model, forget an earlier result of the step, start its task behind the others."""
        place = self.run.child(f"{EVALUATIONS}/{_name(step)}")
        for path in sorted(folder.iterdir()):
            place.upload(path, path.name)
        self.run.delete(f"{EVALUATIONS}/{_name(step)}.json")
        self._start(step)

    def go_on(self, finished: int) -> None:
        """Evaluate what an earlier attempt stored up to step `finished` but did not see evaluated."""
        names = self.run.names(EVALUATIONS)
        for step in sorted({int(name.split("/")[1][5:11]) for name in names if name.count("/") == 2}):
            if step <= finished and f"{EVALUATIONS}/{_name(step)}.json" not in names:
                self._start(step)

    def collect(self) -> Sequence[Evaluated]:
        """Results of all models. A failed evaluation costs a warning, not the training."""
        import ray

        tasks = list(self.started.values())
        late = ray.wait(tasks, num_returns=len(tasks), timeout=PATIENCE_S)[1] if tasks else []
        for step, task in self.started.items():
            try:
                if task in late:
                    raise TimeoutError(f"not done {PATIENCE_S / 60:.0f} minutes after the training")
                ray.get(task)
            except Exception as error:  # whatever a task may die of
                log.warning("the evaluation after step %d failed: %s", step, str(error).strip().splitlines()[-1])
        return [Evaluated(**item) for item in evaluation_results(self.run)]

    def fetch(self, step: int) -> Path:
        """The model of a step; the others are deleted, their results stay."""
        for name in self.run.names(EVALUATIONS):
            if name.count("/") == 2 and name.split("/")[1] != _name(step):
                self.run.delete(name)
        return fetched(self.run, f"{EVALUATIONS}/{_name(step)}", self.scratch)

    def _start(self, step: int) -> None:
        import ray

        gpus = self.config.monitor.gpus
        environment = {"env_vars": worker_environment(threads=1, gpu=bool(gpus))}
        remote = ray.remote(num_cpus=0, num_gpus=gpus, max_retries=1, runtime_env=environment)(evaluate_model)
        before = list(self.started.values())[-1:]  # in a list: it is waited for, and its failure is not handed on
        self.started[step] = remote.remote(
            self.run.uri, step, self.dataset, str(self.task), self.config.model_dump(mode="json"), before
        )


def check_gpus(config: TextConfig) -> None:
    """Refuse a share of a GPU for evaluations that the workers leave nothing of: it would be waited for in vain.

    Raises:
        ConfigError: names what there is and what is needed.
    """
    import ray

    there = ray.cluster_resources().get("GPU", 0.0)
    needed = config.scale.workers * config.scale.gpus_per_worker + config.monitor.gpus
    if config.monitor.gpus and there < needed:
        raise ConfigError(
            f"monitor.gpus: {config.monitor.gpus:g} beside the workers needs {needed:g} GPUs, found {there:g}"
        )


def evaluate_model(run: str, step: int, dataset: str, task: str, config: dict[str, Any], before: list[Any]) -> None:
    """What the task runs: generate for the validation cases and write the mean figure."""
    import ray

    if before:
        ray.wait(before)
    place = open_storage(run)
    chosen, what = build(TextConfig, config, "text configuration"), Task(task)
    with tempfile.TemporaryDirectory(prefix="rollama-evaluation-") as scratch:
        folder = fetched(place, f"{EVALUATIONS}/{_name(step)}", Path(scratch))
        data = restricted(open_texts(resolve(dataset)), chosen.centres, chosen.seed)
        cases = validation_cases(data, chosen.monitor.cases)
        value = validate(folder, what, cases, chosen)
    result = {"step": step, "metric": METRICS[what], "value": value, "cases": len(cases)}
    place.write_text(f"{EVALUATIONS}/{_name(step)}.json", json.dumps(result) + "\n")


def validate(folder: Path, task: Task, cases: Sequence[TextCase], config: TextConfig) -> float:
    """Mean ROUGE-L (S) or share of key fields right (P) of a model's texts from reference inputs, in [0, 1]."""
    from rollama.text.generate import TextModel

    model = TextModel.load({task: folder}, config.dtype, base=config.base, allow_download=config.allow_download)
    texts = [source_and_answer(task, case)[0] for case in cases]
    answers = [answer.text for answer in model.generate(task, texts)]
    if task is Task.SUMMARY:
        return mean(rouge(case.summary, text)["rougeL"] for case, text in zip(cases, answers, strict=True))
    compared = (compare_plans(case.plan, read_generated(text)) for case, text in zip(cases, answers, strict=True))
    return mean(fields["fields_mean"] for fields in compared if not math.isnan(fields["fields_mean"]))


def _name(step: int) -> str:
    return f"step-{step:06d}"
