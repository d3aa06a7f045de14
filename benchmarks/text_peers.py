"""CEFTune against the usual trainers: python -m benchmarks.text_peers [--repeats 3] [--steps 9] [--task s]

Same model (SmolLM2-135M), rows, order, LoRA, AdamW, clipping, one process with two threads. The cells run in turn, each
in a process of its own, and the turns are repeated, so that a slow minute of the machine hits all alike. Every ratio is
taken within a turn; the table gives the median and the range over turns. Peers need TRL and datasets, which are not
part of the project:

    .venv/bin/uv pip install --target ~/.cache/rollama/peers --no-deps trl datasets dill xxhash multiprocess pandas \\
        python-dateutil pytz tzdata

All compute in the arithmetic that the processor is faster in (`--dtype` chooses). The peers run at their best, found by
trying: memory is kept for the next step (ours does that by itself; `--default-memory` leaves the peers as users start
them); in bfloat16 the adapter is float32 under autocast; no activation checkpointing (TRL has it on by default); rows
of a step sorted by length; the whole batch at once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from rollama.cli.cohort import make_once
from rollama.core.cache import cache_folder
from rollama.language.speed import faster_dtype
from rollama.presets import load_preset

ROOT = Path(__file__).resolve().parents[1]
PEERS = cache_folder() / "peers"
BARE = {"cell": "bare", "mask": False, "autocast": False, "packed": True, "head": "answer"}
WARM_UP = 5
"""Steps left out: until then a process takes its memory from the system page by page, whoever trains."""
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**64 - 1)}
"""What `training.worker.keep_memory` sets in ours, for all cells."""
CELLS: dict[str, dict[str, Any]] = {
    "plain": {"cell": "ours", "method": "plain"},
    "NEFTune": {"cell": "ours", "method": "neftune"},
    "CEFTune": {"cell": "ours", "method": "ceftune"},
    "Trainer": {"cell": "hf"},
    "TRL": {"cell": "trl"},
}
"""What is compared. All NEFTune but the first and the third."""
VARIANTS: dict[str, dict[str, Any]] = {
    "TRL, defaults (activation checkpointing)": {"cell": "trl", "checkpointing": True},
    "TRL, padding-free": {"cell": "trl", "free": True},
    "TRL, bfloat16 without autocast": {"cell": "trl", "autocast": False},
    "TRL, half the batch at once": {"cell": "trl", "half": True},
    "CEFTune, half the batch at once": {"cell": "ours", "method": "ceftune", "half": True},
    "CEFTune hidden": {"cell": "ours", "method": "ceftune", "config": {"consistency": "hidden"}},
    "CEFTune every 4th step": {"cell": "ours", "method": "ceftune", "config": {"consistency_every": 4}},
}
SPLIT: dict[str, dict[str, Any]] = {
    "TRL": {"cell": "trl"},
    "loop like a trainer's": {**BARE, "mask": True, "autocast": True, "packed": False, "head": "full"},
    "+ head on answers only, no logits kept": {**BARE, "mask": True, "autocast": True, "packed": False},
    "+ bfloat16 adapter, no autocast": {**BARE, "mask": True, "packed": False},
    "+ no attention mask": {**BARE, "packed": False},
    "+ no padding": BARE,
    "+ fused layers": {**BARE, "fused": True},
}
"""NEFTune in a plain loop; each line from the second on has one difference more than the line before."""


def prepared_dataset() -> Path:
    """The tiny preset's cohort, made once in the cache."""
    config = load_preset("tiny").cohort
    dataset = cache_folder() / "cohorts" / config.digest()[:16]
    make_once(dataset, config)
    return dataset


