"""Fine-tune S or P on Ray Train. Locally through `rollama train s|p`; on a cluster as the entry point of a RayJob:

python -m ray_jobs.train_text --preset cluster-7b --task s --dataset /data/cohort --run /runs/s --out /models/s
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray_jobs.common import OnStep, failures_recorded, launch, ray_worker
from rollama.core.config import build
from rollama.core.registry import Task
from rollama.language.base import base_folder
from rollama.text.config import TextConfig
from rollama.training.loop import Callback


def train_text(
    config: TextConfig,
    task: Task,
    dataset: Path,
    run: Path,
    out: Path,
    on_step: OnStep | None = None,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Train under `config.scale`; write the adapter to `out`. The same `run` folder resumes an interrupted run."""
    base_folder(config.base, config.allow_download)  # prepare once, before the workers need it
    payload = {
        "config": config.model_dump(mode="json"),
        "task": str(task),
        "dataset": str(dataset.resolve()),
        "out": str(out.resolve()),
    }
    launch(run, worker, payload, config.scale, on_step, callbacks)


def worker(payload: dict[str, Any]) -> None:
    """What every Ray Train worker runs."""
    from rollama.text import trainer

    with failures_recorded(payload):
        config = build(TextConfig, payload["config"], "text configuration")
        trainer.train_text(
            config, Task(payload["task"]), Path(payload["dataset"]), Path(payload["out"]), ray_worker(payload)
        )


def main() -> None:
    """Command line of the cluster entry point."""
    from rollama.presets import load_preset

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="local")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--task", choices=list(Task), required=True)
    for name in ("dataset", "run", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    config = load_preset(arguments.preset, arguments.set).text(Task(arguments.task))
    train_text(config, Task(arguments.task), arguments.dataset, arguments.run, arguments.out)


if __name__ == "__main__":
    main()
