"""Notes and summaries: they carry the facts, they never state the plan, and the external centre words its own way."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from rollama.cohort.config import EXTERNAL_CENTRES, TRAINING_CENTRES
from rollama.cohort.facts import Chemo, Contralateral, Facts, draw_facts
from rollama.cohort.notes import NUMBERS, PLAN_FACTS, Style, template_set, write_note, write_summary
from rollama.cohort.rules import plan_for
from rollama.cohort.shifts import CENTRES
from rollama.cohort.styles import STYLES
from rollama.core.seeding import numpy_generator
from rollama.data.case import Evidence
from rollama.data.plan import Surgery, render_plan

TELLTALE = re.compile(
    r"\b(c?gy|gray|fractions?|fractionation|boost|L[1-4]|IMN|IMC|levels?|internal mammary|supraclavicular|chest wall|"
    r"whole breast|irradiat\w*|radiotherapy|target|CTV|PTV|VMAT|IMRT|3D-CRT|tangent\w*|dose|hypofraction\w*|"
    r"recommend\w*|tumou?r bed|sequential|simultaneous|regional nodal)\b",
    re.IGNORECASE,
)
PAIRS = [(centre, style) for centre, styles in STYLES.items() for style in styles]


def written(style: Style, centre: str, count: int = 80) -> Iterator[tuple[Facts, str, tuple[Evidence, ...]]]:
    for number in range(count):
        facts = draw_facts(numpy_generator("notes", centre, number), CENTRES[centre].population)
        note, evidence = write_note(facts, style, numpy_generator("words", centre, style.name, number))
        yield facts, note, evidence


def test_every_centre_has_two_styles() -> None:
    assert STYLES.keys() == CENTRES.keys()
    assert all(len(styles) >= 2 for styles in STYLES.values())


def test_the_external_centre_shares_no_template() -> None:
    known = template_set([style for centre in TRAINING_CENTRES for style in STYLES[centre]])
    unseen = template_set([style for centre in EXTERNAL_CENTRES for style in STYLES[centre]])
    assert len(known) > 150
    assert len(unseen) > 50
    assert not known & unseen


@pytest.mark.parametrize(("centre", "style"), PAIRS, ids=lambda value: getattr(value, "name", value))
def test_notes_carry_every_fact_and_never_the_plan(centre: str, style: Style) -> None:
    for facts, note, evidence in written(style, centre):
        assert not TELLTALE.search(note), TELLTALE.search(note)
        assert 55 <= len(note.split()) <= 170
        assert "{" not in note
        by_fact = {item.fact: note[item.start : item.end] for item in evidence}
        needed = set(PLAN_FACTS) - (set() if facts.surgery is Surgery.MASTECTOMY else {"reconstruction"})
        assert needed <= by_fact.keys()
        assert str(facts.age) in by_fact["age"]
        assert str(facts.grade) in by_fact["grade"]
        assert f"T{facts.t_pathological}" in by_fact["t_stage"]
        assert f"{facts.margin_mm:g}" in by_fact["margin"]
        nodes = by_fact["nodes"].lower()
        assert str(facts.nodes_examined) in nodes or NUMBERS[facts.nodes_examined] in nodes
        none = facts.nodes_positive == 0 and ("clean" in nodes or "negative" in nodes)
        assert none or str(facts.nodes_positive) in nodes or NUMBERS[facts.nodes_positive] in nodes
        if facts.chemo is Chemo.BEFORE:
            assert f"cT{facts.t_clinical}" in by_fact["chemo"]
        if facts.contralateral is not Contralateral.NONE:
            assert by_fact["contralateral"]


@pytest.mark.parametrize(("centre", "style"), PAIRS, ids=lambda value: getattr(value, "name", value))
def test_evidence_is_one_whole_sentence(centre: str, style: Style) -> None:
    for _, note, evidence in written(style, centre, 30):
        for item in evidence:
            assert item.start == 0 or note[item.start - 1] in " \n"
            assert item.end == len(note) or note[item.end] in " \n"
            sentence = note[item.start : item.end]
            assert sentence[0].isupper() or sentence[0].isdigit()
            assert "\n" not in sentence


def test_notes_vary(base: Facts) -> None:
    for centre, style in PAIRS:
        notes = [write_note(base, style, numpy_generator("vary", centre, style.name, n))[0] for n in range(50)]
        assert len(set(notes)) > 40


def test_summaries_never_state_the_plan_and_determine_it() -> None:
    plans: dict[str, str] = {}
    for centre in CENTRES:
        for number in range(500):
            facts = draw_facts(numpy_generator("summary", centre, number), CENTRES[centre].population)
            summary = write_summary(facts)
            assert not TELLTALE.search(summary)
            assert 25 <= len(summary.split()) <= 60
            plan = render_plan(plan_for(facts))
            assert plans.setdefault(summary, plan) == plan


@pytest.mark.parametrize(
    "change",
    [
        {"age": 45}, {"side": "right"}, {"site": "central"}, {"grade": 3}, {"nodes_positive": 2}, {"margin_mm": 1.0},
        {"axilla": "axillary dissection"}, {"surgery": "mastectomy"}, {"chemo": "neoadjuvant"}, {"t_pathological": 3},
        {"surgery": "mastectomy", "reconstruction": True},
    ],
)  # fmt: skip
def test_each_fact_of_the_plan_is_in_the_summary(base: Facts, change: dict[str, object]) -> None:
    assert write_summary(base.updated(**change)) != write_summary(base)


def test_summary_derives_pn_and_names_the_surgery_done(base: Facts) -> None:
    facts = base.updated(nodes_positive=5, planned_surgery=Surgery.MASTECTOMY)
    assert "pN2 (5 of 12 nodes)" in write_summary(facts)
    assert "Mastectomy" not in write_summary(facts)
    assert "cT1 ypT1 (18 mm) ypN2" in write_summary(facts.updated(chemo=Chemo.BEFORE))
