"""Does the segmentation obey its plan? Same CT, another plan: what changes, and where.

For an edit whose true target is known, let T0, T1 be the true targets before and after, M0, M1 the masks. The edit
speaks of the region E = T0 xor T1. The mask must change there and nowhere else:

    success    at least half of T1 \\ T0 lies in M1, and at most half of T0 \\ T1 does
    leakage    volume of (M0 xor M1) farther than 6 mm and more than a voxel from E, over the volume of T0
    strict     all of (M0 xor M1) outside E, over the volume of T0

The 6 mm forgive where exactly the model draws the border of what was edited; on a coarser grid, such as the CPU
presets' of 6.25 mm, the next voxel is forgiven, or the border would have to be exact there. For an edit that must
change nothing, E is empty: `success` says that less than 2 % of T0's volume changed. Text that is no plan succeeds when
the model refuses it.

Without `answers` (data that no generator made) only edits are scored whose right answer needs none: the harmless ones,
`no target`, and text that is no plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from rollama.cohort.bound import target_of
from rollama.data.case import Case
from rollama.data.organs import case_ct
from rollama.data.plan import Plan
from rollama.data.volumes import read_mask
from rollama.evaluation.answers import Answers
from rollama.evaluation.cache import MaskCache
from rollama.evaluation.edits import MATTERS, Edit, Expect, edits_of
from rollama.evaluation.masks import dice, voxel_size
from rollama.evaluation.run import Progress, Record, Refused, Segmenter, predict_cached

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TASK = "counterfactual"
METRICS = ("success", "leakage", "leakage_strict", "edited_dice")
ALL_EDITS = "all edits that matter"
"""Source of `pooled` records."""
TOLERANCE_MM = 6.0
"""Or a voxel's longest edge, if that is more."""
UNCHANGED = 0.02
"""Share of the target's volume up to which a mask counts as unchanged."""
TRACE_CC = 0.5
"""A part of an edit smaller than this is not judged."""
Mask = np.ndarray


def evaluate_counterfactual(
    model: Segmenter,
    cases: Sequence[Case],
    cache: MaskCache,
    answers: Answers | None,
    system: str = "SEG++",
    progress: Progress | None = None,
) -> list[Record]:
    """Score every edit of every case with a target; the record's `source` is the edit.

    Args:
        model: plan-guided.
        cases: held out.
        cache: of the model's masks.
        answers: the true targets of edited plans; None for data that no generator made.
        progress: called with (cases done, all cases).
    """
    chosen = [case for case in cases if case.plan is not None and case.plan.has_target]
    records = []
    for done, case in enumerate(chosen, 1):
        assert case.plan is not None
        volume = case_ct(case)

        stored = read_mask(case.target, volume) != 0
        own = answers if answers is not None and answers.know(case, stored) else None
        before = predict_cached(model, case, volume, case.plan_text, cache) != 0
        other = another_patients_plan(chosen, done - 1)
        for edit in edits_of(case.plan, case.case_id, other if own else None):
            try:
                after: Mask | None = predict_cached(model, case, volume, edit.text, cache) != 0
            except Refused:
                after = None
            found = _score(edit, case, before, after, stored, own, voxel_size(volume.affine))
            if found is not None:
                records.append(Record(case.case_id, case.centre, case.split, TASK, system, edit.name, found))
        if progress:
            progress(done, len(chosen))
    return records


def another_patients_plan(cases: Sequence[Case], place: int) -> Plan | None:
    """The plan of the next of `cases` after the one at `place` that asks for another target; after the last, the first.

    None when all of them ask for the same. The case at `place` has a plan.
    """
    own = cases[place].plan
    assert own is not None
    others = (other.plan for other in (*cases[place + 1 :], *cases[:place]))
    return next((plan for plan in others if plan and target_of(plan) != target_of(own)), None)


