"""What Ray Train and DeepSpeed cost, and what a second worker brings: python -m benchmarks.scaling [--repeats 3]

NEFTune on SmolLM2-135M with LoRA, the rows and settings of `text_peers`, in the arithmetic that the processor is faster
in. Each line runs in processes of its own; turns alternate; ratios are taken within a turn, medians and ranges over
turns. The first steps of each run take memory from the system and are left out.

* overhead: the same steps and layers in a plain loop, under DeepSpeed, and under DeepSpeed in a Ray Train worker; two
  threads each
* scaling: one worker with one thread, and two workers with one thread each, under Ray Train and DeepSpeed
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.text_peers import BARE, ROOT, WARM_UP, measure, prepared_dataset, spread
from rollama.core.cache import cache_folder
from rollama.language.speed import faster_dtype
from rollama.training.metrics_log import read_metrics

RAY = """
import json, sys
from pathlib import Path
from ray_jobs.train_text import train_text
from rollama.core.config import build
from rollama.core.registry import Task
from rollama.text.config import TextConfig
given = json.loads(sys.argv[1])
out = Path(given["out"])
config = build(TextConfig, given["config"], "benchmark")
train_text(config, Task(given["task"]), Path(given["dataset"]), out / "run", out / "model")
"""


def under_ray(base: dict[str, Any], workers: int, threads: int) -> float:
    """Median seconds of a step under Ray Train."""
    config = {
        "base": "smollm2", "method": "neftune", "batch": base["batch"], "micro_batch": base["batch"] // workers,
        "steps": base["steps"], "dtype": base["dtype"], "max_tokens": 4096, "lr": 1e-3,
        "scale": {"workers": workers, "cpus_per_worker": threads, "checkpoint_every": base["steps"]},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        given = {"config": config, "task": base["task"], "dataset": base["dataset"], "out": folder}
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MLFLOW_TRACKING_URI": ""}
        done = subprocess.run(
            [sys.executable, "-c", RAY, json.dumps(given)], cwd=ROOT, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        rows = read_metrics(Path(folder) / "run" / "metrics.jsonl")
    return median(row["seconds"] for row in rows[WARM_UP:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--task", default="s", choices=["s", "p"])
    given = parser.parse_args()
    if given.steps <= WARM_UP:
        parser.error(f"--steps: more than the {WARM_UP} that are left out")
    dtype = faster_dtype(cache_folder() / "arithmetic.json")
    base = {"dataset": str(prepared_dataset()), "task": given.task, "steps": given.steps, "batch": 8, "dtype": dtype}
    found: dict[str, list[float]] = {name: [] for name in ("plain loop", "DeepSpeed", "Ray", "Ray 1x1", "Ray 2x1")}
    for turn in range(given.repeats):
        jobs = {
            "plain loop": lambda: measure({**base, **BARE, "fused": True, "micro": 8})["step"],
            "DeepSpeed": lambda: measure({**base, "cell": "ours", "method": "neftune", "micro": 8})["step"],
            "Ray": lambda: under_ray(base, 1, 2),
            "Ray 1x1": lambda: under_ray(base, 1, 1),
            "Ray 2x1": lambda: under_ray(base, 2, 1),
        }
        for name in list(jobs) if turn % 2 == 0 else list(reversed(jobs)):
            found[name].append(jobs[name]())
            print(f"turn {turn + 1}: {name}: {found[name][-1]:.2f} s a step", file=sys.stderr, flush=True)

    def ratio(one: str, other: str, factor: float = 1.0) -> str:
        return spread([a / b / factor for a, b in zip(found[one], found[other], strict=True)])

    print(f"task {given.task}, 8 texts a step, {dtype}, {given.steps} steps, {given.repeats} turns\n")
    print("| | s a step |\n|---|---|")
    for name, values in found.items():
        print(f"| {name} | {spread(values)} |")
    print(f"\nDeepSpeed / plain loop {ratio('DeepSpeed', 'plain loop')}, Ray and DeepSpeed / plain loop "
          f"{ratio('Ray', 'plain loop')}, efficiency of two workers {ratio('Ray 1x1', 'Ray 2x1', 2.0)}")  # fmt: skip


if __name__ == "__main__":
    main()
