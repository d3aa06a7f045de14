"""Train several segmentation models side by side on one GPU, each in a process of its own, without Ray.

The networks of the `local` preset are so small that one training leaves most of a large GPU idle and waits for its own
processor core. Volumes are read and resampled once, by all cores, for all of them. Otherwise every process runs the
same training function as a Ray Train worker and the models are the same as `rollama train seg` makes.

    python -m benchmarks.side_by_side WORKSPACE --dataset D --jobs jobs.json --seconds 240

`jobs.json`: name -> list of KEY=VALUE overrides of the preset. With `--seconds` all jobs get the same number of steps,
as many as fit, by a short trial of all of them at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import pickle
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rollama.core.files import new_file, write_text

TRIAL, COUNTED = 60, 20
"""Steps of a trial, and the last of them by which the time of a step is judged."""
FORK, SPAWN = multiprocessing.get_context("fork"), multiprocessing.get_context("spawn")
"""Preparing needs no GPU; who uses one must not be forked from a process that may have looked for it."""
Jobs = Mapping[str, Sequence[str]]


def prepared_volumes(dataset: Path, overrides: Sequence[str], processes: int) -> dict[str, Any]:
    """Every training case on the model's grid, by case id; `overrides` say what of a case is kept."""
    from rollama.data.case import Split
    from rollama.data.dataset import open_dataset
    from rollama.presets import load_preset

    config = load_preset("local", overrides).segmentation
    cases = open_dataset(dataset, check_volumes=False).select(Split.TRAIN)
    with FORK.Pool(processes) as pool:
        found = pool.starmap(_prepare, [(case, config) for case in cases], chunksize=4)
    return {case.case_id: volumes for case, volumes in zip(cases, found, strict=True)}


def _prepare(case: Any, config: Any) -> Any:
    import torch

    from rollama.data.transforms import prepare

    torch.set_num_threads(1)
    return prepare(case, config)


class Enough(Exception):
    """A trial has seen what it wants to know."""


