"""A case is its name's alone, no patient is in two splits, and twins differ in what the CT cannot tell."""

from __future__ import annotations

import itertools
from collections import Counter
from functools import cache

import pytest

from rollama.cohort.config import EXTERNAL_CENTRES, TRAINING_CENTRES, VARIANTS, CohortConfig
from rollama.cohort.facts import Contralateral, Facts, Reconstruction, Site, draw_facts
from rollama.cohort.notes import write_summary
from rollama.cohort.patients import (
    COMBINATIONS,
    SHARES,
    Patient,
    case_name,
    combination_of,
    conform,
    cues,
    draw_patient,
    split_of,
)
from rollama.cohort.rules import plan_for
from rollama.cohort.shifts import CENTRES
from rollama.cohort.styles import STYLES
from rollama.core.errors import DataError
from rollama.core.seeding import numpy_generator
from rollama.data.case import Split
from rollama.data.plan import Level, Side, Surgery, Volume, render_plan

CONFIG = CohortConfig()
SEEN = (Split.TRAIN, Split.VALIDATION, Split.TEST)


@cache
def draw(centre: str, split: Split, index: int) -> Patient:
    return draw_patient(CONFIG, centre, split, index)


def some(split: Split, count: int) -> list[Patient]:
    """Patients of a split, spread over its centres."""
    centres = EXTERNAL_CENTRES if split in (Split.EXTERNAL, Split.COUNTERFACTUAL) else TRAINING_CENTRES
    return [draw(centres[i % len(centres)], split, i // len(centres)) for i in range(count)]


def group(number: int) -> list[Patient]:
    """An external case and the other patients of its CT."""
    found = [draw("lakeside", Split.EXTERNAL, number)]
    return found + [draw("lakeside", Split.COUNTERFACTUAL, VARIANTS * number + i) for i in range(VARIANTS)]


def test_the_same_name_is_the_same_patient_whatever_else_the_cohort_holds() -> None:
    larger = CohortConfig(size="m", train=33, grid=(90, 70, 50))
    for split, index in ((Split.TRAIN, 7), (Split.TEST, 3), (Split.COMBINATION, 1)):
        assert draw_patient(larger, "riverside", split, index) == draw("riverside", split, index)
    assert draw_patient(larger, "lakeside", Split.COUNTERFACTUAL, 4) == draw("lakeside", Split.COUNTERFACTUAL, 4)


def test_another_seed_centre_split_or_index_is_another_patient() -> None:
    first = draw("northgate", Split.TRAIN, 0)
    others = [
        draw_patient(CONFIG.updated(seed=1), "northgate", Split.TRAIN, 0),
        draw("riverside", Split.TRAIN, 0),
        draw("northgate", Split.TEST, 0),
        draw("northgate", Split.TRAIN, 1),
    ]
    for other in others:
        assert other.facts != first.facts
        assert other.note != first.note


def test_the_case_id_says_centre_split_and_number_only() -> None:
    assert case_name("northgate", Split.TRAIN, 7) == "northgate-train-0007"
    assert draw("lakeside", Split.COUNTERFACTUAL, 11).case_id == "lakeside-counterfactual-0011"


def test_everything_of_a_patient_follows_from_her_facts() -> None:
    for split in Split:
        for patient in some(split, 6):
            assert patient.summary == write_summary(patient.facts)
            assert patient.plan == plan_for(patient.facts)
            assert patient.combination == combination_of(patient.facts, patient.plan)
            assert patient.style in {style.name for style in STYLES[patient.case_id.split("-")[0]]}
            for entry in patient.evidence:
                assert patient.note[entry.start : entry.end].strip()


def test_a_summary_belongs_to_one_split_by_its_hash() -> None:
    summaries = [f"summary {i}" for i in range(4000)]
    assert [split_of(text) for text in summaries] == [split_of(text) for text in summaries]
    found = Counter(split_of(text) for text in summaries)
    assert sum(SHARES.values()) == 100
    for split, percent in SHARES.items():
        assert 100 * found[split] / len(summaries) == pytest.approx(percent, abs=2)


def test_no_summary_is_in_two_splits() -> None:
    owner: dict[str, Split] = {}
    for split in Split:
        for patient in some(split, 24 if split is Split.TRAIN else 12):
            assert split_of(patient.summary) is split
            assert owner.setdefault(patient.summary, split) is split
    assert len(owner) > 60


def test_held_out_combinations_are_always_in_their_split_and_never_in_the_seen_ones() -> None:
    for split in SEEN:
        assert not any(patient.combination for patient in some(split, 80))
    held = some(Split.COMBINATION, 16)
    assert {patient.combination for patient in held} == set(COMBINATIONS)
    for patient in held:
        assert patient.combination is not None
        assert COMBINATIONS[patient.combination](patient.facts, patient.plan)
        if patient.combination == "expander and IMN":
            assert patient.facts.reconstruction is Reconstruction.EXPANDER
            assert Level.IMN in patient.plan.levels
        else:
            assert patient.plan.volume is Volume.BREAST
            assert patient.plan.levels == (Level.L3, Level.L4)


def test_each_part_of_a_combination_occurs_in_training() -> None:
    people = some(Split.TRAIN, 300)
    assert any(p.facts.reconstruction is Reconstruction.EXPANDER and p.plan.has_target for p in people)
    assert any(Level.IMN in p.plan.levels and p.plan.volume is Volume.CHEST_WALL for p in people)
    assert any(Level.IMN in p.plan.levels and p.facts.reconstruction is not Reconstruction.NONE for p in people)
    assert any(p.plan.levels == (Level.L3, Level.L4) and p.plan.volume is Volume.CHEST_WALL for p in people)
    assert any(p.plan.volume is Volume.BREAST and len(p.plan.levels) >= 4 for p in people)
    assert any(p.plan.volume is Volume.BREAST and not p.plan.levels for p in people)


@pytest.mark.parametrize("number", range(8))
def test_a_counterfactual_group_has_one_ct_and_four_plans(number: int) -> None:
    first, *others = group(number)
    assert first.anatomy_of == first.scan_of == first.case_id
    assert len(others) == VARIANTS
    for other in others:
        assert other.scan_of == other.anatomy_of == first.case_id
        assert other.facts.visible.key == first.facts.visible.key
        assert other.note != first.note
        assert cues(other.facts) == cues(first.facts)
    assert len({render_plan(patient.plan) for patient in (first, *others)}) == VARIANTS + 1


def test_where_the_sides_look_alike_other_plans_treat_the_other_side_too() -> None:
    groups = [found for number in range(8) if (found := group(number))[0].facts.visible.symmetric]
    assert len(groups) >= 3
    mixed = [len({patient.facts.side for patient in found}) == 2 for found in groups]
    assert sum(mixed) >= len(groups) / 2
    for number in range(8):
        found = group(number)
        if not found[0].facts.visible.symmetric:
            assert len({patient.facts.side for patient in found}) == 1


def test_training_twins_share_the_body_and_its_look_and_not_the_plan() -> None:
    found = {f"riverside-train-{i:04d}": draw("riverside", Split.TRAIN, i) for i in range(60)}
    twins = [patient for patient in found.values() if patient.anatomy_of != patient.case_id]
    assert 8 <= len(twins) <= 28
    for twin in twins:
        model = found[twin.anatomy_of]
        assert twin.anatomy_of < twin.case_id
        assert model.anatomy_of == model.case_id
        assert twin.scan_of == twin.case_id
        assert model.facts.visible.key == twin.facts.visible.key
        assert render_plan(model.plan) != render_plan(twin.plan)
    without = CONFIG.updated(twin_fraction=0.0)
    assert all((p := draw_patient(without, "riverside", Split.TRAIN, i)).anatomy_of == p.case_id for i in range(20))


@pytest.mark.parametrize("split", [Split.VALIDATION, Split.TEST, Split.EXTERNAL, Split.COMBINATION])
def test_other_splits_have_no_twins(split: Split) -> None:
    for patient in some(split, 10):
        assert patient.anatomy_of == patient.scan_of == patient.case_id


def test_each_centre_writes_in_all_of_its_styles_and_no_style_is_shared() -> None:
    names = [style.name for styles in STYLES.values() for style in styles]
    assert len(set(names)) == len(names)
    for centre in CENTRES:
        split = Split.EXTERNAL if centre in EXTERNAL_CENTRES else Split.TRAIN
        used = {draw(centre, split, index).style for index in range(30)}
        assert used == {style.name for style in STYLES[centre]}


def test_a_table_that_leaves_nobody_for_a_split_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollama.cohort.patients.ATTEMPTS", 3)
    monkeypatch.setattr("rollama.cohort.patients.split_of", lambda summary: Split.COUNTERFACTUAL)
    with pytest.raises(DataError, match="northgate-test-9999: no patient fits after 3 draws; change the seed or the"):
        draw_patient(CONFIG, "northgate", Split.TEST, 9999)


def test_conform_gives_a_patient_who_could_have_the_same_ct() -> None:
    population = CENTRES["lakeside"].population
    people = [draw_facts(numpy_generator("conform", i), population) for i in range(400)]
    kept = 0
    for model, facts in itertools.pairwise(people):
        for swap in (False, True):
            other = conform(facts, model, swap)
            if other is None:
                assert facts.t_clinical == 4
                continue
            kept += 1
            assert other.visible.key == model.visible.key
            assert other.side is (model.other_side if swap and model.visible.symmetric else model.side)
            for name in ("nodes_positive", "axilla", "age", "grade", "margin_mm", "chemo", "histology", "t_clinical"):
                assert getattr(other, name) == getattr(facts, name)
    assert kept > 600


def test_conform_keeps_what_the_ct_does_not_show(base: Facts) -> None:
    removed = base.updated(surgery=Surgery.MASTECTOMY, reconstruction=Reconstruction.FLAP, side=Side.RIGHT)
    other = conform(removed, base, swap=False)
    assert other is not None
    assert other.surgery is Surgery.MASTECTOMY  # a flap looks like a natural breast
    assert other.side is base.side
    flat = base.updated(surgery=Surgery.MASTECTOMY)
    rebuilt = conform(base.updated(age=41), flat, swap=True)
    assert rebuilt is not None
    assert (rebuilt.surgery, rebuilt.side, rebuilt.age) == (Surgery.MASTECTOMY, Side.LEFT, 41)
    marked = conform(base.updated(site=Site.CENTRAL), base.updated(seroma=True), swap=True)
    assert marked is not None
    assert (marked.site, marked.seroma) == (base.site, True)
    assert conform(flat.updated(t_clinical=4), base, swap=False) is None


def test_cues_say_whether_the_ct_shows_a_side(base: Facts) -> None:
    assert cues(base) == "none"
    assert cues(base.updated(clips=True)) == "one side"
    assert cues(base.updated(contralateral=Contralateral.MASTECTOMY)) == "one side"
    flat = base.updated(surgery=Surgery.MASTECTOMY)
    assert cues(flat) == "one side"
    assert cues(flat.updated(contralateral=Contralateral.MASTECTOMY)) == "both sides alike"
