"""Evaluate models of a running training in Ray tasks of their own.

Rank 0 stores each model below the run's `evaluations/` and starts a task for it. The task asks for no CPU, so that it
starts even where the workers have all of them, and leaves its result beside the model; so a restarted worker knows what
was evaluated before it.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from ray_jobs.common import worker_environment
from ray_jobs.remote import EVALUATIONS
from rollama.core.config import build
from rollama.core.registry import Task
from rollama.core.storage import Storage, open_storage
from rollama.data.case import Split, TextCase
from rollama.data.dataset import open_texts
from rollama.data.store import resolve
from rollama.evaluation.fields import compare_plans, read_generated
from rollama.evaluation.rouge import rouge
from rollama.text.config import TextConfig
from rollama.training.worker import Evaluated

METRICS = {Task.SUMMARY: "rougeL", Task.PLAN: "fields_mean"}

log = logging.getLogger(__name__)


@dataclass
class RayEvaluations:
    """Implements `training.worker.Evaluations` for a run and its data set."""

    run: Storage
    dataset: str
    task: Task
    config: TextConfig
    scratch: Path
    started: dict[int, Any] = field(default_factory=dict)

    def submit(self, step: int, folder: Path) -> None:
        """Store the model, forget an earlier result of the step, start its task."""
        import ray

        place = self.run.child(f"{EVALUATIONS}/{_name(step)}")
        for path in sorted(folder.iterdir()):
            place.upload(path, path.name)
        self.run.delete(f"{EVALUATIONS}/{_name(step)}.json")
        gpus = self.config.monitor.gpus
        environment = {"env_vars": worker_environment(threads=1, gpu=bool(gpus))}
        remote = ray.remote(num_cpus=0, num_gpus=gpus, max_retries=1, runtime_env=environment)(evaluate_model)
        self.started[step] = remote.remote(
            self.run.uri, step, self.dataset, str(self.task), self.config.model_dump(mode="json")
        )

    def collect(self) -> Sequence[Evaluated]:
        """Results of all models that are there. A failed evaluation costs a warning, not the training."""
        import ray

        for step, task in self.started.items():
            try:
                ray.get(task)
            except Exception as error:  # whatever a task may die of
                log.warning("the evaluation after step %d failed: %s", step, str(error).strip().splitlines()[-1])
        found = []
        for name in self.run.names(EVALUATIONS):
            if name.count("/") == 1 and name.endswith(".json"):
                folder = (self.run.local or self.scratch) / name.removesuffix(".json")
                if self.run.local is None:
                    for file in self.run.names(name.removesuffix(".json")):
                        (self.scratch / file).parent.mkdir(parents=True, exist_ok=True)
                        self.run.download(file, self.scratch / file)
                found.append(Evaluated(folder=folder, **json.loads(self.run.read_text(name) or "{}")))
        return sorted(found, key=lambda item: item.step)


def evaluate_model(run: str, step: int, dataset: str, task: str, config: dict[str, Any]) -> None:
    """What the task runs: generate for the first validation cases and write the mean figure."""
    place = open_storage(run)
    chosen, what = build(TextConfig, config, "text configuration"), Task(task)
    with tempfile.TemporaryDirectory(prefix="rollama-evaluation-") as scratch:
        folder = place.local / EVALUATIONS / _name(step) if place.local else Path(scratch)
        if place.local is None:
            for name in place.names(f"{EVALUATIONS}/{_name(step)}"):
                place.download(name, folder / name.rpartition("/")[2])
        cases = open_texts(resolve(dataset)).select(Split.VALIDATION)[: chosen.monitor.cases]
        value = validate(folder, what, cases, chosen)
    result = {"step": step, "metric": METRICS[what], "value": value, "cases": len(cases)}
    place.write_text(f"{EVALUATIONS}/{_name(step)}.json", json.dumps(result) + "\n")


def validate(folder: Path, task: Task, cases: Sequence[TextCase], config: TextConfig) -> float:
    """Mean ROUGE-L (S) or share of key fields right (P) of a model's texts from reference inputs, in [0, 1]."""
    from rollama.text.generate import TextModel

    model = TextModel.load({task: folder}, config.dtype, base=config.base, allow_download=config.allow_download)
    texts = [case.note if task is Task.SUMMARY else case.summary for case in cases]
    answers = [answer.text for answer in model.generate(task, texts)]
    if task is Task.SUMMARY:
        return mean(rouge(case.summary, text)["rougeL"] for case, text in zip(cases, answers, strict=True))
    compared = (compare_plans(case.plan, read_generated(text)) for case, text in zip(cases, answers, strict=True))
    return mean(fields["fields_mean"] for fields in compared if fields["fields_mean"] == fields["fields_mean"])


def _name(step: int) -> str:
    return f"step-{step:06d}"
