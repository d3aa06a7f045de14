"""Plan-field accuracy: is the generated plan the right plan, field by field?

ROUGE hardly sees "left" in place of "right". The fields are compared after the strict parse; text that does not parse
is wrong in every field (nothing is guessed from it) and counted as `unparsed`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from rollama.chain.agreement import contradictions
from rollama.core.errors import DataError
from rollama.data.plan import Plan, parse_plan

GETTERS: dict[str, Callable[[Plan], Any]] = {
    "side": lambda plan: plan.side,
    "surgery": lambda plan: plan.surgery,
    "volumes": lambda plan: plan.volume,
    "levels": lambda plan: plan.levels,
    "boost": lambda plan: plan.boost,
    "dose": lambda plan: plan.dose.gy if plan.dose else None,
    "fractions": lambda plan: plan.dose.fractions if plan.dose else None,
    "technique": lambda plan: plan.technique,
    "guideline": lambda plan: plan.guideline,
}
KEY_FIELDS = ("side", "volumes", "levels", "dose", "fractions")
"""The fields whose mean is the headline figure `fields_mean`."""
METRICS = (*GETTERS, "fields_mean", "fields_all", "unparsed")
FLAGS, DOUBTED = ("contradicts", "side_unflagged"), "side_doubted"
"""Mistakes that a reader is or is not warned of; how often second looks disagree about a side, which is no mistake."""


def read_generated(text: str) -> Plan | None:
    """The plan in generated text, or None when it is not exactly of the plan's form."""
    try:
        return parse_plan(text, "generated plan")
    except DataError:
        return None


def compare_plans(reference: Plan | None, generated: Plan | None) -> dict[str, float]:
    """1 for each field that is right, 0 for each that is wrong.

    Args:
        reference: the true plan; None (its text does not parse) gives NaN for every field: excluded and counted.
        generated: the plan read from the generated text; None is wrong in every field.

    Returns:
        The keys of `METRICS`: the fields; their mean over `KEY_FIELDS`; whether all fields are right; `unparsed`.
    """
    if reference is None:
        return {**dict.fromkeys(METRICS, math.nan), "unparsed": float(generated is None)}
    right = {
        name: float(generated is not None and getter(generated) == getter(reference))
        for name, getter in GETTERS.items()
    }
    return {
        **right,
        "fields_mean": sum(right[name] for name in KEY_FIELDS) / len(KEY_FIELDS),
        "fields_all": float(all(right.values())),
        "unparsed": float(generated is None),
    }


def flags(
    reference: Plan | None, generated: Plan | None, summary: str, doubted: bool = False, warned: bool = False
) -> dict[str, float]:
    """Would the chain's reader be warned? The keys of `FLAGS` and `DOUBTED`, 1 for yes.

    `contradicts`: the plan contradicts itself or its summary; NaN for one that does not parse. `side_doubted`: second
    looks at note or summary led to another side (`doubted`). `side_unflagged`: its side is wrong, and neither of these
    nor the note itself (`warned`) gives a warning; one that does not parse is flagged for that.
    """
    if generated is None:
        unseen = math.nan if reference is None else 0.0
        return {"contradicts": math.nan, DOUBTED: float(doubted), "side_unflagged": unseen}
    found = bool(contradictions(generated, summary))
    warned = found or doubted or warned
    unseen = math.nan if reference is None else float(generated.side is not reference.side and not warned)
    return {"contradicts": float(found), DOUBTED: float(doubted), "side_unflagged": unseen}
