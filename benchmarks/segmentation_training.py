"""Training steps of SEG against a plain loop: python -m benchmarks.segmentation_training [--steps 16] [--repeats 2]

Same network, cases, augmentation (MONAI's transforms), noise and optimizer. The plain loop is what a MONAI or
Lightning script does: volumes cached in memory, the next batch made when it is asked for, the frozen text model run
with its graph at every step. Ours makes batches ahead, runs the text model without graph on most steps
(`prompt_every`) and keeps freed memory. Every cell is a process of its own; the first steps are left out (they take
memory from the system).

What a step spends on text at the published size (384 x 384 x 128) cannot be run on this machine; it is counted in
multiplications on the meta device, for SmolLM2-135M and for a 7B encoder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 4
FLOAT32 = ["segmentation.encoder_dtype=float32", "segmentation.amp=none"]
CELLS: dict[str, dict[str, Any]] = {
    "plain loop": {"plain": True, "every": 1},
    "plain loop, freed memory kept": {"plain": True, "every": 1, "keep": True},
    "ours, prompts learn every step": {"every": 1},
    "ours, every 4th step (the presets)": {"every": 4},
    "ours, vision-only": {"every": 1, "method": "vision"},
}


def run_cell(options: Mapping[str, Any], dataset: Path, steps: int, dtype: str) -> dict[str, Any]:
    """Train some steps; seconds of each, and of them the seconds in the text model and waiting for data."""
    import torch

    from rollama.data.case import Split
    from rollama.data.dataset import open_dataset
    from rollama.presets import load_preset
    from rollama.segmentation.checkpoint import build_network
    from rollama.segmentation.engine import DdpEngine
    from rollama.segmentation.method import build_method
    from rollama.segmentation.trainer import TrainingData
    from rollama.training.ahead import Ahead
    from rollama.training.worker import Worker, keep_memory

    torch.set_num_threads(2)
    plain = bool(options.get("plain"))
    changes = [f"segmentation.prompt_every={options['every']}", *(FLOAT32 if dtype == "float32" else [])]
    if "method" in options:
        changes.append(f"segmentation.method={options['method']}")
    config = load_preset("demo", changes).segmentation
    device = torch.device("cpu")
    if not plain or options.get("keep"):
        keep_memory(device)
    network, _ = build_network(config, device)
    engine = DdpEngine(network, config, 0, 1, device)
    worker = Worker(0, 1, device, None, Path("unused"), lambda *_: None, Path("unused"))
    cases = open_dataset(dataset, check_volumes=False).select(Split.TRAIN)[: config.batch * steps]
    source, method = TrainingData(config, cases, network, worker), build_method(config)
    for row in range(len(cases)):  # both have their volumes in memory
        source.prepared_case(row)
    text = _Clock()
    if network.text_encoder is not None:
        network.text_encoder.forward = text.timed(network.text_encoder.forward)  # type: ignore[method-assign]
    found: dict[str, list[float]] = {"step": [], "text": [], "data": []}
    with Ahead(source.batches, steps) as ahead:
        for step in range(steps):
            text.seconds = 0.0
            begun = time.perf_counter()
            waited = 0.0
            batches = iter(source.batches(step)) if plain else iter(ahead(step))
            while True:
                asked = time.perf_counter() if plain or waited else begun
                batch = next(batches, None)
                waited += time.perf_counter() - asked
                if batch is None:
                    break
                loss, _ = method.forward(engine.module, batch)
                engine.backward(loss, batch.last)
            engine.step(1e-3)
            found["step"].append(time.perf_counter() - begun)
            found["text"].append(text.seconds)
            found["data"].append(waited)
    return {name: values[WARM_UP:] for name, values in found.items()} | {"batch": config.batch}


class _Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Any) -> Any:
        """The function, its seconds added up. Its backward pass is not in them."""

        def call(*args: Any, **more: Any) -> Any:
            begun = time.perf_counter()
            result = function(*args, **more)
            self.seconds += time.perf_counter() - begun
            return result

        return call


def counted_share() -> list[str]:
    """Rows of the share of a step's multiplications that are the text model's, at several sizes."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM

    from benchmarks.full_size import ENCODERS
    from rollama.presets import load_preset
    from rollama.segmentation.model import SegmentationNet
    from rollama.segmentation.text_encoder import PlanTokens, TextEncoder

    sizes = {"80 x 64 x 48, 16 to 128 channels": "demo", "384 x 384 x 128, 48 to 384 channels": "cluster-seg"}
    rows = []
    for name, shape in ENCODERS.items():
        for size, preset in sizes.items():
            config = load_preset(preset).segmentation
            with torch.device("meta"):
                network = SegmentationNet(config, TextEncoder(config, LlamaForCausalLM(LlamaConfig(**shape)), None))
                plan = PlanTokens(torch.zeros(1, 45, dtype=torch.long), torch.tensor([45], device="cpu"))
                image, origin = torch.zeros(1, 1, *config.patch), torch.zeros(1, 3)
            assert network.text_encoder is not None
            with torch.no_grad(), FlopCounterMode(display=False) as text:
                words = network.text_encoder(plan).used.words
            with torch.no_grad(), FlopCounterMode(display=False) as net:
                network.segment(image, origin, words)
            # Network: forward and twice as much back. Text: noisy forward; when prompts learn also the clean one and
            # the gradient of the noisy one's input (its weights are frozen).
            image_work = 3 * net.get_total_flops()
            shares = []
            for every in (1, 4):
                work = text.get_total_flops() * (1 + 2 / every)
                shares.append(f"{work / (work + image_work):.0%}")
            total = sum(value.numel() for value in network.parameters())
            rows.append(
                f"| {name} | {size} | {text.get_total_flops() / 1e9:.0f} | {net.get_total_flops() / 1e9:.0f} | "
                f"{' | '.join(shares)} | {total / 1e6:.1f} |"
            )
    return rows


