"""The one table that turns facts into a plan.

The plan must follow from what the note says, and a reader must be able to check each line of it. The table is data
(`rules.yaml`, or a file of the user's own): every row says what it decides, for whom, and where it comes from. Reading
it runs every possible kind of patient through it, so a table that contradicts itself, leaves somebody out, has a row
that nobody reaches or gives an impossible plan is refused with the row's name, before any case is drawn.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from rollama.cohort.facts import Axilla, Facts, Reconstruction
from rollama.core.config import hash_json, read_yaml
from rollama.core.errors import ConfigError, DataError
from rollama.data.plan import NONE, Guideline, Level, Plan, Side, Surgery, Volume, plan_from_dict, render_plan

BUNDLED = "standard"
DECISIONS = ("volume", "levels", "boost", "dose", "technique")
OTHERWISE = "otherwise"
YES, NO = "yes", "no"
AGES = ("below 50", "50 to 59", "60 or more")
FACTS: dict[str, tuple[str, ...]] = {
    "surgery": tuple(Surgery),
    "rebuilt": (YES, NO),
    "n": ("0", "1", "2", "3"),
    "t": ("1", "2", "3", "4"),
    "axilla": tuple(Axilla),
    "medial": (YES, NO),
    "age": AGES,
    "risk": ("high", "usual"),
    "protocol": tuple(Guideline),
}
"""What a row may ask of a patient, and the values there are."""
DECIDED: dict[str, tuple[str, ...]] = {
    "volume": (*Volume, NONE),
    "levels": ("4 or more", "fewer"),
    "imn": (YES, NO),
    "boost": ("sequential", "simultaneous", NONE),
}
"""What a row may ask of earlier decisions."""


@dataclass(frozen=True)
class Rule:
    """One row; `when` is None for "otherwise"."""

    decides: str
    number: int
    when: Mapping[str, tuple[str, ...]] | None
    gives: Any
    source: str

    def applies(self, known: Mapping[str, str]) -> bool:
        """Whether the row names this patient."""
        return self.when is not None and all(known[key] in values for key, values in self.when.items())

    @property
    def condition(self) -> str:
        """`when` in words."""
        if self.when is None:
            return OTHERWISE
        return "; ".join(f"{key} {' or '.join(values)}" for key, values in self.when.items())

    @property
    def result(self) -> str:
        """`gives` in words."""
        return (", ".join(self.gives) or NONE) if isinstance(self.gives, tuple) else str(self.gives)

    def __str__(self) -> str:
        return f"{self.decides}, row {self.number} ({self.condition})"


@dataclass(frozen=True, eq=False)
class RuleTable:
    """A checked table. `plans` are all the plans it can give for the left side, as texts."""

    source: str
    digest: str
    rules: tuple[Rule, ...]
    plans: frozenset[str]

    def plan_for(self, facts: Facts) -> Plan:
        """The plan of a patient."""
        return self.plan_of(features(facts), facts.side)

    def plan_of(self, known: Mapping[str, str], side: Side) -> Plan:
        """The plan of a kind of patient (see `features`)."""
        return _decide(self.rules, known, side, self.source)

    def rows_for(self, known: Mapping[str, str]) -> tuple[dict[str, Rule], dict[str, str]]:
        """The row that holds in each decision for a kind of patient, and all that was known in the end."""
        return _choose(self.rules, known)

    def check_plan(self, plan: Plan, name: str = "plan") -> None:
        """Refuse a plan that this table gives to nobody.

        Raises:
            DataError: names the first fields in which the nearest plan of the table differs.
        """
        text = render_plan(plan if plan.side is Side.LEFT else plan.mirrored())
        if text in self.plans:
            return
        parts = _sentences(text)

        def differences(other: str) -> list[str]:
            pairs = itertools.zip_longest(parts, _sentences(other), fillvalue="no such sentence")
            return [there for here, there in pairs if here != there]

        near = min(sorted(self.plans), key=lambda other: len(differences(other)))
        wanted = ". ".join(differences(near))
        raise DataError(f"{name}: a plan outside the rules of {self.source}; the nearest one there has '{wanted}'")

    def rows(self) -> list[tuple[str, str, str, str]]:
        """The table as rows (decides, when, gives, source)."""
        return [(rule.decides, rule.condition, rule.result, rule.source) for rule in self.rules]


def features(facts: Facts) -> dict[str, str]:
    """A patient as the table sees her: each key of `FACTS` with one of its values."""
    high = facts.age < 50 or facts.grade == 3 or facts.close_margin
    return {
        "surgery": str(facts.surgery),
        "rebuilt": NO if facts.reconstruction is Reconstruction.NONE else YES,
        "n": str(facts.n_category),
        "t": str(facts.t_category),
        "axilla": str(facts.axilla),
        "medial": YES if facts.site.medial_or_central else NO,
        "age": AGES[0] if facts.age < 50 else AGES[1] if facts.age < 60 else AGES[2],
        "risk": "high" if high else "usual",
        "protocol": str(facts.protocol),
    }


def everybody() -> Iterator[dict[str, str]]:
    """Every kind of patient that the features can tell apart."""
    for values in itertools.product(*FACTS.values()):
        known = dict(zip(FACTS, values, strict=True))
        impossible = known["surgery"] == Surgery.CONSERVING and known["rebuilt"] == YES
        if not impossible and not (known["age"] == AGES[0] and known["risk"] == "usual"):
            yield known


def load_rules(name: str = BUNDLED) -> RuleTable:
    """Read and check a table: the bundled one, or a .yaml file.

    Raises:
        ConfigError: not of the form; unknown facts or values; two rows for one patient; nobody's row; no row for
            somebody; a row that gives an impossible plan. Every problem is named (at most 20).
    """
    if name == BUNDLED:
        return _bundled()
    path = Path(name)
    try:
        state = path.stat()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read it ({error.strerror}); give a readable YAML file") from error
    return _from_file(path, state.st_mtime_ns, state.st_size)


def plan_for(facts: Facts) -> Plan:
    """The plan that the bundled table gives."""
    return _bundled().plan_for(facts)


@lru_cache(maxsize=8)
def _from_file(path: Path, _changed: int, _size: int) -> RuleTable:
    return _checked(read_yaml(path), str(path))


@cache
def _bundled() -> RuleTable:
    with resources.as_file(resources.files("rollama.cohort") / "rules.yaml") as path:
        return _checked(read_yaml(path), "the cohort's rules")


def _checked(values: Mapping[str, Any], source: str) -> RuleTable:
    problems: list[str] = []
    rules = tuple(_rules(values, source, problems))
    _stop(problems, source)
    plans: set[str] = set()
    reached: set[int] = set()
    for known in everybody():
        try:
            plans.add(render_plan(_decide(rules, known, Side.LEFT, source, reached)))
        except DataError as error:
            if str(error) not in problems:
                problems.append(str(error))
    if not problems:
        problems = [f"{rule}: nobody reaches this row" for rule in rules if id(rule) not in reached]
    _stop(problems, source)
    return RuleTable(source, hash_json(values), rules, frozenset(plans))


def _rules(values: Mapping[str, Any], source: str, problems: list[str]) -> Iterator[Rule]:
    tables = values.get("decisions")
    if set(values) != {"decisions"} or not isinstance(tables, Mapping) or tuple(tables) != DECISIONS:
        raise ConfigError(f"{source}: expected 'decisions:' with {', '.join(DECISIONS)}, in this order")
    for decides, rows in tables.items():
        if not isinstance(rows, list) or not rows:
            raise ConfigError(f"{source}: {decides} must be a list of rows")
        for number, row in enumerate(rows, 1):
            where = f"{decides}, row {number}"
            if not isinstance(row, Mapping) or set(row) != {"when", "gives", "source"} or not row["source"]:
                problems.append(f"{where}: a row has when, gives and source")
                continue
            gives = tuple(str(x) for x in row["gives"]) if isinstance(row["gives"], list) else str(row["gives"])
            yield Rule(decides, number, _condition(row["when"], where, problems), gives, str(row["source"]))


def _condition(when: Any, where: str, problems: list[str]) -> dict[str, tuple[str, ...]] | None:
    if when == OTHERWISE:
        return None
    if not isinstance(when, Mapping) or not when:
        problems.append(f"{where}: when must map facts to values, or be 'otherwise'")
        return {}
    found = {}
    for key, value in when.items():
        decided = DECIDED if DECISIONS.index(where.split(",")[0]) > 0 else {}
        accepted = FACTS.get(key) or decided.get(key)
        wanted = tuple(str(x) for x in value) if isinstance(value, list) else (str(value),)
        if accepted is None:
            problems.append(f"{where}: unknown fact {key!r}; accepted: {', '.join((*FACTS, *decided))}")
        elif wrong := [x for x in wanted if x not in accepted]:
            problems.append(f"{where}: {key} is never {', '.join(wrong)}; accepted: {', '.join(accepted)}")
        else:
            found[str(key)] = wanted
    return found


def _choose(
    rules: tuple[Rule, ...], known: Mapping[str, str], reached: set[int] | None = None
) -> tuple[dict[str, Rule], dict[str, str]]:
    """The row that holds in each decision, and what was known in the end."""
    state, given = dict(known), dict[str, Rule]()
    for decides in DECISIONS:
        rows = [rule for rule in rules if rule.decides == decides]
        found = [rule for rule in rows if rule.applies(state)] or [rule for rule in rows if rule.when is None]
        if len(found) != 1:
            who = ", ".join(f"{key} {value}" for key, value in state.items())
            names = " and ".join(str(rule) for rule in found[:2])
            raise DataError(
                f"{names} contradict each other" if found else f"{decides}: no row for a patient with {who}"
            )
        (rule,) = found
        if reached is not None:
            reached.add(id(rule))
        given[decides] = rule
        value = rule.gives
        if decides == "levels":
            state |= {"levels": "4 or more" if len(value) >= 4 else "fewer", "imn": YES if Level.IMN in value else NO}
        else:
            state[decides] = value.split(" ")[0] if decides == "boost" else value
    return given, state


def _decide(
    rules: tuple[Rule, ...], known: Mapping[str, str], side: Side, source: str, reached: set[int] | None = None
) -> Plan:
    given, _ = _choose(rules, known, reached)
    try:
        return plan_from_dict(_plan_values(given, known, side), source)
    except DataError as error:
        rows_used = "; ".join(str(rule) for rule in given.values())
        raise DataError(f"an impossible plan from {rows_used}: {error}") from error


def _plan_values(given: Mapping[str, Rule], known: Mapping[str, str], side: Side) -> dict[str, Any]:
    def dose(text: str) -> dict[str, Any]:
        gy, _, _, fractions, _ = text.split(" ")
        return {"gy": float(gy), "fractions": int(fractions)}

    value = {name: None if rule.gives == NONE else rule.gives for name, rule in given.items()}
    try:
        boost = value["boost"] and {
            "kind": value["boost"].split(" ")[0],
            "dose": dose(value["boost"].partition(" ")[2]),
        }
        prescription = value["dose"] and dose(value["dose"])
    except ValueError as error:
        raise DataError("a dose reads '40.05 Gy in 15 fractions', a boost 'sequential 10 Gy in 5 fractions'") from error
    return {
        "side": side,
        "surgery": known["surgery"],
        "volume": value["volume"],
        "levels": value["levels"] or (),
        "boost": boost,
        "dose": prescription,
        "technique": value["technique"],
        "guideline": known["protocol"],
    }


def _sentences(text: str) -> list[str]:
    return text.removesuffix(".").split(". ")


def _stop(problems: list[str], source: str) -> None:
    if problems:
        shown = "\n  ".join(problems[:20])
        raise ConfigError(f"{source}: {len(problems)} problem(s) in the rules table:\n  {shown}")
