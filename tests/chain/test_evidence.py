"""Pointers from a plan's fields to the sentences of its note."""

from __future__ import annotations

from typing import Any

from rollama.chain.evidence import FIELDS, evidence_of
from rollama.chain.run import Chain
from rollama.data.plan import Guideline, Plan
from rollama.data.volumes import Volume

NOTE = (
    "54 y/o woman, left breast cancer. Years ago a cyst of the right breast. Wide excision with sentinel node biopsy. "
    "Nodes: 1/3 positive. Smokes. We contour by ESTRO."
)


def said(note: str, plan: Plan) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for pointer in evidence_of(note, plan):
        found.setdefault(pointer.field, []).append(note[pointer.start : pointer.end])
    return found


def test_fields_point_to_whole_sentences(plan: Plan) -> None:
    found = said(NOTE, plan)
    assert set(found) <= set(FIELDS) <= set(Plan.model_fields)
    assert found["side"] == ["54 y/o woman, left breast cancer."]
    assert found["surgery"] == ["Wide excision with sentinel node biopsy."]
    assert "Nodes: 1/3 positive." in found["levels"]
    assert "guideline" not in found  # the plan names none
    assert all("Smokes." not in sentences for sentences in found.values())
    assert said(NOTE, plan.mirrored())["side"] == ["Years ago a cyst of the right breast."]
    assert said(NOTE, plan.updated(guideline=Guideline.ESTRO))["guideline"] == ["We contour by ESTRO."]


def test_a_field_without_support_has_no_pointer(plan: Plan) -> None:
    assert evidence_of("She feels well.", plan) == ()
    assert evidence_of("She left the ward without pain.", plan) == ()  # no side


def test_places_count_in_the_note_as_given(ct: Volume, text: Any, segmenter: Any) -> None:
    given = "\r\n  Left breast cancer.\r\nLumpectomy."
    result = Chain(text, segmenter).run(ct, note=given)
    seen = given.replace("\r\n", "\n")
    assert {seen[item.start : item.end] for item in result.evidence} == {"Left breast cancer.", "Lumpectomy."}
    assert Chain(text, segmenter).run(ct, summary=given).evidence == ()


def test_a_plan_that_does_not_parse_has_no_evidence(ct: Volume, text: Any, segmenter: Any) -> None:
    from rollama.core.registry import Task
    from tests.chain.conftest import Answer

    text.answers[Task.PLAN] = Answer("Irradiate the left breast.")
    assert Chain(text, segmenter).run(ct, note="Left breast.").evidence == ()