@dataclass
class Stopwatch:
    """Training callback: keeps the seconds of the steps; ends a trial."""

    last: int | None
    seconds: list[float] = field(default_factory=list)

    def after_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Called by the training loop."""
        self.seconds.append(metrics["seconds"])
        if step == self.last:
            raise Enough


def train(
    overrides: Sequence[str], dataset: Path, out: Path, steps: int, volumes: Mapping[str, Any], trial: bool
) -> float:
    """Train one model in this process, or try some steps of it; the median seconds of the last steps."""
    import torch

    from rollama.presets import load_preset
    from rollama.segmentation import trainer
    from rollama.training.worker import Worker, inference_device

    torch.set_num_threads(1)
    plain = vars(trainer)["prepare"]
    vars(trainer)["prepare"] = lambda case, config: volumes.get(case.case_id) or plain(case, config)  # read already
    changes = [f"segmentation.steps={steps}", f"segmentation.scale.checkpoint_every={steps}", *overrides]
    config = load_preset("local", changes).segmentation
    watch = Stopwatch(TRIAL if trial else None)
    with tempfile.TemporaryDirectory() as scratch, contextlib.suppress(Enough):
        worker = Worker(
            rank=0, world=1, device=inference_device(), resume=None, scratch=Path(scratch),
            report=lambda *_: None, metrics_path=out.parent / f"{out.name}.metrics.jsonl", callbacks=(watch,),
        )  # fmt: skip
        trainer.train_segmentation(config, dataset, out, worker)
    return float(median(watch.seconds[-COUNTED:]))


def obedience(model: Path, dataset: Path, limit: int) -> str:
    """How a model follows edited plans of `limit` held-out cases a centre: one line of Markdown."""
    from benchmarks.segmentation_study import measure
    from rollama.evaluation.counterfactual import ALL_EDITS
    from rollama.evaluation.edits import MATTERS

    records = measure(model, dataset, {}, model.parent.parent / "study", limit, True)

    def known(source: str, metric: str) -> list[float]:
        found = [record.metrics[metric] for record in records if record.source == source and metric in record.metrics]
        return [value for value in found if not math.isnan(value)]

    followed = [known(source, "success") for source in (*MATTERS, ALL_EDITS, "boost on or off")]
    cells = [f"{100 * sum(values) / len(values):.0f}" if values else "-" for values in followed]
    for source, metric in ((ALL_EDITS, "leakage"), ("reference", "dice"), ("reference", "wrong_side")):
        values = known(source, metric)
        cells.append(f"{sum(values) / max(1, len(values)):.3f}")
    return " | ".join([model.name, *cells])


def run_all(
    jobs: Jobs, dataset: Path, folder: Path, steps: int, volumes: Path, limit: int, trial: bool = False
) -> dict[str, float]:
    """Train all jobs at once; name -> seconds a step. A job that fails is reported and left out."""
    folder.mkdir(parents=True, exist_ok=True)
    queue = SPAWN.Queue()
    processes = [
        SPAWN.Process(target=_one, args=(queue, jobs[name], dataset, folder / name, steps, volumes, limit, trial))
        for name in jobs
    ]
    for process in processes:
        process.start()
    found = dict(queue.get() for _ in processes)
    for process in processes:
        process.join()
    for name in sorted(name for name, seconds in found.items() if seconds is None):
        print(f"{name}: failed, see {folder / name}.log", flush=True)
    return {name: seconds for name, seconds in found.items() if seconds is not None}


def _one(
    queue: Any, overrides: Sequence[str], dataset: Path, out: Path, steps: int, volumes: Path, limit: int, trial: bool
) -> None:
    sys.stdout = sys.stderr = (out.parent / f"{out.name}.log").open("w", buffering=1)
    try:
        with volumes.open("rb") as stream:
            kept = pickle.load(stream)
        seconds = train(overrides, dataset, out, steps, kept, trial)
        if limit and not trial:
            write_text(out.parent / f"{out.name}.md", obedience(out, dataset, limit) + "\n")
        queue.put((out.name, seconds))
    except BaseException:  # whatever it is: the others go on, and the parent must not wait for ever
        traceback.print_exc()
        queue.put((out.name, None))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--jobs", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="some of the jobs")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seconds", type=float, help="as many steps as fit, instead of --steps")
    parser.add_argument("--measure", type=int, default=0, metavar="N", help="edited plans of N held-out cases a centre")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    jobs = json.loads(given.jobs.read_text())
    jobs = {name: jobs[name] for name in given.only or jobs}
    from rollama.language.base import base_folder

    started = time.perf_counter()
    os.environ["OMP_NUM_THREADS"] = "1"
    base_folder("smollm2")
    keep = next((list(found) for found in jobs.values() if any("plan_edits" in one for one in found)), [])
    volumes = given.workspace / "volumes.pickle"
    if not volumes.is_file():
        given.workspace.mkdir(parents=True, exist_ok=True)
        with new_file(volumes) as temporary, temporary.open("wb") as stream:
            pickle.dump(prepared_volumes(given.dataset, keep, given.processes), stream, protocol=5)
    print(f"volumes prepared after {time.perf_counter() - started:.0f} s", flush=True)
    steps = given.steps
    if given.seconds:
        with tempfile.TemporaryDirectory() as trial:
            slowest = max(run_all(jobs, given.dataset, Path(trial), TRIAL, volumes, 0, trial=True).values())
        steps = int(given.seconds / slowest)
        print(f"trial: {slowest:.3f} s a step; {steps} steps, after {time.perf_counter() - started:.0f} s", flush=True)
    found = run_all(jobs, given.dataset, given.workspace / "models", steps, volumes, given.measure)
    for name, seconds in found.items():
        print(f"{name}: {steps} steps of {seconds:.3f} s", flush=True)
    for path in sorted((given.workspace / "models").glob("*.md")):
        print(path.read_text(), end="")
    print(f"done after {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
