"""Do the pointers of a plan lead to the sentences that its fields rest on?

The synthetic cohort knows: a note's `evidence` says which sentence states a fact, the rules say which facts a field
rests on (`cohort.reasons`). A pointer is right when it covers the same place as one of those sentences (their overlap
is at least half of both together), and a sentence is found when a pointer covers it so; pointing to the whole note
finds nothing. Data of other origin carry no such truth.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping

from rollama.chain.evidence import FIELDS, Pointer
from rollama.cohort.config import CohortConfig
from rollama.cohort.patients import draw_patient
from rollama.cohort.reasons import reasons
from rollama.cohort.rules import load_rules
from rollama.core.errors import DataError
from rollama.data.case import TextCase

SAME = 0.5
"""Least intersection over union of a pointer with the sentence it means."""
Place = tuple[int, int]


def true_evidence(config: CohortConfig, case: TextCase) -> dict[str, set[Place]]:
    """Field of the plan -> places of the note that it rests on; the case's facts are drawn again.

    Raises:
        DataError: the case is not one of this cohort, or was made by another version of the generator.
    """
    try:
        index = int(case.case_id.rpartition("-")[2])
        patient = draw_patient(config, case.centre, case.split, index)
    except (ValueError, KeyError) as error:
        raise DataError(f"{case.case_id}: not a case of this cohort's configuration") from error
    if patient.note != case.note:
        raise DataError(f"{case.case_id}: its note is not the one that the cohort's configuration gives")
    rests_on = reasons(load_rules(config.rules), patient.facts)
    return {
        field: {(item.start, item.end) for item in case.evidence if item.fact in rests_on[field]} for field in FIELDS
    }


def compare_pointers(truth: Mapping[str, Collection[Place]], found: Iterable[Pointer]) -> dict[str, dict[str, float]]:
    """Precision, recall and F1 of each field's pointers for one case.

    Returns:
        field -> `precision`, `recall`, `f1`. Precision without a pointer and recall without a true sentence are NaN; F1
        is 0 when only one of the two sides has something.
    """
    pointed: dict[str, set[Place]] = {field: set() for field in truth}
    for item in found:
        pointed.setdefault(item.field, set()).add((item.start, item.end))
    return {field: _scores(truth.get(field, ()), places) for field, places in pointed.items()}


def _scores(truth: Collection[Place], found: Collection[Place]) -> dict[str, float]:
    right = sum(any(overlap(place, true) >= SAME for true in truth) for place in found)
    seen = sum(any(overlap(place, true) >= SAME for place in found) for true in truth)
    precision = right / len(found) if found else math.nan
    recall = seen / len(truth) if truth else math.nan
    f1 = 2 * precision * recall / (precision + recall) if right else math.nan if not (truth or found) else 0.0
    return {"precision": precision, "recall": recall, "f1": f1}


def overlap(one: Place, other: Place) -> float:
    """Intersection over union of two ranges of characters."""
    common = min(one[1], other[1]) - max(one[0], other[0])
    return max(0, common) / (max(one[1], other[1]) - min(one[0], other[0]))
