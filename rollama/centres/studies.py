"""Several trainings that answer one question about centres: which configurations they are, and their curve.

How a training is started is the caller's business; here are only configurations, names and figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollama.centres.scoring import METRIC
from rollama.core.errors import ConfigError
from rollama.core.files import new_file
from rollama.data.case import Split
from rollama.data.dataset import Dataset
from rollama.evaluation.run import Record
from rollama.evaluation.statistics import Estimate, estimate
from rollama.training.config import CentresMode

LEFT_OUT = "leave-one-centre-out"
FEW = "few-shot"


@dataclass(frozen=True)
class Fold:
    """One training of a study: its centre, the model's name and its configuration."""

    centre: str
    name: str
    config: Any


def folds(config: Any, data: Dataset, name: str) -> list[Fold]:
    """One training without each centre that has training cases (and is not left out anyway).

    Raises:
        ConfigError: fewer than two centres have training cases.
    """
    chosen = config.centres
    centres = [
        centre
        for centre in data.info.centres
        if data.select(Split.TRAIN, centre=centre)
        and centre not in chosen.leave_out
        and (not chosen.only or centre in chosen.only)
    ]
    if len(centres) < 2:
        raise ConfigError(f"centres.mode: {LEFT_OUT} needs two centres with training cases, found {centres}")
    found = []
    for centre in centres:
        # `only` and `weights` may name the centre that is left out now.
        changes: dict[str, Any] = {
            "mode": CentresMode.POOLED,
            "leave_out": (*chosen.leave_out, centre),
            "only": tuple(other for other in chosen.only if other != centre),
        }
        section = chosen.model_dump() | changes
        found.append(Fold(centre, f"{name}-without-{centre}", config.updated(centres=section)))
    return found


def few_shot(config: Any, centre: str, numbers: Sequence[int], name: str) -> list[Fold]:
    """Trainings on 1, 3, 10, ... cases of one centre; the cases of a smaller number are among those of a larger.

    Raises:
        ConfigError: a number is not positive.
    """
    if not numbers or min(numbers) < 1:
        raise ConfigError(f"--cases: found {list(numbers)}; give numbers of cases from 1 on")
    section = config.centres.model_dump() | {"mode": CentresMode.POOLED, "only": (centre,), "leave_out": ()}
    return [
        Fold(centre, f"{name}-{centre}-{number}", config.updated(centres={**section, "cases": number}))
        for number in sorted(set(numbers))
    ]


def curve(what: str, records: Sequence[Record], systems: dict[str, int]) -> dict[int, Estimate]:
    """Number of cases -> the model's figure with its interval, over all of its held-out cases."""
    metric = METRIC[what]
    found = {}
    for system, number in systems.items():
        mine = [record for record in records if record.system == system]
        found[number] = estimate([record.metrics[metric] for record in mine], [record.centre for record in mine])
    return found


def draw_curve(path: Path, what: str, centre: str, found: dict[int, Estimate], synthetic: bool) -> None:
    """The few-shot curve as a picture; number 0 is the model before adaptation."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    numbers = [number for number in sorted(found) if found[number].mean is not None]
    places = range(len(numbers))
    means = [float(found[number].mean or 0) for number in numbers]
    low = [mean - float(x) if (x := found[n].low) is not None else 0.0 for n, mean in zip(numbers, means, strict=True)]
    high = [
        float(x) - mean if (x := found[n].high) is not None else 0.0 for n, mean in zip(numbers, means, strict=True)
    ]
    axes.errorbar(places, means, yerr=[low, high], marker="o", capsize=3, color="#1f5fa8")
    axes.set_xticks(list(places), ["before" if number == 0 else str(number) for number in numbers])
    axes.set_xlabel(f"training cases of {centre}")
    axes.set_ylabel(METRIC[what])
    axes.set_title(f"{what}: adaptation to {centre}{' (synthetic)' if synthetic else ''}, 95 % intervals", fontsize=9)
    axes.grid(alpha=0.3)
    with new_file(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