def draw_edits(model: Segmenter, case: Case, cache: MaskCache, answers: Answers | None, synthetic: bool) -> Figure:
    """A picture of one case: its own plan and the edits that must change the target, mask beside true target."""
    from rollama.data.slices import Panel, draw_panels

    assert case.plan is not None
    volume = case_ct(case)
    truth = read_mask(case.target, volume) != 0
    own = answers if answers is not None and answers.know(case, truth) else None
    before = predict_cached(model, case, volume, case.plan_text, cache) != 0
    panels = [Panel("own plan", {"true target": truth, "predicted target": before}, truth)]
    for edit in edits_of(case.plan, case.case_id):
        if edit.expect is not Expect.CHANGE or edit.plan is None or (own is None and edit.plan.has_target):
            continue
        after = predict_cached(model, case, volume, edit.text, cache) != 0
        wanted = own.target(case, edit.plan) if own is not None else np.zeros_like(truth)
        followed = _score(edit, case, before, after, truth, own, voxel_size(volume.affine)) or {}
        word = {1.0: "followed", 0.0: "not followed"}.get(followed.get("success", math.nan), "not judged")
        panels.append(Panel(f"{edit.name}: {word}", {"true target": wanted, "predicted target": after}, wanted ^ truth))
    return draw_panels(volume, panels, f"{case.case_id} ({case.centre})" + (" - SYNTHETIC" if synthetic else ""))


def pooled(records: Iterable[Record]) -> list[Record]:
    """One record a case and system: the mean over its edits that must change the mask.

    Edits of one patient are no independent cases; resampling patients needs one value a patient.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.task == TASK and record.source in MATTERS:
            groups.setdefault((record.case_id, record.system), []).append(record)
    return [
        replace(some[0], source=ALL_EDITS, metrics={name: _mean([r.metrics[name] for r in some]) for name in METRICS})
        for some in groups.values()
    ]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _score(
    edit: Edit,
    case: Case,
    before: Mask,
    after: Mask | None,
    truth: Mask,
    answers: Answers | None,
    spacing: tuple[float, float, float],
) -> dict[str, float] | None:
    nothing = dict.fromkeys(METRICS, math.nan)
    if after is None or edit.expect is Expect.REFUSAL:
        return {**nothing, "success": float(after is None and edit.expect is Expect.REFUSAL)}
    if edit.expect is Expect.NOTHING:
        changed = float((before ^ after).sum()) / max(1, int(truth.sum()))
        return {**nothing, "success": float(changed < UNCHANGED), "leakage": changed, "leakage_strict": changed}
    assert edit.plan is not None
    if not edit.plan.has_target:
        return {**nothing, "success": float(not after.any())}
    if answers is None:
        return None
    wanted = answers.target(case, edit.plan)
    return edit_scores(before, after, truth, wanted, spacing, trace_voxels(spacing))


def trace_voxels(spacing: Sequence[float]) -> float:
    """`TRACE_CC` in voxels of this size (mm)."""
    return TRACE_CC * 1000 / math.prod(spacing)


def edit_scores(
    before: Mask, after: Mask, truth: Mask, wanted: Mask, spacing: Sequence[float], least: float = 0.0
) -> dict[str, float]:
    """The measures of one edit (see the module); all masks bool (x, y, z).

    Args:
        before, after: predicted with the old and the new plan.
        truth, wanted: true targets of the old and the new plan.
        spacing: voxel size in mm.
        least: parts of the edit with at most so many voxels are not judged; `success` is NaN without any other.
    """
    from scipy import ndimage

    added, removed, region = wanted & ~truth, truth & ~wanted, truth ^ wanted
    verdicts = []
    if added.sum() > least:
        verdicts.append(np.count_nonzero(after & added) * 2 >= np.count_nonzero(added))
    if removed.sum() > least:
        verdicts.append(np.count_nonzero(after & removed) * 2 <= np.count_nonzero(removed))
    changed, volume = before ^ after, max(1, int(truth.sum()))
    far = changed & ~region
    if region.any() and far.any():
        beyond = max(TOLERANCE_MM, *spacing) + 1e-3  # an affine in float32 holds millimetres to some 1e-5
        far &= ndimage.distance_transform_edt(~region, sampling=spacing) > beyond
    return {
        "success": float(all(verdicts)) if verdicts else math.nan,
        "leakage": float(far.sum()) / volume,
        "leakage_strict": float((changed & ~region).sum()) / volume,
        "edited_dice": dice(wanted, after),
    }
