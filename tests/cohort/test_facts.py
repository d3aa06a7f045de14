"""Facts: categories, possible patients only, and no side preferred."""

from __future__ import annotations

import pytest

from rollama.cohort.facts import Axilla, Chemo, Contralateral, Facts, draw_facts
from rollama.cohort.shifts import CENTRES
from rollama.core.errors import ConfigError
from rollama.core.seeding import numpy_generator
from rollama.data.plan import Side, Surgery


@pytest.mark.parametrize(("positive", "category"), [(0, 0), (1, 1), (3, 1), (4, 2), (9, 2), (10, 3)])
def test_n_category_counts_positive_nodes(base: Facts, positive: int, category: int) -> None:
    assert base.updated(nodes_positive=positive).n_category == category


def test_t_is_clinical_after_neoadjuvant_chemotherapy(base: Facts) -> None:
    facts = base.updated(t_clinical=3, t_pathological=1)
    assert facts.t_category == 1
    assert facts.updated(chemo=Chemo.BEFORE).t_category == 3


def test_mounds_follow_surgery_and_history(base: Facts) -> None:
    assert base.mounds == {Side.LEFT: True, Side.RIGHT: True}
    flat = base.updated(surgery=Surgery.MASTECTOMY)
    assert flat.mounds == {Side.LEFT: False, Side.RIGHT: True}
    assert flat.updated(reconstruction=True).mounds[Side.LEFT]
    assert not base.updated(contralateral=Contralateral.MASTECTOMY).mounds[Side.RIGHT]


def test_impossible_patients_are_refused(base: Facts) -> None:
    with pytest.raises(ConfigError, match="more positive nodes"):
        base.updated(nodes_positive=13)
    with pytest.raises(ConfigError, match="reconstruction without mastectomy"):
        base.updated(reconstruction=True)


@pytest.mark.parametrize("centre", CENTRES)
def test_population(centre: str) -> None:
    people = [draw_facts(numpy_generator("facts", centre, i), CENTRES[centre].population) for i in range(800)]
    left = sum(p.side is Side.LEFT for p in people) / len(people)
    mastectomy = sum(p.surgery is Surgery.MASTECTOMY for p in people) / len(people)
    assert left == pytest.approx(0.5, abs=0.06)
    assert mastectomy == pytest.approx(CENTRES[centre].population.mastectomy, abs=0.06)
    assert all(p.nodes_examined <= 5 for p in people if p.axilla is Axilla.SENTINEL)
    # The CT gives the side away by a missing mound in a minority of the cases only.
    assert sum(not p.mounds[p.side] for p in people) / len(people) < 0.35
