"""Current cases against a model's training, feature by feature, with an answer that few cases cannot force.

Four answers, because "no alarm" has two meanings. *Drift*: a distance of at least the threshold that chance does not
explain (all features of a centre judged together, Holm). *Small*: chance does not explain it, but it is below the
threshold. *None*: the whole interval lies below the threshold. *Too few*: nobody can tell yet.

A centre that took part in training is compared with its own training cases (has this hospital changed?), any other with
all of them (is this hospital like what the model has seen?).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from rollama.core.seeding import numpy_generator
from rollama.data.features import SEES, Feature
from rollama.data.profile import ALL, Profile, centres_of
from rollama.monitoring.distance import PSI_PER_SQUARE, adjusted, shift

THRESHOLD = 0.2
"""Jensen-Shannon distance; about a population stability index of 0.22."""
LEVEL = 0.01
"""Chance of a false "drift" among all features of one centre."""
LEAST = 5
"""Fewer cases are never called drift: they may be one person's trials, and an answer would tell of single patients."""


class Answer(StrEnum):
    """Whether a feature has drifted."""

    DRIFT = "drift"
    SMALL = "small"
    NONE = "none"
    TOO_FEW = "too few"


@dataclass(frozen=True)
class Finding:
    """One feature at one centre. `reference`: the centre (or all) it was compared with; `chance` is Holm's.

    `trained` and `seen` are the shares of the `bins`; bins that both never saw are left out.
    """

    centre: str
    model: str
    feature: str
    said: str
    role: str
    answer: Answer
    n: int
    reference: str
    reference_n: int
    distance: float
    low: float
    high: float
    chance: float
    bins: tuple[str, ...]
    trained: tuple[float, ...]
    seen: tuple[float, ...]

    @property
    def psi(self) -> float:
        """About the population stability index of a small difference."""
        return PSI_PER_SQUARE * self.distance**2

    @property
    def moved(self) -> str:
        """The bins that gained and lost most, in words."""
        gains = [now - before for before, now in zip(self.trained, self.seen, strict=True)]
        up, down = int(np.argmax(gains)), int(np.argmin(gains))
        return ", ".join(
            f"{self.bins[place]} {100 * self.trained[place]:.0f} -> {100 * self.seen[place]:.0f} %"
            for place in dict.fromkeys((up, down))
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        numbers = {name: round(getattr(self, name), 4) for name in ("distance", "low", "high", "psi")}
        shares = {name: [round(value, 4) for value in getattr(self, name)] for name in ("trained", "seen")}
        return {**asdict(self), **numbers, **shares, "answer": str(self.answer), "bins": list(self.bins)}


def compare(
    trained: Mapping[str, Profile], seen: Mapping[str, Profile], threshold: float = THRESHOLD, level: float = LEVEL
) -> list[Finding]:
    """Judge every feature of every model and centre that both sides know.

    Args:
        trained: model (`s`, `p`, `seg`) -> profile of its training.
        seen: model -> counts of current cases.
        threshold: of the distance, between 0 and 1.
        level: chance of a false "drift" at one centre.
    """
    centres = centres_of(seen.values())
    found: list[Finding] = []
    for centre in [*centres, *([ALL] if len(centres) > 1 else [])]:
        rows = [
            row
            for model, (inputs, outputs) in SEES.items()
            if model in trained and model in seen
            for role, features in (("input", inputs), ("output", outputs))
            for feature in features
            if (row := _measure(centre, model, role, feature, trained[model], seen[model])) is not None
        ]
        chances = adjusted([row.chance for row in rows])
        found += [_judged(row, chance, threshold, level) for row, chance in zip(rows, chances, strict=True)]
    return found


def _measure(centre: str, model: str, role: str, feature: Feature, trained: Profile, seen: Profile) -> Finding | None:
    current = np.array(seen.counts(centre, feature.name))
    name, counts = trained.reference(centre, feature.name)
    reference = np.array(counts)
    if not current.any() or not reference.any():
        return None
    used = np.flatnonzero(current + reference)
    current, reference = current[used], reference[used]
    rng = numpy_generator("drift", centre, model, feature.name)
    found = shift(reference, current, rng)
    n, m = int(current.sum()), int(reference.sum())
    return Finding(
        centre, model, feature.name, feature.said, role, Answer.TOO_FEW, n, name, m, found.distance, found.low,
        found.high, found.chance, tuple(feature.bins[place] for place in used),
        tuple((reference / m).tolist()), tuple((current / n).tolist()),
    )  # fmt: skip


def _judged(row: Finding, chance: float, threshold: float, level: float) -> Finding:
    if row.n < LEAST:
        answer = Answer.TOO_FEW
    elif chance < level:
        answer = Answer.DRIFT if row.distance >= threshold else Answer.SMALL
    else:
        answer = Answer.NONE if row.high < threshold else Answer.TOO_FEW
    return replace(row, answer=answer, chance=chance)


def overall(findings: Sequence[Finding]) -> Answer:
    """Drift if any feature has drifted; too few if nothing at all could be judged."""
    answers = {item.answer for item in findings}
    if Answer.DRIFT in answers:
        return Answer.DRIFT
    return Answer.TOO_FEW if answers <= {Answer.TOO_FEW} else Answer.NONE
