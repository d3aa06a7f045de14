"""The rules table: clinical examples hold, every row is reached, and a bad table or plan is refused by name."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from rollama.cohort.facts import Axilla, Chemo, Facts, Reconstruction, Site, draw_facts
from rollama.cohort.rules import DECISIONS, FACTS, everybody, features, load_rules, plan_for
from rollama.cohort.shifts import CENTRES
from rollama.core.errors import ConfigError, DataError
from rollama.core.seeding import numpy_generator
from rollama.data.plan import Dose, Guideline, Level, Side, Surgery, parse_plan, render_plan

MASTECTOMY = {"surgery": Surgery.MASTECTOMY}
RTOG = {"protocol": Guideline.RTOG}
DISSECTED = {"axilla": Axilla.DISSECTION}

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
    (RTOG, "Boost: none. Prescription: 42.56 Gy in 16 fractions. Technique: 3D-CRT. Guideline: RTOG."),
    ({**RTOG, "grade": 3}, "Boost: sequential 14 Gy in 7 fractions. Prescription: 42.56 Gy in 16 fractions."),
    (
        {"nodes_positive": 1},
        "Nodes: L1, L2, L3, L4. Boost: none. Prescription: 40.05 Gy in 15 fractions. Technique: VMAT.",
    ),
    ({"nodes_positive": 1, "grade": 3}, "Nodes: L1, L2, L3, L4. Boost: sequential 10 Gy in 5 fractions."),
    ({"nodes_positive": 2, "site": Site.LOWER_INNER}, "Nodes: L1, L2, L3, L4, IMN."),
    ({"nodes_positive": 2, "site": Site.LOWER_INNER, **RTOG}, "Nodes: L1, L2, L3, L4. Boost: none."),
    ({"nodes_positive": 3, **DISSECTED}, "Nodes: L3, L4. Boost: none."),
    ({"nodes_positive": 3, **DISSECTED, "site": Site.CENTRAL}, "Nodes: L3, L4, IMN."),
    (
        {"nodes_positive": 3, **DISSECTED, "site": Site.CENTRAL, **RTOG},
        "Nodes: L3, L4. Boost: none. Prescription: 50 Gy in 25 fractions. Technique: 3D-CRT.",
    ),
    ({"nodes_positive": 4, **DISSECTED}, "Nodes: L1, L2, L3, L4, interpectoral, IMN."),
    ({"nodes_positive": 10, **DISSECTED, **RTOG}, "Nodes: L1, L2, L3, L4, IMN. Boost: none. Prescription: 50 Gy in 25"),
    (MASTECTOMY, "Volumes: none. Nodes: none. Boost: none. Prescription: none. Technique: none."),
    (
        {**MASTECTOMY, "t_pathological": 3},
        "Volumes: chest wall. Nodes: none. Boost: none. Prescription: 40.05 Gy in 15 fractions. Technique: 3D-CRT.",
    ),
    ({**MASTECTOMY, "t_clinical": 3, "chemo": Chemo.BEFORE}, "Volumes: chest wall. Nodes: none."),
    ({**MASTECTOMY, "t_clinical": 3, "chemo": Chemo.AFTER}, "Volumes: none."),
    ({**MASTECTOMY, "t_pathological": 3, **RTOG}, "Volumes: chest wall. Nodes: L3, L4. Boost: none. Prescription: 50"),
    ({**MASTECTOMY, "nodes_positive": 1, "grade": 3}, "Volumes: chest wall. Nodes: L1, L2, L3, L4. Boost: none."),
    (
        {**MASTECTOMY, "nodes_positive": 1, "reconstruction": Reconstruction.EXPANDER},
        "Prescription: 50 Gy in 25 fractions.",
    ),
]


@pytest.mark.parametrize(("changes", "expected"), EXAMPLES)
def test_examples(base: Facts, changes: dict[str, object], expected: str) -> None:
    assert expected in render_plan(plan_for(base.updated(**changes)))


@pytest.mark.parametrize("side", Side)
def test_side_surgery_and_guideline_are_the_patient_s(base: Facts, side: Side) -> None:
    plan = plan_for(base.updated(side=side, **MASTECTOMY, **RTOG, nodes_positive=1))
    assert (plan.side, plan.surgery, plan.guideline) == (side, Surgery.MASTECTOMY, Guideline.RTOG)


def test_what_must_not_matter_does_not(base: Facts) -> None:
    plan = plan_for(base)
    for changes in (
        {"planned_surgery": Surgery.MASTECTOMY}, {"imaging_nodes": True}, {"imaging_size_mm": 70}, {"clips": True},
        {"seroma": True}, {"er_positive": False}, {"her2_positive": True}, {"contralateral_years": 12},
    ):  # fmt: skip
        assert plan_for(base.updated(**changes)) == plan


def test_every_row_decides_for_a_drawn_patient_and_every_plan_parses_and_is_within_the_rules() -> None:
    table = load_rules()
    used: Counter[str] = Counter()
    for name, centre in CENTRES.items():
        for number in range(400):
            facts = draw_facts(numpy_generator("rules", name, number), centre.population)
            plan = table.plan_for(facts)
            assert parse_plan(render_plan(plan)) == plan
            assert plan.guideline is facts.protocol
            table.check_plan(plan)
            levels = "4 or more" if len(plan.levels) >= 4 else "fewer"
            state = features(facts) | {
                "volume": str(plan.volume or "none"), "levels": levels,
                "imn": "yes" if Level.IMN in plan.levels else "no",
                "boost": str(plan.boost.kind) if plan.boost else "none",
            }  # fmt: skip
            for decides in DECISIONS:
                rows = [rule for rule in table.rules if rule.decides == decides]
                holding = [rule for rule in rows if rule.applies(state)] or [r for r in rows if r.when is None]
                assert len(holding) == 1
                used[str(holding[0])] += 1
    assert set(used) == {str(rule) for rule in table.rules}


def test_everybody_is_every_possible_kind_of_patient() -> None:
    kinds = list(everybody())
    assert len({tuple(kind.items()) for kind in kinds}) == len(kinds)
    assert all(set(kind) == set(FACTS) for kind in kinds)
    known = {tuple(kind.items()) for kind in kinds}
    for name, centre in CENTRES.items():
        for number in range(200):
            facts = draw_facts(numpy_generator("kinds", name, number), centre.population)
            assert tuple(features(facts).items()) in known
    assert len(load_rules().plans) > 30


def test_rows_name_decision_condition_result_and_source() -> None:
    rows = load_rules().rows()
    assert len(rows) == len(load_rules().rules)
    assert all(all(cell for cell in row) for row in rows)
    assert ("volume", "surgery breast-conserving", "whole breast", "ESTRO consensus 2015 (CTVp_breast)") in rows
    assert ("boost", "otherwise", "none", "usual practice") in rows
    assert {row[0] for row in rows} == set(DECISIONS)


Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def table(tmp_path: Path) -> Callable[[Edit], str]:
    """Write the bundled table with one change and return its path."""
    text = (resources.files("rollama.cohort") / "rules.yaml").read_text(encoding="utf-8")

    def write(edit: Edit) -> str:
        values = copy.deepcopy(yaml.safe_load(text))
        edit(values["decisions"])
        path = tmp_path / "rules.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        return str(path)

    return write


def test_the_bundled_table_as_a_file_gives_the_same_plans(table: Callable[[Edit], str], base: Facts) -> None:
    path = table(lambda decisions: None)
    loaded, bundled = load_rules(path), load_rules()
    assert loaded.digest == bundled.digest
    assert loaded.plans == bundled.plans
    assert loaded.source == path


def test_a_table_of_one_s_own_gives_its_own_plans(table: Callable[[Edit], str], base: Facts) -> None:
    path = table(lambda decisions: decisions["dose"][-1].update(gives="42.4 Gy in 16 fractions"))
    own = load_rules(path)
    assert own.digest != load_rules().digest
    plan = own.plan_for(base.updated(age=59))
    assert "Prescription: 42.4 Gy in 16 fractions." in render_plan(plan)
    with pytest.raises(DataError, match="outside the rules"):
        load_rules().check_plan(plan)


BAD: list[tuple[Edit, str]] = [
    (
        lambda d: d["volume"].append({"when": {"t": 4}, "gives": "chest wall", "source": "x"}),
        r"volume, row \d \(.*\) and volume, row 5 \(t 4\) contradict each other",
    ),
    (lambda d: d["volume"].pop(0), "volume: no row for a patient with surgery breast-conserving"),
    (lambda d: d["dose"].pop(), "dose: no row for a patient with .*volume whole breast"),
    (
        lambda d: d["boost"].insert(0, {"when": {"volume": "none", "n": 3}, "gives": "none", "source": "x"}),
        r"boost, row 1 \(volume none; n 3\): nobody reaches this row",
    ),
    (
        lambda d: d["levels"][4]["when"].update(nodes=3),
        "levels, row 5: unknown fact 'nodes'; accepted: surgery, rebuilt, n",
    ),
    (lambda d: d["volume"][0]["when"].update(levels="fewer"), "volume, row 1: unknown fact 'levels'"),
    (lambda d: d["levels"][4]["when"].update(n=[2, 4]), "levels, row 5: n is never 4; accepted: 0, 1, 2, 3"),
    (
        lambda d: d["volume"][0]["when"].update(surgery="lumpectomy"),
        "surgery is never lumpectomy; accepted: breast-conserving, mastectomy",
    ),
    (lambda d: d["dose"][1].update(gives="50 Gy"), "a dose reads '40.05 Gy in 15 fractions'"),
    (lambda d: d["boost"][0].update(gives="sequential 10 in 5"), "a boost 'sequential 10 Gy in 5 fractions'"),
    (lambda d: d["levels"][0].update(gives=["L3"]), r"an impossible plan from .*levels, row 1 \(volume none\)"),
    (lambda d: d["levels"][4].update(gives=["L2", "L1"]), "levels must be unique and in the order L1, L2"),
    (lambda d: d["levels"][4].update(gives=["L7"]), "an impossible plan from"),
    (lambda d: d["technique"][1].update(gives="protons"), "an impossible plan from"),
    (lambda d: d["dose"][1].pop("source"), "dose, row 2: a row has when, gives and source"),
    (lambda d: d["dose"][1].pop("gives"), "dose, row 2: a row has when, gives and source"),
    (lambda d: d["dose"][1].update(source=""), "dose, row 2: a row has when, gives and source"),
    (lambda d: d["dose"][1].update(when="always"), "dose, row 2: when must map facts to values, or be 'otherwise'"),
    (lambda d: d["dose"][1].update(when={}), "dose, row 2: when must map facts to values"),
    (lambda d: d.pop("boost"), "expected 'decisions:' with volume, levels, boost, dose, technique, in this order"),
    (lambda d: d.update(machine=[]), "expected 'decisions:' with volume, levels"),
    (lambda d: d.update(boost=[]), "boost must be a list of rows"),
    (lambda d: d.update(boost="none"), "boost must be a list of rows"),
]


@pytest.mark.parametrize(("edit", "message"), BAD)
def test_a_bad_table_is_refused_and_its_row_named(table: Callable[[Edit], str], edit: Edit, message: str) -> None:
    path = table(edit)
    with pytest.raises(ConfigError, match=message) as caught:
        load_rules(path)
    assert path in str(caught.value)


def test_several_problems_are_named_at_once(table: Callable[[Edit], str]) -> None:
    def spoil(decisions: dict[str, Any]) -> None:
        decisions["volume"][0]["when"]["surgery"] = "lumpectomy"
        decisions["dose"][1].pop("source")

    with pytest.raises(ConfigError, match=r"2 problem\(s\) in the rules table(.|\n)*lumpectomy(.|\n)*dose, row 2"):
        load_rules(table(spoil))


def test_a_file_without_decisions_or_none_at_all_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("rows: []\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="expected 'decisions:'"):
        load_rules(str(path))
    with pytest.raises(ConfigError, match="missing"):
        load_rules(str(tmp_path / "missing.yaml"))


def test_a_plan_outside_the_rules_is_refused_with_the_difference(base: Facts) -> None:
    plan = plan_for(base)
    with pytest.raises(
        DataError, match=r"case 7: .*nearest one there has 'Prescription: (26 Gy in 5|40.05 Gy in 15) fractions'"
    ):
        load_rules().check_plan(plan.updated(dose=Dose(gy=30, fractions=10)), "case 7")
    with pytest.raises(DataError, match="nearest one there has 'Nodes: none'"):
        load_rules().check_plan(plan.updated(levels=(Level.L2,)))
    with pytest.raises(DataError, match=r"outside the rules of the cohort's rules; .*'Guideline: (ESTRO|RTOG)"):
        load_rules().check_plan(plan.updated(guideline=None))


@pytest.mark.parametrize("side", Side)
def test_mirrored_plans_are_within_the_rules(base: Facts, side: Side) -> None:
    plan = plan_for(base.updated(side=side, nodes_positive=4))
    load_rules().check_plan(plan)
    load_rules().check_plan(plan.mirrored())
