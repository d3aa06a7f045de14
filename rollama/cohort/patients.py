"""Draw a case's facts and texts: by its name only, never the same patient in two splits, twins included.

Three things would make a benchmark worthless: a patient who is in training and in the test, a case whose id or place
tells the plan, and a CT that tells it. Here

- a summary belongs to one split by its hash, and facts are drawn until they fit the split: a duplicate across splits
  cannot occur;
- everything depends on (seed, centre, case name, purpose) and on nothing else;
- twins have another patient's body and another plan; the counterfactual split has the very same CT.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from rollama.cohort.config import EXTERNAL_CENTRES, VARIANTS, CohortConfig
from rollama.cohort.facts import Contralateral, Facts, Mound, Reconstruction, draw_facts
from rollama.cohort.notes import write_note, write_summary
from rollama.cohort.rules import RuleTable, load_rules
from rollama.cohort.shifts import CENTRES
from rollama.cohort.styles import STYLES
from rollama.core.errors import DataError
from rollama.core.seeding import numpy_generator
from rollama.data.case import Evidence, Split
from rollama.data.plan import Level, Plan, Side, Surgery, Volume, render_plan

ATTEMPTS = 3000
SHARES = {
    Split.TRAIN: 60, Split.VALIDATION: 10, Split.TEST: 10, Split.EXTERNAL: 10, Split.COMBINATION: 5,
    Split.COUNTERFACTUAL: 5,
}  # fmt: skip
"""Percent of all possible summaries that belong to each split."""


@dataclass(frozen=True)
class Patient:
    """One case before it is written.

    `anatomy_of` names the case whose body it has (itself or another's), `scan_of` the case whose very CT it has.
    `combination` names the held-out combination of facts it is an example of.
    """

    case_id: str
    anatomy_of: str
    scan_of: str
    style: str
    facts: Facts
    note: str
    evidence: tuple[Evidence, ...]
    summary: str
    plan: Plan
    combination: str | None


def _expander_with_imn(facts: Facts, plan: Plan) -> bool:
    return facts.reconstruction is Reconstruction.EXPANDER and Level.IMN in plan.levels


def _breast_with_upper_levels(_: Facts, plan: Plan) -> bool:
    return plan.volume is Volume.BREAST and plan.levels == (Level.L3, Level.L4)


COMBINATIONS: dict[str, Callable[[Facts, Plan], bool]] = {
    "expander and IMN": _expander_with_imn,
    "whole breast with L3 and L4 alone": _breast_with_upper_levels,
}
"""Combinations that no training, validation or test case has; each of their parts occurs in training."""


def case_name(centre: str, split: Split, index: int) -> str:
    """Case ids: centre, split and running number, such as `northgate-train-0007`."""
    return f"{centre}-{split}-{index:04d}"


def split_of(summary: str) -> Split:
    """The one split in which a summary may occur."""
    place = int.from_bytes(hashlib.sha256(summary.encode()).digest()[:8], "big") % sum(SHARES.values())
    for split, share in SHARES.items():
        place -= share
        if place < 0:
            return split
    raise AssertionError("shares cover everything")


def combination_of(facts: Facts, plan: Plan) -> str | None:
    """The held-out combination that a patient is an example of."""
    return next((name for name, holds in COMBINATIONS.items() if holds(facts, plan)), None)


def draw_patient(config: CohortConfig, centre: str, split: Split, index: int) -> Patient:
    """Draw one case's facts and texts; depends on nothing but the seed, the centre and the case's name.

    Raises:
        DataError: no patient fits (a rules table that leaves nothing to choose from).
    """
    name = case_name(centre, split, index)
    source = _source(config, centre, split, index)
    facts = _facts(config, centre, split, index)
    rng = numpy_generator(config.seed, centre, name, "note")
    style = STYLES[centre][int(rng.integers(len(STYLES[centre])))]
    note, evidence = write_note(facts, style, rng)
    plan = load_rules(config.rules).plan_for(facts)
    same_scan = source if split is Split.COUNTERFACTUAL else None
    return Patient(
        name, source or name, same_scan or name, style.name, facts, note, evidence, write_summary(facts), plan,
        combination_of(facts, plan),
    )  # fmt: skip


@lru_cache(maxsize=4096)
def _facts(config: CohortConfig, centre: str, split: Split, index: int) -> Facts:
    rules, population = load_rules(config.rules), CENTRES[centre].population
    name = case_name(centre, split, index)
    model, taken = _model(config, centre, split, index, rules)
    for attempt in range(ATTEMPTS):
        rng = numpy_generator(config.seed, centre, name, "facts", attempt)
        facts = draw_facts(rng, population)
        if model is not None and attempt % 2:
            conformed = conform(facts, model, swap=bool(rng.random() < 0.5))
            if conformed is None:
                continue
            facts = conformed
        elif split is Split.COMBINATION:
            facts = _lean(facts, index)
        plan = rules.plan_for(facts)
        if model is not None and (facts.visible.key != model.visible.key or render_plan(plan) in taken):
            continue
        wanted = combination_of(facts, plan) is not None
        if (split is Split.COMBINATION) != wanted and centre not in EXTERNAL_CENTRES:
            continue
        if split_of(write_summary(facts)) is split:
            return facts
    raise DataError(f"{name}: no patient fits after {ATTEMPTS} draws; change the seed or the rules")


def _model(
    config: CohortConfig, centre: str, split: Split, index: int, rules: RuleTable
) -> tuple[Facts | None, set[str]]:
    """The patient whose body is reused, and the plans that its CT already has."""
    source = _source(config, centre, split, index)
    if source is None:
        return None, set()
    of = Split.EXTERNAL if split is Split.COUNTERFACTUAL else split
    model = _facts(config, centre, of, int(source.rpartition("-")[2]))
    taken = {render_plan(rules.plan_for(model))}
    if split is Split.COUNTERFACTUAL:
        first = index - index % VARIANTS
        taken |= {render_plan(rules.plan_for(_facts(config, centre, split, i))) for i in range(first, index)}
    return model, taken


def _source(config: CohortConfig, centre: str, split: Split, index: int) -> str | None:
    """The case whose anatomy this one has; None for most cases.

    In training some cases have the body of an earlier case of their own; each CT of the counterfactual split is that
    of an external case.
    """
    if split is Split.COUNTERFACTUAL:
        return case_name(centre, Split.EXTERNAL, index // VARIANTS)
    if split is not Split.TRAIN:
        return None

    def own_body(i: int) -> bool:
        rng = numpy_generator(config.seed, centre, case_name(centre, split, i), "twin")
        return i == 0 or rng.random() >= config.twin_fraction

    if own_body(index):
        return None
    rng = numpy_generator(config.seed, centre, case_name(centre, split, index), "twin of")
    other = int(rng.integers(index))
    while not own_body(other):
        other -= 1
    return case_name(centre, split, other)


def conform(facts: Facts, model: Facts, swap: bool) -> Facts | None:
    """`facts` changed as little as is needed for the CT of `model`; None where the two do not go together.

    Args:
        facts: another patient.
        model: the patient on the CT.
        swap: treat the other side, possible where nothing to be seen tells the sides apart.
    """
    changes: dict[str, object] = {
        name: getattr(model, name)
        for name in ("side", "clips", "seroma", "contralateral_clips", "contralateral_implant")
    }
    look = model.visible.mounds[model.side]
    if model.contralateral in (Contralateral.MASTECTOMY, Contralateral.LUMPECTOMY):
        changes |= {"contralateral": model.contralateral, "contralateral_site": model.contralateral_site}
    elif facts.contralateral in (Contralateral.MASTECTOMY, Contralateral.LUMPECTOMY):
        changes["contralateral"] = Contralateral.NONE
    if swap and model.visible.symmetric:
        changes["side"] = model.other_side
    if model.clips or model.seroma:
        changes |= {"site": model.site, "surgery": Surgery.CONSERVING, "reconstruction": Reconstruction.NONE}
    elif look is not Mound.NATURAL:
        changes |= {"surgery": Surgery.MASTECTOMY, "reconstruction": model.reconstruction}
    elif facts.visible.mounds[facts.side] is not Mound.NATURAL:
        changes |= {"surgery": Surgery.CONSERVING, "reconstruction": Reconstruction.NONE}
    surgery = changes.get("surgery", facts.surgery)
    if surgery is Surgery.CONSERVING and facts.t_clinical == 4:
        return None
    if "surgery" in changes and facts.surgery is not changes["surgery"]:
        changes["planned_surgery"] = changes["surgery"]
    return facts.updated(**changes)


def _lean(facts: Facts, index: int) -> Facts:
    """Nudge a patient towards a held-out combination, which would otherwise be rare."""
    changes: dict[str, object]
    if index % 2:
        changes = {"surgery": Surgery.CONSERVING, "reconstruction": Reconstruction.NONE}
    else:
        changes = {
            "surgery": Surgery.MASTECTOMY, "reconstruction": Reconstruction.EXPANDER, "clips": False, "seroma": False,
        }  # fmt: skip
    return facts.updated(**changes)


def cues(facts: Facts) -> str:
    """What the CT shows of the treated side: `none`, `both sides alike` or `one side`."""
    shown = facts.visible
    plain = all(
        shown.mounds[side] is Mound.NATURAL and shown.clips[side] is None and shown.seroma[side] is None
        for side in Side
    )
    return "none" if plain else "both sides alike" if shown.symmetric else "one side"
