"""What is measured of a network once it is trained, and goes into its artefact.

How probabilities relate to frequencies (calibration) and from which of them a voxel counts as target (threshold) come
from validation cases; how far targets reach and what training cases look like, from training cases. All of it is
derived: leaving it out changes no weight.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rollama.data.case import Case
from rollama.data.dataset import evenly
from rollama.data.resampling import case_on_grid
from rollama.data.transforms import prepare
from rollama.segmentation.calibration import calibration_error, fit, logit, near_target
from rollama.segmentation.model import SegmentationNet
from rollama.segmentation.normality import Example, describe
from rollama.segmentation.predict import SegmentationModel
from rollama.segmentation.region import Reach
from rollama.segmentation.validation import best_threshold
from rollama.training.artefact import read_manifest

EXAMINED = 100
"""So many training cases, of each centre as evenly as they come, show what is usual; more would only take longer."""

MEASURED = ("reach", "plans_only", "threshold", "calibration")
"""Entries of a manifest that `finish` writes."""

log = logging.getLogger(__name__)


def finish(
    network: SegmentationNet,
    training: Sequence[Case],
    validation: Sequence[Case],
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Measure a trained network; sets its `normality` and returns what the manifest keeps.

    Args:
        network: trained.
        training, validation: cases; without validation cases nothing is calibrated and nothing called unusual.
        device: where it runs.
        progress: called with (cases looked at, all); each case is looked at twice.

    Returns:
        `threshold`, `calibration`, `reach`, `plans_only` (every training plan is of the plan's form) and `metrics`, of
        which `calibration_error_after` is that of the cases that the calibration was fitted on.
    """
    plans = [case for case in training if case.plan is not None]
    some = [case for case in evenly(plans)[:EXAMINED] if case.plan and case.plan.has_target]
    total, done = 2 * (len(some) + len(validation)), itertools.count(1)
    tick = lambda: progress(next(done), total)  # noqa: E731
    with_plans = ((case.plan, prepare(case, network.config)) for case in _told(some, tick) if case.plan)
    reach = Reach.of(with_plans, network.config.spacing)
    found: dict[str, Any] = {"reach": reach.boxes, "plans_only": len(plans) == len(training)}
    found["threshold"], dice = best_threshold(network, validation, device, found, tick)
    model = SegmentationModel(network, found, device)
    held = [_examine(model, case) for case in _told(validation, tick)]
    seen = [near for _, near in held]
    calibration = fit(seen)
    found["calibration"] = calibration.as_dict()
    if validation:
        network.normality.fit(
            [example for example, _ in (*(_examine(model, case) for case in _told(some, tick)), *held)]
        )
    metrics = {"validation_dice": dice}
    if any(p.size for p, _ in seen):
        errors = {"before": [calibration_error(p, t) for p, t in seen],
                  "after": [calibration_error(calibration(logit(p)), t) for p, t in seen]}  # fmt: skip
        metrics |= {f"calibration_error_{when}": round(float(np.nanmean(e)), 4) for when, e in errors.items()}
    if len(plans) < len(training):
        log.info("segmentation: %d training plans are free text: texts are not checked", len(training) - len(plans))
    log.info("segmentation: validation Dice %s, probabilities times %s", dice, calibration.scale)
    return {**found, "metrics": metrics}


def measured(folder: Path) -> dict[str, Any]:
    """What `finish` found of the trained model in `folder`, without its metrics: they are not another model's."""
    manifest = read_manifest(folder)
    return {key: manifest[key] for key in MEASURED if key in manifest} | {"metrics": {}}


def _told(cases: Sequence[Case], tick: Callable[[], None]) -> Iterator[Case]:
    """The cases, with word of each that is done with."""
    for case in cases:
        yield case
        tick()


def _examine(model: SegmentationModel, case: Case) -> tuple[Example, tuple[np.ndarray, np.ndarray]]:
    """A case's numbers, and probability and truth near its predicted target."""
    _, grid, target = case_on_grid(case, model.config.spacing)
    probability = model.probability(grid, case.plan_text)
    near = near_target(probability, target.array >= 0.5, grid.spacing, model.threshold)
    return Example(describe(grid, probability, model.threshold), case.plan, case.centre), near
