"""Per-case scores drawn from seeded generators, clearly no patients: what the gate's rules are tried on."""

from __future__ import annotations

import math

import numpy as np

from rollama.core.config import build
from rollama.release.protocol import Protocol
from rollama.release.scores import Scores

CENTRES = {"north": 40, "south": 40, "west": 40}
RULES = {
    "format": 1,
    "name": "toy",
    "version": 1,
    "cases": {"all": 60, "centre": 15, "subgroup": 10},
    "subgroups": {"by": ["side"], "bound": "mean"},
    "rules": [
        {"task": "seg", "metric": "dice", "margin": 0.02, "centre_margin": 0.03},
        {"task": "p", "metric": "fields_mean", "margin": 0.03},
    ],
    "limits": [
        {"task": "seg", "metric": "wrong_side", "at_most": 0.0},
        {"task": "seg", "metric": "missed", "at_most": 0.02},
        {"task": "seg", "metric": "invented", "at_most": 0.02},
    ],
}


def protocol(**changes) -> Protocol:
    return build(Protocol, {**RULES, **changes}, "toy")


def draw(shift=0.0, spread=0.02, seed=1, centres=CENTRES, **at_centre) -> Scores:
    """Scores of a model whose Dice lies `shift` from the released one's, by `at_centre` at some centres.

    Seed 0 and a spread of 0 are the released model itself.
    """
    cases = [(f"{centre}-{i:03d}", centre) for centre, n in centres.items() for i in range(n)]
    base = np.random.default_rng(2311).normal(0.85, 0.05, len(cases))
    own = np.random.default_rng(seed).normal(0.0, spread, (2, len(cases))) if spread else np.zeros((2, len(cases)))
    moved = np.array([at_centre.get(centre, shift) for _, centre in cases])
    names = [name for name, _ in cases]
    zeros = dict.fromkeys(names, 0.0)
    return Scores(
        {
            ("seg", "reference", "dice"): dict(zip(names, (base + moved + own[0]).tolist(), strict=True)),
            ("p", "reference", "fields_mean"): dict(zip(names, (0.9 + moved + own[1]).tolist(), strict=True)),
            ("seg", "reference", "wrong_side"): dict(zeros),
            ("seg", "reference", "missed"): dict(zeros),
            ("seg", "reference", "invented"): dict(zeros),
        },
        dict(cases),
        f"table-{seed}",
    )


RELEASED = draw(spread=0.0)
SIDES = {name: {"side": "left" if i % 2 else "right"} for i, name in enumerate(RELEASED.centres)}


def with_value(scores: Scores, metric: str, case: str, value: float = math.nan, task: str = "seg") -> Scores:
    """The same scores with one value changed."""
    key = (task, "reference", metric)
    return Scores({**scores.values, key: {**scores.values[key], case: value}}, scores.centres, scores.table_hash)
