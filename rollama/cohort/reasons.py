"""Which facts decide each field of a plan, by the rules that gave it: for a patient, or for whoever has a plan.

Only with this can pointers from a plan to its note be judged: the note says which sentence states a fact, the rules say
which facts a field rests on. For each decision that is the row that held; what it asks of earlier decisions brings in
the facts of those. A row "otherwise" rests on what keeps the other rows from holding: the fewest of their conditions
that exclude all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import chain, combinations

from rollama.cohort.facts import Chemo, Facts
from rollama.cohort.rules import DECIDED, DECISIONS, FACTS, Rule, RuleTable, everybody, features
from rollama.data.plan import Plan, Side, render_plan

Reasons = dict[str, frozenset[str]]
"""Field of the plan -> names of the facts (as in a note's `evidence`) that it rests on."""
_STATED = {
    "surgery": ("surgery",),
    "rebuilt": ("reconstruction",),
    "n": ("nodes",),
    "t": ("t_stage", "chemo"),
    "axilla": ("axilla",),
    "medial": ("site",),
    "age": ("age",),
    "risk": ("age", "grade", "margin"),
    "protocol": ("protocol",),
}
"""What the table asks, as facts that notes state."""
_FROM = {"volume": "volume", "levels": "levels", "imn": "levels", "boost": "boost"}
"""What a row asks of an earlier decision, and which decision that is."""


def reasons(table: RuleTable, facts: Facts) -> Reasons:
    """What the fields of a patient's plan rest on.

    Raises:
        DataError: see `RuleTable.plan_for`.
    """

    def stated(key: str) -> Iterable[str]:
        if key == "t":
            return ("chemo",) if facts.chemo is Chemo.BEFORE else ("t_stage",)  # cT is told with the chemotherapy
        if key == "risk":
            causes = {"age": facts.age < 50, "grade": facts.grade == 3, "margin": facts.close_margin}
            return [name for name, high in causes.items() if high or not any(causes.values())]
        return _STATED[key]

    return _reasons(table, features(facts), stated)


def usual_reasons(table: RuleTable, plan: Plan) -> Reasons:
    """What the fields of a plan usually rest on: in at least half of the kinds of patients to whom the table gives it.

    A generated plan may be one that nobody gets. So each field asks the plans of the table that have its value and
    agree with most of the other fields; a field whose value the table gives to nobody is left out.
    """
    found: Reasons = {"side": frozenset({"side"}), "surgery": frozenset({"surgery"})}
    if plan.guideline is not None:
        found["guideline"] = frozenset({"protocol"})
    known = _kinds(table)
    for field in DECISIONS:
        agree = {
            text: sum(getattr(other, name) == getattr(plan, name) for name in _COMPARED)
            for text, (other, _) in known.items()
            if getattr(other, field) == getattr(plan, field)
        }
        most = max(agree.values(), default=0)
        kinds = [kind[field] for text, count in agree.items() if count == most for kind in known[text][1]]
        if kinds:
            counts = Counter(chain.from_iterable(kinds))
            found[field] = frozenset(fact for fact, count in counts.items() if 2 * count >= len(kinds))
    return found


_COMPARED = ("surgery", "guideline", *DECISIONS)


@lru_cache(maxsize=4)
def _kinds(table: RuleTable) -> dict[str, tuple[Plan, list[Reasons]]]:
    """Every plan of the table for the left side, and the reasons of each kind of patient who gets it."""
    found: dict[str, tuple[Plan, list[Reasons]]] = {}
    for known in everybody():
        plan = table.plan_of(known, Side.LEFT)
        kinds = found.setdefault(render_plan(plan), (plan, []))[1]
        kinds.append(_reasons(table, known, _STATED.__getitem__))
    return found


def _reasons(table: RuleTable, known: Mapping[str, str], stated: Callable[[str], Iterable[str]]) -> Reasons:
    rows, state = table.rows_for(known)
    found = {"side": frozenset({"side"}), "surgery": frozenset({"surgery"}), "guideline": frozenset({"protocol"})}
    for decides in DECISIONS:
        row = rows[decides]
        keys = row.when if row.when is not None else _excluding(table.rules, row, state)
        parts = [found[_FROM[key]] if key in _FROM else stated(key) for key in keys]
        found[decides] = frozenset(chain.from_iterable(parts))
    return found


def _excluding(rules: Iterable[Rule], row: Rule, known: Mapping[str, str]) -> tuple[str, ...]:
    others = [rule.when for rule in rules if rule.decides == row.decides and rule.when is not None]
    failing = [{key for key, values in when.items() if known[key] not in values} for when in others]
    keys = [key for key in (*DECIDED, *FACTS) if any(key in found for found in failing)]
    return next(
        chosen
        for size in range(len(keys) + 1)
        for chosen in combinations(keys, size)
        if all(found.intersection(chosen) for found in failing)
    )
