"""Fine-tune S or P on Ray Train. Locally through `rollama train s|p`; on a cluster as the entry point of a RayJob:

python -m ray_jobs.train_text --preset cluster-7b --task s --dataset /data/cohort --run /runs/s --out /models/s
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ray_jobs.common import OnStep, entry, launch, read_arguments
from ray_jobs.monitor import RayEvaluations, check_gpus
from ray_jobs.remote import on_worker, starting
from rollama.core.config import build
from rollama.core.registry import Task
from rollama.core.storage import Location, open_storage
from rollama.language.base import base_folder
from rollama.text.config import TextConfig
from rollama.training.artefact import read_manifest
from rollama.training.loop import Callback


def train_text(
    config: TextConfig,
    task: Task,
    dataset: Location,
    run: Location,
    out: Location,
    on_step: OnStep | None = None,
    callbacks: Sequence[Callback] = (),
    init: Location | None = None,
) -> None:
    """Train under `config.scale`; write the adapter to `out`. The same `run` resumes an interrupted run.

    Arguments and errors are those of `common.launch`.
    """
    base_folder(config.base, config.allow_download)  # prepare once, before the workers need it
    launch(worker, config, dataset, run, out, on_step, callbacks, init, task=str(task))


def worker(payload: dict[str, Any]) -> None:
    """What every Ray Train worker runs."""
    from rollama.text import trainer

    with on_worker(payload) as (here, dataset, out):
        config = build(TextConfig, payload["config"], "text configuration")
        if config.monitor.every and here.rank == 0:
            task, run = Task(payload["task"]), open_storage(payload["run"])
            check_gpus(config)
            evaluations = RayEvaluations(run, payload["dataset"], task, config, here.scratch)
            if here.resume is not None:
                evaluations.go_on(int(read_manifest(here.resume)["step"]))
            here = replace(here, evaluations=evaluations)
        trainer.train_text(config, Task(payload["task"]), dataset, out, here)


def main() -> None:
    """Command line of the cluster entry point."""
    from rollama.presets import load_preset

    given = read_arguments(__doc__, task=True)
    task = Task(given.task)
    config = load_preset(given.preset, given.set).text(task)
    config = starting(config, given.init) if given.init else config
    train_text(config, task, given.dataset, given.run, given.out, init=given.init)


if __name__ == "__main__":
    entry(main)
