"""The rules table: every row is reachable, every fact has a plan, the clinical examples hold."""

from __future__ import annotations

from collections import Counter

import pytest

from rollama.cohort.facts import Axilla, Chemo, Facts, Site, draw_facts
from rollama.cohort.rules import RULES, plan_for, rule_rows
from rollama.cohort.shifts import CENTRES
from rollama.core.seeding import numpy_generator
from rollama.data.plan import Surgery, parse_plan, render_plan

MASTECTOMY = {"surgery": Surgery.MASTECTOMY}

EXAMPLES = [
    ({}, "Volumes: whole breast. Nodes: none. Boost: none. Prescription: 26 Gy in 5 fractions. Technique: 3D-CRT."),
    (
        {"age": 59},
        "Volumes: whole breast. Nodes: none. Boost: none. Prescription: 40.05 Gy in 15 fractions. Technique: 3D-CRT.",
    ),
    (
        {"age": 49},
        "Boost: simultaneous 48 Gy in 15 fractions. Prescription: 40.05 Gy in 15 fractions. Technique: VMAT.",
    ),
    ({"grade": 3}, "Boost: simultaneous 48 Gy in 15 fractions."),
    ({"margin_mm": 1.5}, "Boost: simultaneous 48 Gy in 15 fractions."),
    ({"margin_mm": 2.0}, "Boost: none."),
    ({"nodes_positive": 1}, "Nodes: L1, L2, L3, L4. Boost: none."),
    ({"nodes_positive": 1, "grade": 3}, "Nodes: L1, L2, L3, L4. Boost: sequential 10 Gy in 5 fractions."),
    ({"nodes_positive": 3, "axilla": Axilla.DISSECTION}, "Nodes: L3, L4. Boost: none."),
    ({"nodes_positive": 3, "axilla": Axilla.DISSECTION, "site": Site.CENTRAL}, "Nodes: L3, L4, IMN."),
    ({"nodes_positive": 4, "axilla": Axilla.DISSECTION}, "Nodes: L1, L2, L3, L4, IMN."),
    ({"nodes_positive": 2, "site": Site.LOWER_INNER}, "Nodes: L1, L2, L3, L4, IMN."),
    (MASTECTOMY, "Volumes: none. Nodes: none. Boost: none. Prescription: none. Technique: none."),
    ({**MASTECTOMY, "t_pathological": 3}, "Volumes: chest wall. Nodes: none."),
    ({**MASTECTOMY, "t_clinical": 3, "chemo": Chemo.BEFORE}, "Volumes: chest wall. Nodes: none."),
    ({**MASTECTOMY, "nodes_positive": 1}, "Volumes: chest wall. Nodes: L1, L2, L3, L4. Boost: none."),
    ({**MASTECTOMY, "nodes_positive": 1, "reconstruction": True}, "Prescription: 50 Gy in 25 fractions."),
]


@pytest.mark.parametrize(("changes", "expected"), EXAMPLES)
def test_examples(base: Facts, changes: dict[str, object], expected: str) -> None:
    assert expected in render_plan(plan_for(base.updated(**changes)))


def test_every_row_decides_for_someone_and_every_plan_parses() -> None:
    used: Counter[int] = Counter()
    for name, centre in CENTRES.items():
        for number in range(400):
            facts = draw_facts(numpy_generator("rules", name, number), centre.population)
            plan = plan_for(facts)
            assert parse_plan(render_plan(plan)) == plan
            assert plan.guideline is None
            decided: dict[str, object] = {}
            for row, rule in enumerate(RULES):
                if rule.decides not in decided and rule.applies(facts, decided):
                    decided[rule.decides] = rule.gives
                    used[row] += 1
    assert sorted(used) == list(range(len(RULES)))


def test_rows_name_their_source() -> None:
    rows = rule_rows()
    assert len(rows) == len(RULES)
    assert all(all(cell for cell in row) for row in rows)
