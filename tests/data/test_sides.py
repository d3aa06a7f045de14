"""Texts of a mirrored patient."""

from __future__ import annotations

import pytest

from rollama.cohort.config import EXTERNAL_CENTRES, TRAINING_CENTRES, CohortConfig
from rollama.cohort.patients import draw_patient
from rollama.data.case import Split, TextCase
from rollama.data.plan import Dose, Plan, Side, Surgery, Technique, Volume, render_plan
from rollama.data.sides import mirrored_texts, other_side


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Left breast, the right one is fine.", "Right breast, the left one is fine."),
        ("LEFT applies; left-sided.", "RIGHT applies; right-sided."),
        ("Breast, Lt. | Rt breast bx; explain RT, sim", "Breast, Rt. | Lt breast bx; explain RT, sim"),
        ("Ca mammae L (upper), R0; ablation R 2020.", "Ca mammae R (upper), R0; ablation L 2020."),
        ("Ca links, rechtsseitig, linke Brust, L-Thyroxin", "Ca rechts, linksseitig, rechte Brust, L-Thyroxin"),
        ("Mamma re. oben, li. frei; regular, light", "Mamma li. oben, re. frei; regular, light"),
        ("bright, leftover, richtig, ER+", "bright, leftover, richtig, ER+"),
    ],
)  # fmt: skip
def test_only_sides_change(text: str, expected: str) -> None:
    assert other_side(text) == expected
    assert other_side(expected) == text


def test_a_case_is_another_case() -> None:
    plan = Plan(
        side=Side.LEFT, surgery=Surgery.CONSERVING, volume=Volume.BREAST, dose=Dose(gy=40.05, fractions=15),
        technique=Technique.VMAT,
    )  # fmt: skip
    case = TextCase(
        case_id="a1", centre="a", split=Split.TRAIN, note="Lt.", summary="left", plan=plan, plan_text=render_plan(plan)
    )
    found = mirrored_texts(case)
    assert (found.case_id, found.note, found.summary) == ("a1-mirrored", "Rt.", "right")
    assert found.plan is not None and found.plan_text == render_plan(found.plan) == render_plan(plan.mirrored())
    assert mirrored_texts(case.model_copy(update={"plan": None, "plan_text": ""})).plan is None


@pytest.mark.parametrize("centre", [*TRAINING_CENTRES, *EXTERNAL_CENTRES])
def test_notes_of_every_centre_come_back(centre: str) -> None:
    for number in range(12):
        patient = draw_patient(CohortConfig(), centre, Split.TRAIN, number)
        for text in (patient.note, patient.summary):
            turned = other_side(text)
            assert turned != text
            assert other_side(turned) == text
