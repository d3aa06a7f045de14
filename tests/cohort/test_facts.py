"""Facts: categories, possible patients only, what the CT shows of them, and no side preferred."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache

import pytest

from rollama.cohort.facts import (
    Axilla,
    Chemo,
    Contralateral,
    Facts,
    Mound,
    Reconstruction,
    Site,
    draw_facts,
)
from rollama.cohort.shifts import CENTRES, Population
from rollama.core.errors import ConfigError
from rollama.core.seeding import numpy_generator
from rollama.data.plan import Guideline, Side, Surgery
from tests.cohort.conftest import PLAIN

REMOVED = {"surgery": Surgery.MASTECTOMY}
OLD_REMOVED = {"contralateral": Contralateral.MASTECTOMY}
OLD_EXCISED = {"contralateral": Contralateral.LUMPECTOMY}


@pytest.mark.parametrize(("positive", "category"), [(0, 0), (1, 1), (3, 1), (4, 2), (9, 2), (10, 3)])
def test_n_category_counts_positive_nodes(base: Facts, positive: int, category: int) -> None:
    assert base.updated(nodes_positive=positive).n_category == category


def test_t_is_clinical_when_chemotherapy_came_first_and_pathological_otherwise(base: Facts) -> None:
    facts = base.updated(t_clinical=3, t_pathological=1)
    assert facts.t_category == 1
    assert facts.updated(chemo=Chemo.AFTER).t_category == 1
    assert facts.updated(chemo=Chemo.BEFORE).t_category == 3


@pytest.mark.parametrize(("margin", "close"), [(0.5, True), (1.9, True), (2.0, False), (7, False)])
def test_a_margin_below_two_mm_is_close(base: Facts, margin: float, close: bool) -> None:
    assert base.updated(margin_mm=margin).close_margin is close


@pytest.mark.parametrize(
    ("site", "medial"),
    [
        (Site.UPPER_OUTER, False),
        (Site.LOWER_OUTER, False),
        (Site.UPPER_INNER, True),
        (Site.LOWER_INNER, True),
        (Site.CENTRAL, True),
    ],
)
def test_inner_quadrants_and_the_centre_are_medial(site: Site, medial: bool) -> None:
    assert site.medial_or_central is medial


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes_positive": 13}, "more positive nodes than examined nodes"),
        ({"reconstruction": Reconstruction.FLAP}, "reconstruction without mastectomy"),
        ({**REMOVED, "clips": True}, "clips or seroma of a breast-conserving excision after mastectomy"),
        ({**REMOVED, "seroma": True}, "clips or seroma of a breast-conserving excision after mastectomy"),
        ({"contralateral_clips": True}, "contralateral clips without contralateral lumpectomy"),
        ({**OLD_REMOVED, "contralateral_clips": True}, "contralateral clips without contralateral lumpectomy"),
        ({**OLD_EXCISED, "contralateral_implant": True}, "contralateral implant without contralateral mastectomy"),
        ({"age": 12}, "age"),
        ({"grade": 4}, "grade"),
        ({"margin_mm": 0}, "margin_mm"),
        ({"nodes_examined": 0}, "nodes_examined"),
        ({"t_clinical": 5}, "t_clinical"),
    ],
)
def test_impossible_patients_are_refused(base: Facts, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        base.updated(**changes)


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize(
    ("changes", "own", "old"),
    [
        ({}, Mound.NATURAL, Mound.NATURAL),
        (REMOVED, Mound.FLAT, Mound.NATURAL),
        ({**REMOVED, "reconstruction": Reconstruction.FLAP}, Mound.NATURAL, Mound.NATURAL),
        ({**REMOVED, "reconstruction": Reconstruction.IMPLANT}, Mound.IMPLANT, Mound.NATURAL),
        ({**REMOVED, "reconstruction": Reconstruction.EXPANDER}, Mound.EXPANDER, Mound.NATURAL),
        (OLD_REMOVED, Mound.NATURAL, Mound.FLAT),
        ({**OLD_REMOVED, "contralateral_implant": True}, Mound.NATURAL, Mound.IMPLANT),
        (OLD_EXCISED, Mound.NATURAL, Mound.NATURAL),
        ({**REMOVED, **OLD_REMOVED}, Mound.FLAT, Mound.FLAT),
    ],
)
def test_mounds_follow_surgery_and_history_of_their_side(
    base: Facts, side: Side, changes: dict[str, object], own: Mound, old: Mound
) -> None:
    facts = base.updated(side=side, **changes)
    shown = facts.visible
    assert facts.other_side is not facts.side
    assert (shown.mounds[facts.side], shown.mounds[facts.other_side]) == (own, old)
    assert shown.symmetric is (own == old)


@pytest.mark.parametrize("side", Side)
def test_clips_and_seroma_are_shown_at_their_own_side_and_site(base: Facts, side: Side) -> None:
    facts = base.updated(side=side, clips=True, seroma=True, site=Site.LOWER_INNER)
    other = facts.other_side
    shown = facts.visible
    assert shown.clips == {side: Site.LOWER_INNER, other: None}
    assert shown.seroma == {side: Site.LOWER_INNER, other: None}
    old = base.updated(side=side, **OLD_EXCISED, contralateral_clips=True, contralateral_site=Site.UPPER_INNER).visible
    assert old.clips == {side: None, other: Site.UPPER_INNER}
    assert not shown.symmetric
    assert not old.symmetric


def test_clips_at_both_sides_are_symmetric_only_at_the_same_site(base: Facts) -> None:
    both = base.updated(clips=True, **OLD_EXCISED, contralateral_clips=True, contralateral_site=base.site)
    assert both.visible.symmetric
    assert both.updated(side=Side.RIGHT).visible.key == both.visible.key
    assert not both.updated(contralateral_site=Site.LOWER_INNER).visible.symmetric


def test_the_key_is_one_text_for_one_look(base: Facts) -> None:
    assert base.visible == PLAIN
    assert base.visible.key == "left: natural, None, None; right: natural, None, None"
    assert base.updated(age=40, side=Side.RIGHT, nodes_positive=3).visible.key == base.visible.key
    keys = {
        base.updated(**changes).visible.key
        for changes in ({}, REMOVED, OLD_REMOVED, {"clips": True}, {"seroma": True}, {"clips": True, "seroma": True})
    }
    assert len(keys) == 6


@cache
def people(centre: str, count: int = 800) -> tuple[Facts, ...]:
    population = CENTRES[centre].population
    return tuple(draw_facts(numpy_generator("facts", centre, i), population) for i in range(count))


def share(centre: str, holds: Callable[[Facts], object], among: Callable[[Facts], bool] = lambda _: True) -> float:
    chosen = [facts for facts in people(centre) if among(facts)]
    return sum(bool(holds(facts)) for facts in chosen) / len(chosen)


def removed(facts: Facts) -> bool:
    return facts.surgery is Surgery.MASTECTOMY


@pytest.mark.parametrize("centre", CENTRES)
def test_a_centre_s_patients_have_its_shares(centre: str) -> None:
    population = CENTRES[centre].population
    assert share(centre, lambda p: p.side is Side.LEFT) == pytest.approx(0.5, abs=0.06)
    assert share(centre, removed) == pytest.approx(population.mastectomy, abs=0.06)
    rebuilt = share(centre, lambda p: p.reconstruction is not Reconstruction.NONE, removed)
    assert rebuilt == pytest.approx(population.reconstruction, abs=0.12)
    dissected = share(centre, lambda p: p.axilla is Axilla.DISSECTION)
    assert dissected == pytest.approx(population.dissection, abs=0.06)
    assert share(centre, lambda p: p.chemo is Chemo.BEFORE) == pytest.approx(population.neoadjuvant, abs=0.06)
    assert share(centre, lambda p: p.protocol is Guideline.RTOG) == pytest.approx(population.rtog, abs=0.06)
    ages = [p.age for p in people(centre)]
    assert sum(ages) / len(ages) == pytest.approx(population.age, abs=2)
    assert share(centre, lambda p: p.nodes_positive) > 0.3
    assert share(centre, lambda p: p.close_margin) == pytest.approx(0.22, abs=0.05)


@pytest.mark.parametrize("centre", CENTRES)
def test_most_patients_show_nothing_that_tells_the_side(centre: str) -> None:
    assert share(centre, lambda p: p.visible.symmetric) > 0.5
    assert share(centre, lambda p: p.visible == PLAIN) > 0.4

    # A side that stands out is the treated one in some patients and the other one in others.
    def one_sided(facts: Facts) -> bool:
        return not facts.visible.symmetric

    def own(facts: Facts) -> bool:
        shown, side = facts.visible, facts.side
        return shown.mounds[side] is not Mound.NATURAL or bool(shown.clips[side] or shown.seroma[side])

    assert 0.2 < share(centre, own, one_sided) < 0.9


def test_every_value_occurs_and_clinical_limits_hold() -> None:
    everybody = [facts for centre in CENTRES for facts in people(centre)]
    for name, kind in (
        ("site", Site), ("axilla", Axilla), ("chemo", Chemo), ("reconstruction", Reconstruction),
        ("contralateral", Contralateral), ("protocol", Guideline), ("t_clinical", (1, 2, 3, 4)), ("grade", (1, 2, 3)),
        ("n_category", (0, 1, 2, 3)), ("t_pathological", (1, 2, 3, 4)),
    ):  # fmt: skip
        found = Counter(getattr(facts, name) for facts in everybody)
        assert set(found) == set(kind), name
    for facts in everybody:
        assert facts.nodes_examined <= 5 if facts.axilla is Axilla.SENTINEL else facts.nodes_examined >= 9
        assert facts.nodes_positive <= 2 or facts.axilla is Axilla.DISSECTION
        if facts.chemo is Chemo.BEFORE:
            assert facts.t_pathological <= facts.t_clinical
        else:
            assert facts.t_pathological == facts.t_clinical
        low, high = {1: (1, 20), 2: (21, 50), 3: (51, 85), 4: (30, 90)}[facts.t_pathological]
        assert low <= facts.size_mm <= high
        if facts.t_clinical == 4:
            assert removed(facts)


def test_the_same_generator_draws_the_same_patient_and_populations_shift_the_mix() -> None:
    assert draw_facts(numpy_generator("x"), Population()) == draw_facts(numpy_generator("x"), Population())
    all_rtog = Population(rtog=1.0, mastectomy=1.0, reconstruction=1.0)
    drawn = [draw_facts(numpy_generator("mix", i), all_rtog) for i in range(100)]
    assert all(f.protocol is Guideline.RTOG and removed(f) for f in drawn)
    assert Counter(f.reconstruction for f in drawn)[Reconstruction.NONE] == 0