def measure(options: Mapping[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """Run a cell in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.segmentation_training", "--cell", json.dumps(dict(options))]
    command += ["--dataset", str(arguments.dataset), "--steps", str(arguments.steps), "--dtype", arguments.dtype]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{options}: failed\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    """Command line."""
    from rollama.cli.cohort import make_once
    from rollama.core.cache import cache_folder
    from rollama.language.speed import faster_dtype
    from rollama.presets import load_preset

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--dataset", type=Path, help="Default: the demo's cohort, made once in the cache.")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="Default: what the processor is faster in.")
    parser.add_argument("--count", action="store_true", help="Only count multiplications.")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        print(json.dumps(run_cell(json.loads(arguments.cell), arguments.dataset, arguments.steps, arguments.dtype)))
        return
    if not arguments.count:
        work = cache_folder() / "benchmarks"
        arguments.dtype = arguments.dtype or faster_dtype(work / "arithmetic.json")
        if arguments.dataset is None:
            cohort = load_preset("demo").cohort
            arguments.dataset = cache_folder() / "cohorts" / cohort.digest()[:16]
            make_once(arguments.dataset, cohort)
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in CELLS}
        for _ in range(arguments.repeats):
            for name, options in CELLS.items():
                found[name].append(measure(options, arguments))
                print(name, median(found[name][-1]["step"]), file=sys.stderr)
        print(f"{arguments.dtype}, batch of {found['plain loop'][0]['batch']} patches")
        print("| | patches a second | times the plain loop | text, forward | waiting for data |")
        print("|---|---|---|---|---|")
        for name, runs in found.items():
            mean = [sum(run["step"]) / len(run["step"]) for run in runs]
            rates = [run["batch"] / value for run, value in zip(runs, mean, strict=True)]
            ratios = [
                sum(other["step"]) / len(other["step"]) / value
                for other, value in zip(found["plain loop"], mean, strict=True)
            ]
            shares = [sum(map(sum, (run[part] for run in runs))) / sum(sum(run["step"]) for run in runs)
                      for part in ("text", "data")]  # fmt: skip
            print(
                f"| {name} | {median(rates):.2f} [{min(rates):.2f}, {max(rates):.2f}] | {median(ratios):.2f} "
                f"[{min(ratios):.2f}, {max(ratios):.2f}] | {shares[0]:.0%} | {shares[1]:.1%} |"
            )
    print("\n| encoder | patch | text, 1e9 operations | network | share of a step, prompts every step | every 4th "
          "| trained parameters (million) |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    print("\n".join(counted_share()))


if __name__ == "__main__":
    main()
