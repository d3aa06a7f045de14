"""A plan that says another side, operation or guideline than its summary is told, and only what is meant so."""

from __future__ import annotations

import pytest

from rollama.chain.agreement import answer_doubts, contradictions, note_doubts, side_doubted, summary_doubts
from rollama.cohort.config import EXTERNAL_CENTRES, TRAINING_CENTRES, CohortConfig
from rollama.cohort.patients import draw_patient
from rollama.data.case import Split
from rollama.data.plan import Dose, Guideline, Level, Plan, Side, Surgery, Technique, Volume, render_plan
from rollama.data.sides import other_side as mirrored_text

PLAN = Plan(
    side=Side.LEFT, surgery=Surgery.MASTECTOMY, volume=Volume.CHEST_WALL, levels=(Level.L3,),
    dose=Dose(gy=50, fractions=25), technique=Technique.VMAT, guideline=Guideline.RTOG,
)  # fmt: skip
SUMMARY = (
    "50-year-old woman, left breast cancer. Mastectomy without reconstruction. Earlier breast conservation on the "
    "right. RTOG protocol."
)


def test_a_plan_of_its_summary_is_not_flagged() -> None:
    assert contradictions(PLAN, SUMMARY) == []
    assert contradictions(PLAN) == []
    assert contradictions(PLAN, "") == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"side": Side.RIGHT}, "side: the plan says right, the summary left"),
        ({"guideline": Guideline.ESTRO}, "guideline: the plan says ESTRO, the summary RTOG"),
        ({"surgery": Surgery.CONSERVING, "volume": Volume.BREAST}, "surgery: the plan says breast-conserving, the"),
    ],
)
def test_another_side_surgery_or_guideline_is_flagged(change: dict[str, object], told: str) -> None:
    (found,) = contradictions(PLAN.model_copy(update=change), SUMMARY)
    assert found.startswith(told)
    assert contradictions(PLAN.model_copy(update=change)) == []


def test_a_volume_that_the_surgery_left_nothing_of_is_flagged_without_a_summary() -> None:
    (found,) = contradictions(PLAN.model_copy(update={"volume": Volume.BREAST}))
    assert found == "the plan treats the whole breast after mastectomy surgery; check it"
    nothing = PLAN.model_copy(update={"volume": None, "levels": (), "dose": None, "technique": None})
    assert contradictions(nothing, SUMMARY) == []


@pytest.mark.parametrize(
    "summary",
    [
        "Cancer of the left and the right breast. Mastectomy, then lumpectomy. ESTRO or RTOG.",
        "Right breast: benign tumour. Earlier cancer of the right breast. No tumour of the right breast.",
        "Lumpectomy was planned. No lumpectomy. Previously lumpectomy. Lumpectomy refused.",
        "Right breast. Right axilla free.",
    ],
)
def test_what_may_be_meant_otherwise_is_not_judged(summary: str) -> None:
    assert contradictions(PLAN, summary) == []


@pytest.mark.parametrize(
    ("note", "count"),
    [
        ("Corr.: side in copied referral is wrong, correct side Rt.", 1),
        ("Laterality on form 1 mistaken. Operation has taken place.", 1),
        ("Seitenangabe der Zuweisung ist falsch.", 1),
        ("Left breast cancer. Nothing wrong with the heart. Nothing abnormal on the right side.", 0),
        ("", 0),
    ],
)
def test_a_note_that_corrects_its_own_side_is_to_be_read_with_care(note: str, count: int) -> None:
    assert len(note_doubts(note)) == count


def test_no_false_alarm_and_no_side_missed_in_the_cohort() -> None:
    config = CohortConfig()
    patients = [
        draw_patient(config, centre, Split.TRAIN, number) for centre in TRAINING_CENTRES for number in range(15)
    ]
    patients += [draw_patient(config, centre, Split.EXTERNAL, n) for centre in EXTERNAL_CENTRES for n in range(15)]
    for patient in patients:
        assert contradictions(patient.plan, patient.summary) == []
        assert summary_doubts(patient.summary) == []
        (found,) = contradictions(patient.plan.mirrored(), patient.summary)
        assert found.startswith("side")


@pytest.mark.parametrize(
    ("summary", "count"),
    [
        ("Cancer, pT1 (9 mm) pN3 (22 of 12 nodes), ER+.", 1),
        ("ypN2 (5/4 axillary lymph nodes)", 1),
        ("12 out of 3 LN", 1),
        ("pN1 (2 of 5 nodes)", 0),
        ("5 of 5 nodes", 0),
        ("0 of 4 sentinel nodes, then 9 of 17 nodes", 0),
        ("seen on 22/12 nodes were free", 1),  # a date reads like a count: told once too often
        ("24.12/11 nodes", 0),
        ("3 of 2 relatives", 0),
    ],
)
def test_more_affected_than_removed_nodes_are_told(summary: str, count: int) -> None:
    assert len(summary_doubts(summary)) == count
    assert not any(character.isdigit() for doubt in summary_doubts(summary) for character in doubt)


def test_two_looks_that_disagree_are_told_and_whether_it_is_the_side() -> None:
    other_side, other_detail = SUMMARY.replace("left", "right", 1), SUMMARY.replace("50", "51")
    assert answer_doubts("summary", SUMMARY, True, None) == []
    (side,) = answer_doubts("summary", SUMMARY, True, other_side)
    assert "summary on its side" in side and "left breast" not in side
    cut, detail = answer_doubts("summary", SUMMARY, False, other_detail)
    assert "cut off" in cut and "summary on a detail" in detail
    assert side_doubted(SUMMARY, other_side)
    assert not side_doubted(SUMMARY, other_detail) and not side_doubted(SUMMARY, None)
    plan, mirrored = render_plan(PLAN), render_plan(PLAN.mirrored())
    assert side_doubted(plan, mirrored) and not side_doubted(plan, plan)
    assert "plan on its side" in answer_doubts("plan", plan, True, mirrored)[0]
    for told in ("Left breast: IDC grade 2, pT2 pN1.", "Invasive ductal Ca, left, BCT.", "Mammakarzinom links, pT1c."):
        assert side_doubted(told, mirrored_text(told)) and not side_doubted(told, told + " Grade 2.")
