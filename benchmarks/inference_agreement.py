"""Does a faster look at a CT find the same target? python -m benchmarks.inference_agreement MODEL DATASET [--limit 6]

`segmentation_inference` times inference on one CT with weights that were fitted to it, whose masks say little. This one
takes a trained model and held-out patients: the mask of MONAI's sliding window over the whole scan (half an overlap,
Gaussian) is the peer's, and every setting of ours is compared with it and with the truth, on the model's grid. Seconds
are of this process and show a ratio, no more; volumes of a study's cohort are small.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from benchmarks.segmentation_inference import peer_predictor
from benchmarks.segmentation_study import held_out
from rollama.cli.progress import bar

PEER = "MONAI's sliding window, whole scan"
WHOLE: dict[str, Any] = {"crop": "volume", "overlap": 0.5, "skip_below": 0.0, "mirrored": False}
OURS: dict[str, dict[str, Any]] = {
    "ours, whole scan, all windows": WHOLE,
    "+ the patient only": WHOLE | {"crop": "body"},
    "+ where the plan's target can lie": WHOLE | {"crop": "plan"},
    "+ second pass only where the first found something": WHOLE | {"crop": "plan", "skip_below": 0.02},
    "+ a quarter of overlap": WHOLE | {"crop": "plan", "skip_below": 0.02, "overlap": 0.25},
    "half an overlap, mirrored as well": WHOLE | {"crop": "plan", "skip_below": 0.02, "mirrored": True},
}
"""Each of the first five has one difference more than the one before."""
Values = dict[str, list[float]]


def ours(loaded: Any, grid: Any, plan_text: str, options: dict[str, Any]) -> np.ndarray:
    """Our mask on the model's grid."""
    changes = dict(options)
    loaded.config = loaded.config.updated(overlap=changes.pop("overlap"))
    loaded.inference = loaded.inference.updated(**changes)
    return np.asarray(loaded.probability(grid, plan_text) >= loaded.threshold)


def compare(model: Path, dataset: Path, limit: int | None, threads: int) -> dict[str, Values]:
    """Setting -> `same` (Dice with the peer's mask), `dice` (with the truth) and `seconds`, one value a case."""
    import torch

    from rollama.data.dataset import open_dataset
    from rollama.data.resampling import HALF, case_on_grid
    from rollama.evaluation.masks import dice
    from rollama.segmentation.predict import SegmentationModel

    torch.set_num_threads(threads)
    loaded = SegmentationModel.load(model)
    cases = held_out(open_dataset(dataset, check_volumes=False), limit)
    found: dict[str, Values] = defaultdict(lambda: defaultdict(list))
    with bar("comparing", len(cases)) as update:
        for index, case in enumerate(cases):
            _, grid, target = case_on_grid(case, loaded.config.spacing)
            truth = target.array >= HALF
            loaded.encode(case.plan_text)  # once for all of them
            begun = time.perf_counter()
            peer = peer_predictor(loaded, grid, case.plan_text, {})()
            _keep(found[PEER], dice(truth, peer), 1.0, time.perf_counter() - begun)
            for name, options in OURS.items():
                begun = time.perf_counter()
                mask = ours(loaded, grid, case.plan_text, options)
                _keep(found[name], dice(truth, mask), dice(peer, mask), time.perf_counter() - begun)
            update(index + 1)
    return found


def _keep(values: Values, quality: float, same: float, seconds: float) -> None:
    for name, value in (("dice", quality), ("same", same), ("seconds", seconds)):
        values[name].append(value)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--limit", type=int, help="at most so many cases a centre and split")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    found = compare(given.model, given.dataset, given.limit, given.threads)
    print(f"{len(found[PEER]['dice'])} held-out cases, {given.threads} threads")
    print(
        "| | Dice with the peer's mask: median, mean, lowest | cases above 0.998 | Dice with the truth | times faster |"
    )
    print("|---|---|---|---|---|")
    for name, values in found.items():
        same = values["same"]
        faster = median(a / b for a, b in zip(found[PEER]["seconds"], values["seconds"], strict=True))
        print(
            f"| {name} | {median(same):.4f}, {mean(same):.4f}, {min(same):.4f} | "
            f"{sum(value >= 0.998 for value in same)} | {mean(values['dice']):.4f} | {faster:.2f} |"
        )


if __name__ == "__main__":
    main()
