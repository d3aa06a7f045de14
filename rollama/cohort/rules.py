"""The one table that turns facts into a plan.

The plan must follow from what the note says, and a reader of the dataset card must be able to check each line of
it. Every rule is a row: what it decides, when it applies, what it gives, where it comes from. For each decision the
first row that applies wins. Sources grade the evidence; rows marked "cohort convention" only make the choice
definite and carry no clinical claim. Synthetic data for software research; this is not treatment advice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rollama.cohort.facts import Axilla, Facts
from rollama.data.plan import Boost, BoostKind, Dose, Level, Plan, Surgery, Technique, Volume

ALL_LEVELS = (Level.L1, Level.L2, Level.L3, Level.L4)
PRACTICE = "EORTC 22922, MA.20 and the meta-analysis PMC4687086; survey of practice smj.org.sa, table 3"


@dataclass(frozen=True)
class Rule:
    """One row. `applies` sees the facts and what earlier decisions gave (keys are the decisions' names)."""

    decides: str
    when: str
    gives: Any
    source: str
    applies: Callable[[Facts, dict[str, Any]], bool]

    @property
    def result(self) -> str:
        """`gives` in words."""
        if self.gives is None or self.gives == ():
            return "none"
        if isinstance(self.gives, tuple):
            return ", ".join(self.gives)
        if isinstance(self.gives, Boost):
            return f"{self.gives.kind} {self.gives.dose}"
        return str(self.gives)


def _conserving(facts: Facts, _: dict[str, Any]) -> bool:
    return facts.surgery is Surgery.CONSERVING


def _always(*_: object) -> bool:
    return True


def _no_target(_: Facts, decided: dict[str, Any]) -> bool:
    return decided["volume"] is None


def _complex(_: Facts, decided: dict[str, Any]) -> bool:
    levels, boost = decided["levels"], decided["boost"]
    simultaneous = boost is not None and boost.kind is BoostKind.SIMULTANEOUS
    return Level.IMN in levels or len(levels) >= 4 or simultaneous


def _high_risk(facts: Facts) -> bool:
    return facts.age < 50 or facts.grade == 3 or facts.close_margin


def _sentinel(facts: Facts) -> bool:
    return facts.axilla is Axilla.SENTINEL


RULES: tuple[Rule, ...] = (
    Rule("volume", "breast-conserving surgery", Volume.BREAST, "ESTRO consensus 2015 (CTVp_breast)", _conserving),
    Rule(
        "volume",
        "mastectomy, pN0, T1-2",
        None,
        "usual practice: no target after mastectomy of pT1-2 pN0",
        lambda f, _: f.n_category == 0 and f.t_category <= 2,
    ),
    Rule(
        "volume",
        "mastectomy, pN1-3 or T3-4",
        Volume.CHEST_WALL,
        "POTENTIAL contouring, table 1",
        _always,
    ),
    Rule(
        "levels",
        "no target, or pN0",
        (),
        "usual practice; T3-4 pN0 without nodes is a cohort convention",
        lambda f, d: d["volume"] is None or f.n_category == 0,
    ),
    Rule("levels", "pN2-3", (*ALL_LEVELS, Level.IMN), PRACTICE, lambda f, _: f.n_category >= 2),
    Rule(
        "levels",
        "pN1, sentinel biopsy, inner or central site",
        (*ALL_LEVELS, Level.IMN),
        PRACTICE + " (N1 and medial: 58 %)",
        lambda f, _: _sentinel(f) and f.site.medial_or_central,
    ),
    Rule(
        "levels",
        "pN1, sentinel biopsy, outer site",
        ALL_LEVELS,
        "after AMAROS",
        lambda f, _: _sentinel(f),
    ),
    Rule(
        "levels",
        "pN1, axillary dissection, inner or central site",
        (Level.L3, Level.L4, Level.IMN),
        PRACTICE + " (N1 and medial: 58 %)",
        lambda f, _: f.site.medial_or_central,
    ),
    Rule(
        "levels",
        "pN1, axillary dissection, outer site",
        (Level.L3, Level.L4),
        "dissected levels 1-2 are left out (ESTRO practice)",
        _always,
    ),
    Rule(
        "boost",
        "whole breast, pN1-3, and age < 50, grade 3 or margin < 2 mm",
        Boost(kind=BoostKind.SEQUENTIAL, dose=Dose(gy=10, fractions=5)),
        "boost 10/5; indications usual practice",
        lambda f, d: d["volume"] is Volume.BREAST and _high_risk(f) and f.n_category > 0,
    ),
    Rule(
        "boost",
        "whole breast, pN0, and age < 50, grade 3 or margin < 2 mm",
        Boost(kind=BoostKind.SIMULTANEOUS, dose=Dose(gy=48, fractions=15)),
        "simultaneous 48/15; simultaneous for pN0 is a cohort convention",
        lambda f, d: d["volume"] is Volume.BREAST and _high_risk(f),
    ),
    Rule("boost", "otherwise", None, "usual practice", _always),
    Rule("dose", "no target", None, "-", _no_target),
    Rule(
        "dose",
        "reconstruction",
        Dose(gy=50, fractions=25),
        "50/25; conventional after reconstruction",
        lambda f, _: f.reconstruction,
    ),
    Rule(
        "dose",
        "whole breast, pN0, age 60 or more, no boost",
        Dose(gy=26, fractions=5),
        "26/5; the age limit is a cohort convention",
        lambda f, d: d["volume"] is Volume.BREAST and f.n_category == 0 and f.age >= 60 and d["boost"] is None,
    ),
    Rule("dose", "otherwise", Dose(gy=40.05, fractions=15), "40.05/15", _always),
    Rule("technique", "no target", None, "-", _no_target),
    Rule(
        "technique",
        "IMN, four levels or more, or a simultaneous boost",
        Technique.VMAT,
        "cohort convention",
        _complex,
    ),
    Rule("technique", "otherwise", Technique.TANGENTS, "cohort convention", _always),
)


def plan_for(facts: Facts) -> Plan:
    """The plan that the table gives; `guideline` stays None in this version."""
    decided: dict[str, Any] = {}
    for rule in RULES:
        if rule.decides not in decided and rule.applies(facts, decided):
            decided[rule.decides] = rule.gives
    return Plan(side=facts.side, surgery=facts.surgery, **decided)


def rule_rows() -> list[tuple[str, str, str, str]]:
    """The table as rows (decides, when, gives, source), in the order in which they are tried."""
    return [(rule.decides, rule.when, rule.result, rule.source) for rule in RULES]
