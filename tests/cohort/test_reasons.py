"""What the fields of a plan rest on, by the rules."""

from __future__ import annotations

import itertools

import pytest

from rollama.cohort.facts import Axilla, Chemo, Facts, Site, draw_facts
from rollama.cohort.reasons import reasons, usual_reasons
from rollama.cohort.rules import DECISIONS, RuleTable, load_rules
from rollama.cohort.shifts import CENTRES
from rollama.core.seeding import numpy_generator
from rollama.data.plan import Guideline, Surgery

CHANGES: dict[str, list[dict[str, object]]] = {
    "nodes": [{"nodes_positive": n} for n in (0, 1, 5)],
    "axilla": [{"axilla": value} for value in Axilla],
    "protocol": [{"protocol": value} for value in Guideline],
    "site": [{"site": value} for value in (Site.UPPER_OUTER, Site.CENTRAL)],
    "age": [{"age": value} for value in (45, 55, 70)],
    "grade": [{"grade": value} for value in (2, 3)],
    "margin": [{"margin_mm": value} for value in (1.0, 5.0)],
}


@pytest.fixture(scope="module")
def table() -> RuleTable:
    return load_rules()


def drawn(number: int) -> Facts:
    population = CENTRES[list(CENTRES)[number % len(CENTRES)]].population
    facts = draw_facts(numpy_generator("reasons", number), population)
    return facts.updated(nodes_examined=max(5, facts.nodes_examined))


def test_a_fact_that_changes_a_field_by_itself_is_one_of_its_reasons(table: RuleTable) -> None:
    """Facts outside the reasons may be changed at will, one at a time: the row that held goes on to hold."""
    changed = 0
    for number in range(120):
        facts = drawn(number)
        found, plan = reasons(table, facts), table.plan_for(facts)
        for name, change in ((name, change) for name, changes in CHANGES.items() for change in changes):
            other = table.plan_for(facts.updated(**change))
            for field in DECISIONS:
                if getattr(other, field) != getattr(plan, field):
                    changed += 1
                    assert name in found[field], (field, name)
    assert changed > 200


def test_known_patients(table: RuleTable) -> None:
    facts = drawn(0).updated(
        surgery=Surgery.CONSERVING, planned_surgery=Surgery.CONSERVING, reconstruction="none", nodes_positive=0, age=70,
        grade=1, margin_mm=5.0, chemo=Chemo.NONE, protocol=Guideline.ESTRO,
    )  # fmt: skip
    found = reasons(table, facts)
    assert found["side"] == {"side"} and found["surgery"] == {"surgery"} and found["guideline"] == {"protocol"}
    assert found["volume"] == {"surgery"} and found["levels"] == {"surgery", "nodes"}
    assert found["boost"] == {"age", "grade", "margin"}  # none of them is a risk
    assert found["dose"] == {"surgery", "nodes", "age", "grade", "margin", "protocol"}
    close = reasons(table, facts.updated(margin_mm=1.0))
    assert {"margin"} <= close["boost"] and not {"age", "grade"} & close["boost"]
    removed = facts.updated(surgery=Surgery.MASTECTOMY, clips=False, seroma=False)
    assert reasons(table, removed)["volume"] == {"surgery", "nodes", "t_stage"}
    assert reasons(table, removed.updated(chemo=Chemo.BEFORE))["volume"] == {"surgery", "nodes", "chemo"}


def test_what_a_plan_usually_rests_on(table: RuleTable) -> None:
    shared, mine = 0, 0
    for number, field in itertools.product(range(60), DECISIONS):
        facts = drawn(number)
        usual = usual_reasons(table, table.plan_for(facts))
        true = reasons(table, facts)[field]
        shared, mine = shared + len(usual[field] & true), mine + len(true)
    assert shared / mine > 0.9


def test_a_plan_that_nobody_gets_asks_the_nearest_ones(table: RuleTable) -> None:
    plan = next(plan for plan in map(table.plan_for, map(drawn, range(60))) if plan.boost and plan.levels)
    usual = usual_reasons(table, plan)
    assert set(usual) == {"side", "surgery", "guideline", *DECISIONS}
    assert usual_reasons(table, plan.mirrored()) == usual
    other = usual_reasons(table, plan.updated(technique="VMAT" if plan.technique == "3D-CRT" else "3D-CRT"))
    assert {field: other[field] for field in ("volume", "boost")} == {
        field: usual[field] for field in ("volume", "boost")
    }
    odd = usual_reasons(table, plan.updated(dose={"gy": 12.5, "fractions": 3}, guideline=None))
    assert set(usual) - set(odd) == {"dose", "guideline"}
