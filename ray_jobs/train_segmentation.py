"""Train the plan-guided segmentation network on Ray Train. Locally through `rollama train seg`; on a cluster:

python -m ray_jobs.train_segmentation --preset cluster-seg --dataset /data/cohort --run /runs/seg --out /models/seg
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray_jobs.common import OnStep, entry, launch, read_arguments
from ray_jobs.remote import on_worker, starting
from rollama.core.config import build
from rollama.core.storage import Location
from rollama.language.base import base_folder
from rollama.segmentation.config import SegConfig
from rollama.training.loop import Callback


def train_segmentation(
    config: SegConfig,
    dataset: Location,
    run: Location,
    out: Location,
    on_step: OnStep | None = None,
    callbacks: Sequence[Callback] = (),
    init: Location | None = None,
) -> None:
    """Train under `config.scale`; write the network to `out`. The same `run` resumes an interrupted run.

    Arguments and errors are those of `common.launch`.
    """
    base_folder(config.encoder, config.allow_download)
    launch(worker, config, dataset, run, out, on_step, callbacks, init)


def worker(payload: dict[str, Any]) -> None:
    """What every Ray Train worker runs."""
    from rollama.segmentation import trainer

    with on_worker(payload) as (here, dataset, out):
        trainer.train_segmentation(
            build(SegConfig, payload["config"], "segmentation configuration"), dataset, out, here
        )


def main() -> None:
    """Command line of the cluster entry point."""
    from rollama.presets import load_preset

    given = read_arguments(__doc__)
    config = load_preset(given.preset, given.set).segmentation
    config = starting(config, given.init) if given.init else config
    train_segmentation(config, given.dataset, given.run, given.out, init=given.init)


if __name__ == "__main__":
    entry(main)
