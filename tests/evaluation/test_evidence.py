"""Pointers against the cohort's own knowledge of what a plan rests on."""

from __future__ import annotations

import math

import pytest

from rollama.chain.evidence import FIELDS, RESTS_ON, WORDS, Pointer, evidence_of
from rollama.cohort.config import CohortConfig
from rollama.cohort.patients import draw_patient
from rollama.core.errors import DataError
from rollama.data.case import Split, TextCase
from rollama.data.plan import render_plan
from rollama.evaluation.evidence import compare_pointers, overlap, true_evidence

CONFIG = CohortConfig(size="xs")


def case(index: int, centre: str = "northgate", split: Split = Split.TEST) -> TextCase:
    patient = draw_patient(CONFIG, centre, split, index)
    return TextCase(
        case_id=patient.case_id, centre=centre, split=split, note=patient.note, summary=patient.summary,
        plan=patient.plan, plan_text=render_plan(patient.plan), evidence=patient.evidence,
    )  # fmt: skip


def test_scores_of_known_pointers() -> None:
    truth = {"side": {(0, 10)}, "levels": {(0, 10), (20, 30)}, "boost": set(), "dose": {(5, 9)}}
    found = [Pointer("side", 0, 9), Pointer("levels", 20, 30), Pointer("levels", 40, 50), Pointer("boost", 0, 10)]
    scores = compare_pointers(truth, found)
    assert scores["side"] == {"precision": 1, "recall": 1, "f1": 1}
    assert scores["levels"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert scores["boost"]["precision"] == scores["boost"]["f1"] == 0 and math.isnan(scores["boost"]["recall"])
    assert scores["dose"]["recall"] == scores["dose"]["f1"] == 0 and math.isnan(scores["dose"]["precision"])
    assert math.isnan(compare_pointers({"side": set()}, [])["side"]["f1"])
    whole = compare_pointers(truth, [Pointer("levels", 0, 100)])["levels"]
    assert whole["recall"] == whole["precision"] == 0
    assert (overlap((0, 10), (5, 15)), overlap((0, 5), (5, 9)), overlap((0, 4), (8, 9))) == (1 / 3, 0, 0)


def test_the_truth_is_made_of_the_note_s_own_sentences() -> None:
    for index in range(6):
        mine = case(index)
        truth = true_evidence(CONFIG, mine)
        assert set(truth) == set(FIELDS) and all(truth.values())
        assert set().union(*truth.values()) <= {(item.start, item.end) for item in mine.evidence}
        perfect = [Pointer(field, *place) for field, places in truth.items() for place in places]
        assert all(score["f1"] == 1 for score in compare_pointers(truth, perfect).values())


def test_a_case_of_another_making_is_refused() -> None:
    with pytest.raises(DataError, match="its note is not the one"):
        true_evidence(CONFIG, case(0).updated(note="SECRET"))
    with pytest.raises(DataError, match="not a case of this cohort"):
        true_evidence(CONFIG, case(0).updated(case_id="x"))


@pytest.mark.parametrize(("centre", "split"), [("northgate", Split.TEST), ("lakeside", Split.EXTERNAL)])
def test_words_and_rules_point_well_and_better_than_words_alone(centre: str, split: Split) -> None:
    totals = {"rules": 0.0, "words": 0.0}
    for index in range(8):
        mine = case(index, centre, split)
        truth = true_evidence(CONFIG, mine)
        assert mine.plan is not None
        for name, rests_on in (("rules", None), ("words", RESTS_ON)):
            scores = compare_pointers(truth, evidence_of(mine.note, mine.plan, rests_on))
            totals[name] += sum(score["f1"] for score in scores.values()) / len(FIELDS) / 8
    assert totals["rules"] > max(0.75, totals["words"])


def test_every_fact_that_a_field_can_rest_on_has_words() -> None:
    from rollama.cohort.reasons import usual_reasons
    from rollama.cohort.rules import load_rules

    plan = case(0).plan
    assert plan is not None
    usual = usual_reasons(load_rules(), plan)
    for rests_on in (usual, RESTS_ON):
        assert {fact for field, facts in rests_on.items() if field != "side" for fact in facts} <= set(WORDS)
        assert set(FIELDS) - {"side"} <= set(rests_on)
