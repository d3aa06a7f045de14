"""Other plans for the same CT: edits that must change the target in one place, and edits that must not change it.

An edit that matters (another side, a level more or less, chest wall instead of breast, other borders, no target at
all) comes as a plan, so that its true target is known. A harmless one (boost, dose, technique, other words or slips of
the keyboard for the same plan) must leave the mask as it is. Text that is no plan (nothing, nonsense, a plan's words in
any order, both sides at once) must be refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from rollama.core.seeding import derive_seed, numpy_generator
from rollama.data.plan import (
    Boost,
    BoostKind,
    Dose,
    Guideline,
    Level,
    Plan,
    Side,
    Surgery,
    Technique,
    Volume,
    render_plan,
)


class Expect(StrEnum):
    """What an edit must do to the mask."""

    CHANGE = "change"
    NOTHING = "nothing"
    REFUSAL = "refusal"


@dataclass(frozen=True)
class Edit:
    """A named other text for a case. `plan` is what the text means; None when it means no plan."""

    name: str
    expect: Expect
    text: str
    plan: Plan | None


MATTERS = ("other side", "one level more", "one level less", "breast to chest wall", "other guideline", "no target",
           "another patient's plan")  # fmt: skip
"""Names of the edits that must change the mask."""
NONSENSE = "The quick brown fox jumps over the lazy dog near the river bank at noon."
"""Words, but no plan."""


def edits_of(plan: Plan, key: str, other: Plan | None = None) -> list[Edit]:
    """All edits of a plan with a target.

    Args:
        plan: the case's own.
        key: decides which level is added or taken away, the same for the same key (a case id).
        other: another patient's plan of another target, for the edit `another patient's plan`.
    """
    found = [_change("other side", plan.mirrored())]
    order = list(Level)
    missing = [level for level in order if level not in plan.levels]
    if missing:
        more = {*plan.levels, _choice(missing, key)}
        found.append(_change("one level more", _with(plan, levels=tuple(sorted(more, key=order.index)))))
    if plan.levels:
        gone = _choice(list(plan.levels), key)
        found.append(_change("one level less", _with(plan, levels=tuple(x for x in plan.levels if x is not gone))))
    if plan.volume is Volume.BREAST:
        found.append(_change("breast to chest wall", _with(
            plan, volume=Volume.CHEST_WALL, surgery=Surgery.MASTECTOMY, boost=None
        )))  # fmt: skip
    if plan.guideline:
        borders = Guideline.RTOG if plan.guideline is Guideline.ESTRO else Guideline.ESTRO
        found.append(_change("other guideline", _with(plan, guideline=borders)))
    found.append(_change("no target", _with(plan, volume=None, levels=(), boost=None, dose=None, technique=None)))
    if other is not None:
        found.append(_change("another patient's plan", other))
    bed = None if plan.boost else Boost(kind=BoostKind.SEQUENTIAL, dose=Dose(gy=10, fractions=5))
    dose = Dose(gy=50, fractions=25) if plan.dose != Dose(gy=50, fractions=25) else Dose(gy=26, fractions=5)
    technique = Technique.VMAT if plan.technique is Technique.TANGENTS else Technique.TANGENTS
    found += [
        _harmless("boost on or off", _with(plan, boost=bed)),
        _harmless("other dose", _with(plan, dose=dose)),
        _harmless("other technique", _with(plan, technique=technique)),
        *(Edit(f"reworded {number}", Expect.NOTHING, text, plan) for number, text in enumerate(reworded(plan), 1)),
        Edit("misspelt", Expect.NOTHING, misspelt(render_plan(plan), key), plan),
        Edit("blank", Expect.REFUSAL, " ", None),
        Edit("nonsense", Expect.REFUSAL, NONSENSE, None),
        Edit("shuffled", Expect.REFUSAL, shuffled(render_plan(plan), key), None),
        Edit("both sides", Expect.REFUSAL, f"{plan.side} {plan.volume}, {plan.mirrored().side} {plan.volume}.", None),
    ]
    return found


def misspelt(text: str, key: str, slips: int = 3) -> str:
    """The text with letters exchanged in some words of five letters or more that do not say which target is meant.

    `key` decides where, the same for the same key.
    """
    needed = {word for value in (*Side, *Volume, *Level, *Guideline) for word in value.split(" ")}
    words = text.split(" ")
    long = [place for place, word in enumerate(words) if len(word) >= 5 and word.strip(".,").isalpha()]
    long = [place for place in long if words[place].strip(".,") not in needed]
    order = numpy_generator("misspelt", key)
    for place in order.permutation(long)[:slips]:
        at = int(order.integers(1, len(words[place]) - 3))
        word = words[place]
        words[place] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


def shuffled(text: str, key: str) -> str:
    """The words of a text in another order, the same for the same key."""
    words = text.split(" ")
    numpy_generator("shuffled", key).shuffle(words)
    return " ".join(words)


def reworded(plan: Plan) -> tuple[str, str]:
    """The plan in free text, twice: as a list of structures, and as a sentence of a report."""
    side = str(plan.side)
    volume = str(plan.volume)
    nodes = ", ".join(plan.levels)
    borders = f" Contoured to {plan.guideline}." if plan.guideline else ""
    listed = f"Targets: {side} {volume}" + (f"; {side} nodes {nodes}" if nodes else "; no nodes") + f".{borders}"
    told = f"{side.capitalize()}-sided radiotherapy of the {volume}"
    told += f" together with {nodes} on the {side} side" if nodes else " without nodal irradiation"
    return listed, f"{told}.{borders}"


def _with(plan: Plan, **changes: object) -> Plan:
    return Plan.model_validate({**dict(plan), **changes})


def _change(name: str, plan: Plan) -> Edit:
    assert name in MATTERS
    return Edit(name, Expect.CHANGE, render_plan(plan), plan)


def _harmless(name: str, plan: Plan) -> Edit:
    return Edit(name, Expect.NOTHING, render_plan(plan), plan)


def _choice(levels: list[Level], key: str) -> Level:
    return levels[derive_seed(0, key, "edit") % len(levels)]
