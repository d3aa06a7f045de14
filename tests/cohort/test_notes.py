"""Notes and summaries: they carry the facts, they never state the plan, and what misleads stays apart from both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from statistics import median

import pytest

from rollama.cohort.config import EXTERNAL_CENTRES, TRAINING_CENTRES
from rollama.cohort.dictation import PROTECTED, SOUND_ALIKES, is_protected, mistype
from rollama.cohort.facts import Axilla, Chemo, Contralateral, Facts, Reconstruction, draw_facts
from rollama.cohort.notes import PLAN_FACTS, Slot, Style, compose, template_set, write_note, write_summary
from rollama.cohort.rules import plan_for
from rollama.cohort.shifts import CENTRES
from rollama.cohort.styles import STYLES
from rollama.cohort.wording import NUMBERS, conditions
from rollama.core.seeding import numpy_generator
from rollama.data.case import Evidence
from rollama.data.plan import Guideline, Surgery, render_plan

TELLTALE = re.compile(
    r"\b(c?gy|gray|fractions?|fractionation|boost\w*|L[1-4]|IMN|IMC|levels?|internal mammary|supraclavicular|"
    r"chest wall|whole breast|irradiat\w*|radiotherapy|target\w*|CTV\w*|PTV|VMAT|IMRT|3D-CRT|tangent\w*|dose|"
    r"hypofraction\w*|recommend\w*|tumou?r bed|sequential|simultaneous|regional nodal|RNI|PMRT|WBI|SIB|"
    r"bolus|electrons?|photons?|interpectoral\w*|bestrahl\w*|strahlen\w*|radiatio|dosis|fraktion\w*|zielvolumen|"
    r"brustwand|ganzbrust|lymphabfluss\w*|supraklavikul\w*|parasternal\w*|mammaria)\b",
    re.IGNORECASE,
)
PAIRS = [(centre, style) for centre, styles in STYLES.items() for style in styles]
SURGERY = {
    Surgery.MASTECTOMY: re.compile(r"(?<!partial )mastectom|ablat|\bTM\b", re.IGNORECASE),
    Surgery.CONSERVING: re.compile(
        r"lumpectom|excis|conserv|segmental|tumorectom|brusterhaltend|\bBCS\b|\bBET\b", re.IGNORECASE
    ),
}
AXILLA = {
    Axilla.SENTINEL: re.compile(r"sentinel|\bSLNB\b", re.IGNORECASE),
    Axilla.DISSECTION: re.compile(r"dissect|dissektion|cleared|clearance|\bALND\b", re.IGNORECASE),
}
RECONSTRUCTION = {
    Reconstruction.NONE: re.compile(r"\b(no|not|none|keine|nicht|flat|declined|turned down)\b", re.IGNORECASE),
    Reconstruction.IMPLANT: re.compile(r"implant", re.IGNORECASE),
    Reconstruction.EXPANDER: re.compile(r"expander", re.IGNORECASE),
    Reconstruction.FLAP: re.compile(r"flap|lappen", re.IGNORECASE),
}
LENGTH = re.compile(r"(\d+(?:[.,]\d+)?) (cm|mm|millimeters)\b")
CARRYING = re.compile(
    r"\d|\b(left|right|left-sided|right-sided|no|not|none|never|without|nothing|clean|mastectomy|lumpectomy|sentinel|"
    r"dissection|dissected|implant|expander|flap|planned|wanted|signed|got|did|had|reconstructed|reconstruction|upper|"
    r"lower|outer|inner|ductal|lobular|mucinous|mixed|after|before|positive|negative|one|two|three|four|five)\b",
    re.IGNORECASE,
)


def drawn(centre: str, number: int) -> Facts:
    return draw_facts(numpy_generator("notes", centre, number), CENTRES[centre].population)


def written(style: Style, centre: str, count: int = 80) -> Iterator[tuple[Facts, str, tuple[Evidence, ...]]]:
    for number in range(count):
        facts = drawn(centre, number)
        note, evidence = write_note(facts, style, numpy_generator("words", centre, style.name, number))
        yield facts, note, evidence


def lengths_mm(text: str) -> list[float]:
    """Every length in a text in mm, whichever unit it is written in."""
    found = [(float(number.replace(",", ".")), unit) for number, unit in LENGTH.findall(text)]
    return [round(number * (10 if unit == "cm" else 1), 6) for number, unit in found]


def test_every_centre_has_two_styles() -> None:
    assert STYLES.keys() == CENTRES.keys()
    assert len(STYLES) >= 5
    assert all(len(styles) >= 2 for styles in STYLES.values())
    names = [style.name for _, style in PAIRS]
    assert len(set(names)) == len(names)


def test_the_external_centre_shares_no_template() -> None:
    known = template_set([style for centre in TRAINING_CENTRES for style in STYLES[centre]])
    unseen = template_set([style for centre in EXTERNAL_CENTRES for style in STYLES[centre]])
    assert len(known) > 400
    assert len(unseen) > 100
    assert not known & unseen


@pytest.mark.parametrize(("centre", "style"), PAIRS, ids=lambda value: getattr(value, "name", value))
def test_notes_carry_every_fact_and_never_the_plan(centre: str, style: Style) -> None:
    for facts, note, evidence in written(style, centre):
        assert not TELLTALE.search(note), TELLTALE.search(note)
        assert 55 <= len(note.split()) <= 190
        assert "{" not in note
        by_fact = {item.fact: note[item.start : item.end] for item in evidence}
        needed = set(PLAN_FACTS) - (set() if facts.surgery is Surgery.MASTECTOMY else {"reconstruction"})
        assert needed <= by_fact.keys()
        assert str(facts.age) in by_fact["age"]
        assert str(facts.grade) in by_fact["grade"]
        assert f"T{facts.t_pathological}" in by_fact["t_stage"]
        assert facts.margin_mm in lengths_mm(by_fact["margin"])
        nodes = by_fact["nodes"].lower()
        assert str(facts.nodes_examined) in nodes or NUMBERS[facts.nodes_examined] in nodes
        none = facts.nodes_positive == 0 and ("clean" in nodes or "negative" in nodes)
        assert none or str(facts.nodes_positive) in nodes or NUMBERS[facts.nodes_positive] in nodes
        if facts.chemo is Chemo.BEFORE:
            assert f"cT{facts.t_clinical}" in by_fact["chemo"]
        if facts.contralateral is not Contralateral.NONE:
            assert by_fact["contralateral"]


@pytest.mark.parametrize(("centre", "style"), PAIRS, ids=lambda value: getattr(value, "name", value))
def test_evidence_names_what_is_true_and_nothing_else(centre: str, style: Style) -> None:
    sides = style.words.get("side", {})
    for facts, note, evidence in written(style, centre):
        by_fact = {item.fact: note[item.start : item.end] for item in evidence}
        own, other = (re.escape(sides.get(side, side)) for side in (facts.side, facts.other_side))
        assert re.search(rf"\b{own}", by_fact["side"])
        assert not re.search(rf"\b{other}\b", by_fact["side"])
        assert facts.protocol in by_fact["protocol"]
        assert not any(other in note for other in Guideline if other is not facts.protocol)
        assert SURGERY[facts.surgery].search(by_fact["surgery"])
        if facts.planned_surgery is facts.surgery:
            assert not any(words.search(by_fact["surgery"]) for kind, words in SURGERY.items() if kind != facts.surgery)
        assert [kind for kind, words in AXILLA.items() if words.search(by_fact["axilla"])] == [facts.axilla]
        if facts.surgery is Surgery.CONSERVING:
            assert "reconstruction" not in by_fact
        else:
            said = [kind for kind, words in RECONSTRUCTION.items() if words.search(by_fact["reconstruction"])]
            assert said == [facts.reconstruction]


@pytest.mark.parametrize(("centre", "style"), PAIRS, ids=lambda value: getattr(value, "name", value))
def test_clips_and_seroma_are_told_of_those_who_have_them_only(centre: str, style: Style) -> None:
    told = {"clips": 0, "seroma": 0}
    for facts, note, evidence in written(style, centre, 300):
        names = {item.fact for item in evidence}
        if re.search(r"\bclip", note, re.IGNORECASE):
            assert facts.clips or facts.contralateral_clips
        if facts.seroma:
            assert not re.search(r"\b(no|kein) serom", note, re.IGNORECASE)
        for name in told:
            assert name not in names or getattr(facts, name)
            told[name] += name in names
    assert min(told.values()) >= 1


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


def test_notes_are_short_enough_to_train_on() -> None:
    words = {style.name: [len(note.split()) for _, note, _ in written(style, centre, 60)] for centre, style in PAIRS}
    assert median([count for counts in words.values() for count in counts]) < 115
    assert all(median(counts) < 140 for counts in words.values())


def test_margins_and_sizes_come_in_both_units() -> None:
    units = {}
    for centre, style in PAIRS:
        _, note, evidence = next(written(style, centre, 1))
        sentence = next(note[item.start : item.end] for item in evidence if item.fact == "margin")
        units[style.name] = LENGTH.search(sentence)
    found = {match[2] for match in units.values() if match}
    assert {"mm", "cm"} <= found
    assert lengths_mm("closest 0.05 cm, edge 1,5 mm") == [0.5, 1.5]


# What misleads


@pytest.mark.parametrize(("centre", "style"), PAIRS, ids=lambda value: getattr(value, "name", value))
def test_distractors_occur_and_are_never_evidence(centre: str, style: Style) -> None:
    contradicted = 0
    for number in range(150):
        facts = drawn(centre, number)
        key = ("words", centre, style.name, number)
        sentences = compose(facts, style, numpy_generator(*key))
        note, evidence = write_note(facts, style, numpy_generator(*key))
        assert note == style.separator.join(sentence.text for sentence in sentences)
        covered = {place for item in evidence for place in range(item.start, item.end)}
        start = 0
        for sentence in sentences:
            place = note.index(sentence.text, start)
            start = place + len(sentence.text)
            if sentence.trap:
                assert covered.isdisjoint(range(place, start))
        contradicted += any(sentence.trap == "imaging" for sentence in sentences)
    assert 0.15 <= contradicted / 150 <= 0.6


def test_imaging_misleads_only_where_pathology_differs() -> None:
    for centre, style in PAIRS:
        for number in range(60):
            facts = drawn(centre, number)
            sentences = compose(facts, style, numpy_generator("words", centre, style.name, number))
            if any(sentence.trap == "imaging" for sentence in sentences):
                nodes_differ = facts.imaging_nodes != (facts.nodes_positive > 0)
                assert nodes_differ or abs(facts.imaging_size_mm - facts.size_mm) >= 5


def test_an_overcalled_axilla_needs_no_chemotherapy_before(base: Facts) -> None:
    facts = base.updated(imaging_nodes=True)
    assert "imaging overcalled" in conditions(facts)
    assert "imaging overcalled" not in conditions(facts.updated(chemo=Chemo.BEFORE))
    assert "imaging overcalled" not in conditions(facts.updated(nodes_positive=1))
    assert "imaging missed" in conditions(facts.updated(nodes_positive=1, imaging_nodes=False))


def test_a_line_carried_over_is_always_corrected() -> None:
    """The wrong side or outdated grade stands first, and a later line of the same note says so."""
    seen: dict[str, int] = {}
    for centre, style in PAIRS:
        words = style.words.get("side", {})
        for number in range(200):
            facts = drawn(centre, number)
            sentences = compose(facts, style, numpy_generator("words", centre, style.name, number))
            lines = [sentence.text for sentence in sentences if sentence.trap == "carried over"]
            assert len(lines) in (0, 2)
            if not lines:
                continue
            seen[style.name] = seen.get(style.name, 0) + 1
            own, other = (words.get(side, side) for side in (facts.side, facts.other_side))
            mistaken = re.search(rf"\b{re.escape(other)}(?!\w)", lines[0])
            if mistaken:
                assert re.search(rf"\b{re.escape(own)}(?!\w)", lines[1])
                assert re.search(r"wrong|mistaken|falsch", lines[1])
            else:
                assert re.search(r"outdated|superseded|ueberholt|out of date", lines[1])
    assert len(seen) >= 5
    assert set(seen) & {style.name for centre in EXTERNAL_CENTRES for style in STYLES[centre]}
    assert all(0.1 <= count / 200 <= 0.4 for count in seen.values())


def test_a_trap_carries_no_fact() -> None:
    with pytest.raises(ValueError, match="carries no facts"):
        Slot(("side",), {"always": ("It is the {other} side.",)}, trap="carried over")


# Slips of the typist


@pytest.mark.parametrize("rate", [None, 0.9])
def test_slips_leave_evidence_and_carrying_words_exact(rate: float | None) -> None:
    styles = [(centre, style) for centre, style in PAIRS if style.typos > 0]
    assert {"dictation", "clinic"} <= {style.name for _, style in styles}
    for centre, style in styles:
        typed = style if rate is None else replace(style, typos=rate)
        changed = 0
        for (facts, note, evidence), (_, plain, known) in zip(
            written(typed, centre), written(replace(style, typos=0.0), centre), strict=True
        ):
            assert not TELLTALE.search(note)
            assert [item.fact for item in evidence] == [item.fact for item in known]
            for item, model in zip(evidence, known, strict=True):
                here, there = note[item.start : item.end].split(), plain[model.start : model.end].split()
                assert len(here) == len(there)
                for word, meant in zip(here, there, strict=True):
                    assert word == meant or not (CARRYING.search(meant) or CARRYING.search(word)), facts
            changed += note != plain
        assert changed > 20


def test_clean_styles_have_no_slips(base: Facts) -> None:
    letter = next(style for _, style in PAIRS if style.name == "letter")
    assert letter.typos == 0
    templates = template_set([letter])
    for sentence in compose(base, letter, numpy_generator("clean")):
        pattern = [re.escape(text).replace("_", r"[\w-]+(?: [\w-]+)*") for text in templates]
        assert any(re.fullmatch(text, sentence.text.lower()) for text in pattern), sentence.text


@pytest.mark.parametrize(
    "sentence",
    [
        "Left mastectomy planned, not done, lumpectomy done.",
        "None of the 12 nodes had cancer.",
        "No implant, no expander, no flap.",
        "Sentinel biopsy, no dissection.",
        "Upper outer quadrant, ER+, HER2-, cT2.",
    ],
)
def test_carrying_sentences_are_never_touched(sentence: str) -> None:
    assert all(mistype(sentence, 1.0, numpy_generator("slip", n)) == sentence for n in range(50))


def test_slips_touch_plain_words_and_commas() -> None:
    sentence = "Lives quietly, walking several gentle dogs through the woodland"
    slips = {mistype(sentence, 1.0, numpy_generator("slip", n)) for n in range(200)}
    assert len(slips) > 50
    assert any("," not in slip for slip in slips)
    assert all(slip[0] == "L" and len(slip.split()) == len(sentence.split()) for slip in slips)
    assert mistype(sentence, 0.0, numpy_generator("slip")) == sentence


def test_sound_alikes_make_no_carrying_word() -> None:
    for word, slip in SOUND_ALIKES.items():
        assert word[0] == slip[0] and word != slip
        assert not is_protected(word) and not PROTECTED.match(slip)


# The reference summary


def test_summaries_never_state_the_plan_and_determine_it() -> None:
    plans: dict[str, str] = {}
    for centre in CENTRES:
        for number in range(500):
            facts = draw_facts(numpy_generator("summary", centre, number), CENTRES[centre].population)
            summary = write_summary(facts)
            assert not TELLTALE.search(summary)
            assert 25 <= len(summary.split()) <= 62
            plan = render_plan(plan_for(facts))
            assert plans.setdefault(summary, plan) == plan


@pytest.mark.parametrize(
    "change",
    [
        {"age": 45}, {"side": "right"}, {"site": "central"}, {"grade": 3}, {"nodes_positive": 2}, {"margin_mm": 1.0},
        {"axilla": "axillary dissection"}, {"surgery": "mastectomy"}, {"chemo": "neoadjuvant"}, {"t_pathological": 3},
        {"surgery": "mastectomy", "reconstruction": "flap"}, {"protocol": "RTOG"},
    ],
)  # fmt: skip
def test_each_fact_of_the_plan_is_in_the_summary(base: Facts, change: dict[str, object]) -> None:
    assert write_summary(base.updated(**change)) != write_summary(base)


def test_summary_derives_pn_and_names_the_surgery_done(base: Facts) -> None:
    facts = base.updated(nodes_positive=5, planned_surgery=Surgery.MASTECTOMY)
    assert "pN2 (5 of 12 nodes)" in write_summary(facts)
    assert "Mastectomy" not in write_summary(facts)
    assert "cT1 ypT1 (18 mm) ypN2" in write_summary(facts.updated(chemo=Chemo.BEFORE))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Reconstruction.NONE, "Mastectomy without reconstruction, "),
        (Reconstruction.IMPLANT, "Mastectomy with implant reconstruction, "),
        (Reconstruction.EXPANDER, "Mastectomy with tissue expander, "),
        (Reconstruction.FLAP, "Mastectomy with flap reconstruction, "),
    ],
)
def test_summary_names_the_reconstruction(base: Facts, kind: Reconstruction, words: str) -> None:
    facts = base.updated(surgery=Surgery.MASTECTOMY, reconstruction=kind)
    assert words in write_summary(facts)
    assert "econstruction" not in write_summary(base)


@pytest.mark.parametrize("protocol", list(Guideline))
def test_summary_ends_with_the_protocol(base: Facts, protocol: Guideline) -> None:
    assert write_summary(base.updated(protocol=protocol)).endswith(f" {protocol} protocol.")


def test_contradicted_imaging_never_enters_the_summary(base: Facts) -> None:
    assert write_summary(base.updated(imaging_size_mm=44, imaging_nodes=True)) == write_summary(base)
    assert write_summary(base.updated(planned_surgery=Surgery.MASTECTOMY)) == write_summary(base)
