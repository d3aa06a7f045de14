"""Evaluate trained models as Ray tasks: text and segmentation side by side, then segmentation on generated plans.

python -m ray_jobs.evaluate --models /models --dataset /data/cohort --out /runs/evaluation
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray_jobs.common import entry, own_errors, start_ray, worker_environment
from rollama.core.registry import Decoding
from rollama.evaluation import jobs

PARTS = 4
"""Parts that run side by side at most."""


def evaluate(
    models: Path,
    dataset: Path,
    out: Path,
    limit: int | None = None,
    progress: Callable[[float, str], None] | None = None,
    zero_shot: int = jobs.ZERO_SHOT_CASES,
    only: jobs.Part | None = None,
    gpus: int = 0,
    counterfactual: bool = False,
    trust: bool = False,
    plan_decoding: Decoding = Decoding.FREE,
    corrupted: Sequence[str] = (),
) -> dict[str, Any]:
    """Measure the models of `models` (sub-folders s, p, seg, seg-vision) on held-out cases and write the results.

    Args:
        limit: at most this many cases a centre and split.
        progress: called with (share done in [0, 1], what is running).
        zero_shot: also measure the untrained base, on at most this many external cases (0: not at all).
        only: score only the text models, or only the segmentation on reference plans.
        gpus: the parts share so many; without one they run on the CPU.
        counterfactual: also give each CT edited plans and measure what changes where.
        trust: also measure calibration, and whether wrong anatomy is noticed.
        plan_decoding: how P writes its plans.
        corrupted: also score inputs that are spoilt in these ways (`rollama.evaluation.corruptions`).

    Raises RollamaError: a model or the dataset cannot be used.
    """
    import ray

    job = jobs.open_job(
        models.resolve(), dataset.resolve(), out.resolve(), limit, only, counterfactual, trust, plan_decoding,
        corrupted,
    )  # fmt: skip
    start_ray(2)
    environment = {"env_vars": worker_environment(threads=1, gpu=bool(gpus))}
    share = gpus / PARTS

    def task(function: Callable[..., Any]) -> Any:
        return ray.remote(num_cpus=1, num_gpus=share, runtime_env=environment)(function)

    parts: list[Any] = []
    if only is not jobs.Part.SEG:
        parts.append(task(jobs.score_text).remote(job))
    if only is not jobs.Part.TEXT:
        parts.append(task(jobs.score_segmentation).remote(job))
    if only is None:
        parts.append(task(jobs.score_chain).remote(job, parts[0]))
    if zero_shot and only is not jobs.Part.SEG:
        parts.append(task(jobs.score_zero_shot).remote(job, zero_shot))
    waiting, furthest = list(parts), 0.0
    try:
        with own_errors():
            while waiting:
                done, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=1.0)
                ray.get(done)  # raises at once what a task raised
                if progress:
                    share, note = jobs.progress_of(job, len(parts), len(parts) - len(waiting))
                    furthest = max(furthest, share)  # a part with several passes starts anew with each
                    progress(furthest, note)
            records = [record for part in ray.get(parts) for record in part]
    finally:
        for part in waiting:
            ray.cancel(part, force=True)
    return jobs.write_results(job, records, limit, zero_shot)


def main() -> None:
    """Command line of the cluster entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("models", "dataset", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    evaluate(arguments.models, arguments.dataset, arguments.out, arguments.limit)


if __name__ == "__main__":
    entry(main)
