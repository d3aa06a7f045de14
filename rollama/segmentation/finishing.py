"""What is measured of a network once it is trained, and goes into its artefact.

How probabilities relate to frequencies (calibration) and from which of them a voxel counts as target (threshold) come
from validation cases; how far targets reach and what training cases look like, from training cases. All of it is
derived: leaving it out changes no weight.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from rollama.data.case import Case
from rollama.data.dataset import in_turn
from rollama.data.organs import case_ct
from rollama.data.resampling import to_model_grid
from rollama.data.transforms import prepare
from rollama.data.volumes import Volume, read_mask
from rollama.segmentation.calibration import calibration_error, fit, logit, near_target
from rollama.segmentation.model import SegmentationNet
from rollama.segmentation.normality import Example, describe
from rollama.segmentation.predict import SegmentationModel
from rollama.segmentation.region import Reach
from rollama.segmentation.validation import best_threshold

EXAMINED = 100
"""So many training cases, of each centre as evenly as they come, show what is usual; more would only take longer."""

log = logging.getLogger(__name__)


def finish(
    network: SegmentationNet, training: Sequence[Case], validation: Sequence[Case], device: torch.device
) -> dict[str, Any]:
    """Measure a trained network; sets its `normality` and returns what the manifest keeps.

    Args:
        network: trained.
        training, validation: cases; without validation cases nothing is calibrated and nothing called unusual.
        device: where it runs.

    Returns:
        `threshold`, `calibration`, `reach`, `plans_only` (every training plan is of the plan's form) and `metrics`, of
        which `calibration_error_after` is that of the cases that the calibration was fitted on.
    """
    plans = [case for case in training if case.plan is not None]
    some = [case for case in _evenly(plans) if case.plan and case.plan.has_target]
    reach = Reach.of(((case.plan, prepare(case, network.config)) for case in some if case.plan), network.config.spacing)
    found: dict[str, Any] = {"reach": reach.boxes, "plans_only": len(plans) == len(training)}
    found["threshold"], dice = best_threshold(network, validation, device, found)
    model = SegmentationModel(network, found, device)
    seen = [near_target(model.probability(grid, case.plan_text), truth, grid.spacing, model.threshold)
            for case, grid, truth in _grids(model, validation)]  # fmt: skip
    calibration = fit(seen)
    found["calibration"] = calibration.as_dict()
    if validation:
        network.normality.fit(_examined(model, [*some, *validation]))
    metrics = {"validation_dice": dice}
    if any(p.size for p, _ in seen):
        errors = {"before": [calibration_error(p, t) for p, t in seen],
                  "after": [calibration_error(calibration(logit(p)), t) for p, t in seen]}  # fmt: skip
        metrics |= {f"calibration_error_{when}": round(float(np.nanmean(e)), 4) for when, e in errors.items()}
    if len(plans) < len(training):
        log.info("segmentation: %d training plans are free text: texts are not checked", len(training) - len(plans))
    log.info("segmentation: validation Dice %s, probabilities times %s", dice, calibration.scale)
    return {**found, "metrics": metrics}


def _evenly(cases: Sequence[Case]) -> list[Case]:
    centres = sorted({case.centre for case in cases})
    return in_turn([[case for case in cases if case.centre == centre] for centre in centres])[:EXAMINED]


def _grids(model: SegmentationModel, cases: Iterable[Case]) -> Iterator[tuple[Case, Volume, np.ndarray]]:
    """Each case with its CT and target on the model's grid."""
    spacing = model.config.spacing
    for case in cases:
        volume = case_ct(case)
        truth = Volume(read_mask(case.target, volume).astype(np.float32), volume.affine, str(case.target))
        yield case, to_model_grid(volume, spacing), to_model_grid(truth, spacing).array >= 0.5


def _examined(model: SegmentationModel, cases: Iterable[Case]) -> list[Example]:
    return [
        Example(describe(grid, model.probability(grid, case.plan_text), model.threshold), case.plan, case.centre)
        for case, grid, _ in _grids(model, cases)
    ]
