"""Train the plan-guided segmentation network on Ray Train. Locally through `rollama train seg`; on a cluster:

python -m ray_jobs.train_segmentation --preset cluster-seg --dataset /data/cohort --run /runs/seg --out /models/seg
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray_jobs.common import OnStep, failures_recorded, launch, ray_worker
from rollama.core.config import build
from rollama.language.base import base_folder
from rollama.segmentation.config import SegConfig
from rollama.training.loop import Callback


def train_segmentation(
    config: SegConfig,
    dataset: Path,
    run: Path,
    out: Path,
    on_step: OnStep | None = None,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Train under `config.scale`; write the network to `out`. The same `run` folder resumes an interrupted run."""
    base_folder(config.encoder, config.allow_download)
    payload = {
        "config": config.model_dump(mode="json"),
        "dataset": str(dataset.resolve()),
        "out": str(out.resolve()),
    }
    launch(run, worker, payload, config.scale, on_step, callbacks)


def worker(payload: dict[str, Any]) -> None:
    """What every Ray Train worker runs."""
    from rollama.segmentation import trainer

    with failures_recorded(payload):
        config = build(SegConfig, payload["config"], "segmentation configuration")
        trainer.train_segmentation(config, Path(payload["dataset"]), Path(payload["out"]), ray_worker(payload))


def main() -> None:
    """Command line of the cluster entry point."""
    from rollama.presets import load_preset

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="local")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    for name in ("dataset", "run", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    config = load_preset(arguments.preset, arguments.set).segmentation
    train_segmentation(config, arguments.dataset, arguments.run, arguments.out)


if __name__ == "__main__":
    main()
