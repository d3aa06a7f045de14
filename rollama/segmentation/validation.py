"""How good is the network, measured where it is used: Dice on each validation CT's own grid.

At the end of training this chooses the probability from which a voxel counts as target. During training
(`validation.every`) it chooses the best model and can stop a run that gets no better. Centres count alike whatever
their number of cases, so that the largest centre does not decide alone. All workers share the cases; what was seen so
far is part of the checkpoint, so a resumed run keeps and stops where the straight one does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from rollama.core.errors import DataError
from rollama.data.case import Case, Split
from rollama.data.dataset import Dataset, in_turn
from rollama.data.organs import case_ct
from rollama.data.resampling import to_model_grid
from rollama.data.volumes import read_mask
from rollama.segmentation.config import ValidationSection
from rollama.segmentation.engine import DdpEngine, load_parameters
from rollama.segmentation.model import SegmentationNet
from rollama.segmentation.predict import SegmentationModel
from rollama.training.loop import Metrics, evaluating

THRESHOLDS = (0.5, 0.4, 0.3)
"""Probabilities from which a voxel may count as target; soft Dice leaves thin structures below one half."""
METRIC = "validation_dice"

log = logging.getLogger(__name__)


def validation_cases(data: Dataset, number: int) -> list[Case]:
    """At most `number` validation cases with a target, of each centre as evenly as they come."""
    centres = [
        [case for case in data.select(Split.VALIDATION, centre=centre) if case.plan is None or case.plan.has_target]
        for centre in data.info.centres
    ]
    return in_turn(centres)[:number]


def case_dice(
    network: SegmentationNet,
    cases: Sequence[Case],
    device: torch.device,
    manifest: Mapping[str, Any] | None = None,
    tick: Callable[[], None] = lambda: None,
) -> list[dict[float, float]]:
    """Dice of each case at each of `THRESHOLDS`, on its own grid; `tick` is called after each."""
    model = SegmentationModel(network, dict(manifest or {}), device)
    found = []
    for case in cases:
        volume = case_ct(case)
        truth = read_mask(case.target, volume)
        grid = to_model_grid(volume, network.config.spacing)
        probability = model.probability(grid, case.plan_text)
        values = {}
        for threshold in THRESHOLDS:
            model.threshold = threshold
            mask = model.decide(probability, grid, volume)
            values[threshold] = 2 * float((mask & truth).sum()) / max(1, int(mask.sum()) + int(truth.sum()))
        found.append(values)
        tick()
    return found


def centre_means(sums: Mapping[str, float], centres: Sequence[str]) -> dict[float, float]:
    """Dice at each threshold, mean over centres of the mean of their cases, from sums as `summed` gives them."""
    return {
        threshold: sum(sums[f"{threshold}/{centre}"] / sums[f"count/{centre}"] for centre in centres) / len(centres)
        for threshold in THRESHOLDS
    }


def summed(found: Sequence[Mapping[float, float]], cases: Sequence[Case], centres: Sequence[str]) -> dict[str, float]:
    """Sums over cases of each centre: `<threshold>/<centre>` and `count/<centre>`, all there even without cases."""
    sums = {f"{kind}/{centre}": 0.0 for centre in centres for kind in (*THRESHOLDS, "count")}
    for case, values in zip(cases, found, strict=True):
        sums[f"count/{case.centre}"] += 1
        for threshold in THRESHOLDS:
            sums[f"{threshold}/{case.centre}"] += values[threshold]
    return sums


def best_threshold(
    network: SegmentationNet,
    cases: Sequence[Case],
    device: torch.device,
    manifest: Mapping[str, Any] | None = None,
    tick: Callable[[], None] = lambda: None,
) -> tuple[float, float | None]:
    """(threshold, Dice at it, centres weighing alike); the first threshold and None without cases.

    `manifest`: what is already known of the model, such as how far targets reach. `tick`: called after each case.
    """
    if not cases:
        return THRESHOLDS[0], None
    centres = sorted({case.centre for case in cases})
    means = centre_means(summed(case_dice(network, cases, device, manifest, tick), cases, centres), centres)
    best = max(means, key=means.__getitem__)
    return best, round(means[best], 4)


class Validation:
    """Callback that validates every `section.every` steps and at the last one, and remembers the best weights.

    Its memory lives in `engine.extra`, which goes into every checkpoint: it must be called before the checkpointer.
    """

    def __init__(
        self, engine: DdpEngine, section: ValidationSection, cases: Sequence[Case], steps: int, device: torch.device
    ) -> None:
        """Take the memory of the checkpoint that `engine` was restored from.

        Raises:
            DataError: there is no validation case with a target.
        """
        if section.every and not cases:
            raise DataError(f"validation.every={section.every} needs validation cases with a target; there are none")
        self.engine, self.section, self.cases, self.steps, self.device = engine, section, cases, steps, device
        self.centres = sorted({case.centre for case in cases})

    @property
    def stopped(self) -> bool:
        """Whether the last `patience` validations brought nothing better."""
        seen = self.engine.extra.get("seen")
        return seen is not None and 0 < self.section.patience <= int(seen[2])

    def after_step(self, step: int, metrics: Metrics) -> None:
        """Validate when it is time (collective); adds `validation_dice` to the step's metrics."""
        if not self.section.every or (step % self.section.every and step != self.steps):
            return
        value = self._measure()
        metrics[METRIC] = round(value, 4)
        first = torch.tensor([-1.0, 0.0, 0.0], dtype=torch.float64)
        best, best_step, since = self.engine.extra.get("seen", first).tolist()
        if value > best:
            best, best_step, since = value, float(step), -1.0
            for name, tensor in self.engine.parameters.items():
                self.engine.extra[f"best/{name}"] = tensor.detach().clone()
        self.engine.extra["seen"] = torch.tensor([best, best_step, since + 1], dtype=torch.float64)

    def restore_best(self) -> int | None:
        """Put the best weights into the network; the step they are of, or None when the last ones are to be kept."""
        seen = self.engine.extra.get("seen")
        if self.section.keep == "last" or seen is None:
            return None
        best = {name[5:]: value for name, value in self.engine.extra.items() if name.startswith("best/")}
        load_parameters(self.engine.parameters, best, "best weights")
        log.info("segmentation: step %d is kept, validation Dice %.3f", int(seen[1]), float(seen[0]))
        return int(seen[1])

    def _measure(self) -> float:
        """Dice at the threshold that suits the network best, centres weighing alike; the same on every rank."""
        mine = self.cases[self.engine.rank :: self.engine.world]
        with evaluating(self.engine.network):
            found = case_dice(self.engine.network, mine, self.device)
        sums = summed(found, mine, self.centres)
        total = self.engine.reduce({name: torch.tensor(value, dtype=torch.float64) for name, value in sums.items()})
        return max(centre_means(total, self.centres).values())
