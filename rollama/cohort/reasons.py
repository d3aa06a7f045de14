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


def usual_reasons(table: RuleTable, plan: Plan) -> Reasons | None:
    """What the fields of a plan rest on in at least half of the kinds of patients to whom the table gives it.

    None for a plan that the table gives to nobody.
    """
    return _usual(table).get(render_plan(plan if plan.side is Side.LEFT else plan.mirrored()))


@lru_cache(maxsize=4)
def _usual(table: RuleTable) -> dict[str, Reasons]:
    counts: dict[str, tuple[list[int], dict[str, Counter[str]]]] = {}
    for known in everybody():
        total, fields = counts.setdefault(render_plan(table.plan_of(known, Side.LEFT)), ([], {}))
        total.append(1)
        for field, found in _reasons(table, known, _STATED.__getitem__).items():
            fields.setdefault(field, Counter()).update(found)
    return {
        text: {
            field: frozenset(fact for fact, n in facts.items() if 2 * n >= len(total))
            for field, facts in fields.items()
        }
        for text, (total, fields) in counts.items()
    }


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