def measure(options: Mapping[str, Any]) -> dict[str, Any]:
    """Run one cell: answer and input tokens a second, median seconds of a step, MiB, losses."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1", "PYTHONPATH": f"{PEERS}"}
    environment |= KEEP_MEMORY if options.get("keep_memory", True) else {}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.text_cells", json.dumps(options)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{options['cell']} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    seconds = found["seconds"][WARM_UP:]
    rates = {name: sum(found[name][WARM_UP:]) / sum(seconds) for name in ("answer", "input")}
    return {**rates, "step": median(seconds), "mib": found["peak_mib"], "losses": found["losses"]}


def turns(
    cells: Mapping[str, dict[str, Any]], repeats: int, base: Mapping[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    """Measure all cells one after the other, `repeats` times, in alternating order."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in cells}
    for turn in range(repeats):
        for name in list(cells) if turn % 2 == 0 else list(reversed(cells)):
            options = {"micro": base["batch"] // (2 if cells[name].get("half") else 1), **base, **cells[name]}
            found[name].append(measure(options))
            print(f"turn {turn + 1}: {name}: {found[name][-1]['step']:.2f} s a step", file=sys.stderr, flush=True)
    return found


def spread(values: list[float], digits: int = 2) -> str:
    """Median and range."""
    low, middle, high = min(values), median(values), max(values)
    return f"{middle:.{digits}f}" if low == high else f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(found: Mapping[str, list[dict[str, Any]]], reference: str) -> list[str]:
    """A Markdown table; ratios of answer tokens a second to `reference`, turn by turn."""
    lines = [
        f"| | answer tokens/s | input tokens/s | s a step | times {reference} | peak MiB | last loss |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, runs in found.items():
        ratios = [run["answer"] / other["answer"] for run, other in zip(runs, found[reference], strict=True)]
        lines.append(
            f"| {name} | {spread([run['answer'] for run in runs], 1)} | {spread([run['input'] for run in runs], 0)} | "
            f"{spread([run['step'] for run in runs])} | {spread(ratios)} | {spread([run['mib'] for run in runs], 0)} | "
            f"{runs[-1]['losses'][-1]:.3f} |"
        )
    return lines


def curves(found: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """Loss of each step."""
    steps = len(next(iter(found.values()))[0]["losses"])
    lines = ["| step | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    for step in range(steps):
        values = [f"{runs[-1]['losses'][step]:.3f}" for runs in found.values()]
        lines.append(f"| {step + 1} | " + " | ".join(values) + " |")
    return lines


def main() -> None:
    """Measure and print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--task", default="s", choices=["s", "p"])
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], help="default: what is faster here")
    parser.add_argument("--default-memory", action="store_true", help="peers as users start them; ours keeps its own")
    parser.add_argument("--only", choices=["cells", "variants", "split"], help="one table")
    given = parser.parse_args()
    if given.steps <= WARM_UP:
        parser.error(f"--steps: more than the {WARM_UP} that are left out")
    dtype = given.dtype or faster_dtype(cache_folder() / "arithmetic.json")
    base = {
        "keep_memory": not given.default_memory,
        "dataset": str(prepared_dataset()),
        "task": given.task,
        "steps": given.steps,
        "batch": given.batch,
        "dtype": dtype,
    }
    print(f"task {given.task}, {given.batch} texts a step, {dtype}, {given.steps} steps, {given.repeats} turns\n")
    if given.only in (None, "cells"):
        found = turns(CELLS, given.repeats, base)
        print("\n".join([*table(found, "TRL"), "", *curves(found), ""]), flush=True)
        steps = [[run["step"] for run in found[name]] for name in ("CEFTune", "NEFTune")]
        mib = [[run["mib"] for run in found[name]] for name in ("CEFTune", "NEFTune")]
        print(f"CEFTune / NEFTune: step {spread([a / b for a, b in zip(*steps, strict=True)])}, "
              f"peak memory {spread([a / b for a, b in zip(*mib, strict=True)])}\n", flush=True)  # fmt: skip
    if given.only in (None, "variants"):
        found = turns({"TRL": CELLS["TRL"], "CEFTune": CELLS["CEFTune"], **VARIANTS}, given.repeats, base)
        print("\n".join([*table(found, "TRL"), ""]), flush=True)
    if given.only in (None, "split"):
        cells = {name: cell for name, cell in SPLIT.items() if dtype == "bfloat16" or "autocast" not in name}
        found = turns({**cells, "NEFTune": CELLS["NEFTune"]}, given.repeats, base)
        print("\n".join([*table(found, "TRL"), ""]), flush=True)


if __name__ == "__main__":
    main()
