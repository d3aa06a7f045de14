"""Can the model be believed about itself: are its probabilities right, and does it notice a CT that it cannot know?

`calibration_error` is that of the voxels near the predicted target (see `segmentation.calibration`), on the model's
grid. `flagged` says that CT and plan were called unusual: a false alarm for a held-out case, what must happen for a
phantom of the wrong anatomy. `ranked_above` is the share of held-out cases of the same split
that look more usual than a phantom; its mean over phantoms is the area under the ROC curve.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rollama.data.case import Case
from rollama.data.plan import parse_plan
from rollama.data.resampling import case_on_grid, to_model_grid
from rollama.evaluation.answers import Answers
from rollama.evaluation.phantoms import KINDS, phantoms
from rollama.evaluation.run import Record

if TYPE_CHECKING:
    from rollama.segmentation.predict import SegmentationModel

TASK = "trust"
USUAL, ALL_PHANTOMS = "held-out cases", "all wrong anatomies"
EACH = 10
"""Phantoms of each kind."""


def evaluate_trust(
    model: SegmentationModel,
    cases: Sequence[Case],
    answers: Answers | None,
    system: str = "SEG++",
    progress: Callable[[int, int], None] | None = None,
) -> list[Record]:
    """Look at every held-out case with a target, then at phantoms of wrong anatomy (synthetic breast cohorts only).

    Args:
        model: a trained network; one without `normality` gets calibration errors only.
        cases: held out.
        answers: of the cohort; its configuration draws the phantoms' bodies.
        system: the model's name in the tables.
        progress: called with (looks done, all looks).
    """
    from rollama.segmentation.calibration import calibration_error, logit, near_target

    chosen = [case for case in cases if case.plan is not None and case.plan.has_target]
    records, usual = [], []
    total = len(chosen) + (EACH * len(KINDS) if answers else 0)
    for done, case in enumerate(chosen, 1):
        _, grid, target = case_on_grid(case, model.config.spacing)
        probability = model.probability(grid, case.plan_text)
        score = model.unusual(grid, probability, case.plan)
        usual.append((str(case.split), score))
        near, inside = near_target(probability, target.array >= 0.5, grid.spacing, model.threshold)
        metrics = {
            "calibration_error": calibration_error(model.calibration(logit(near)), inside),
            "unusual": score,
            "flagged": _flag(score),
        }
        records.append(Record(case.case_id, case.centre, case.split, TASK, system, USUAL, metrics))
        if progress:
            progress(done, total)
    if answers is None or not usual or math.isnan(usual[0][1]):
        return records
    for done, phantom in enumerate(phantoms(answers.config, chosen, EACH), len(chosen) + 1):
        grid = to_model_grid(phantom.volume, model.config.spacing)
        score = model.unusual(grid, model.probability(grid, phantom.plan_text), parse_plan(phantom.plan_text))
        case = phantom.case
        like = [other for split, other in usual if split == case.split]
        metrics = {
            "unusual": score,
            "flagged": _flag(score),
            "ranked_above": float(np.mean([(score > other) + 0.5 * (score == other) for other in like])),
        }
        records += [
            Record(case.case_id, case.centre, case.split, TASK, system, source, metrics)
            for source in (phantom.kind, ALL_PHANTOMS)
        ]
        if progress:
            progress(done, total)
    return records


def _flag(score: float) -> float:
    return math.nan if math.isnan(score) else float(score > 1)
