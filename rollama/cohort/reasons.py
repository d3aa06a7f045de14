"""Which of a patient's facts decide each field of her plan, by the rules that gave it.

Only with this can pointers from a plan to its note be judged: the note says which sentence states a fact, the rules say
which facts a field rests on. For each decision that is the row that held; what it asks of earlier decisions brings in
the facts of those. A row "otherwise" rests on what keeps the other rows from holding: the fewest of their conditions
that exclude all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, combinations

from rollama.cohort.facts import Chemo, Facts
from rollama.cohort.rules import DECIDED, DECISIONS, FACTS, Rule, RuleTable

_STATED = {
    "surgery": ("surgery",),
    "rebuilt": ("reconstruction",),
    "n": ("nodes",),
    "axilla": ("axilla",),
    "medial": ("site",),
    "age": ("age",),
    "protocol": ("protocol",),
}
"""What the table asks, as facts that a note states; `t` and `risk` depend on the patient."""
_FROM = {"volume": "volume", "levels": "levels", "imn": "levels", "boost": "boost"}
"""What a row asks of an earlier decision, and which decision that is."""


def reasons(table: RuleTable, facts: Facts) -> dict[str, frozenset[str]]:
    """Field of the plan -> names of the facts (as in a note's `evidence`) that it rests on.

    Raises:
        DataError: see `RuleTable.plan_for`.
    """
    rows, known = table.rows_for(facts), table.state_of(facts)
    found = {"side": frozenset({"side"}), "surgery": frozenset({"surgery"}), "guideline": frozenset({"protocol"})}
    for decides in DECISIONS:
        row = rows[decides]
        keys = row.when if row.when is not None else _excluding(table.rules, row, known)
        found[decides] = frozenset(chain.from_iterable(_facts(key, facts, known, found) for key in keys))
    return found


def _facts(key: str, facts: Facts, known: Mapping[str, str], found: Mapping[str, frozenset[str]]) -> Iterable[str]:
    if key in _FROM:
        return found[_FROM[key]]
    if key == "t":
        return ("chemo",) if facts.chemo is Chemo.BEFORE else ("t_stage",)  # cT is told with the chemotherapy
    if key == "risk":
        causes = {"age": facts.age < 50, "grade": facts.grade == 3, "margin": facts.close_margin}
        return [name for name, high in causes.items() if high or known["risk"] == "usual"]
    return _STATED[key]


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
