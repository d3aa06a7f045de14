"""Does a plan say what the summary says it was written from, and does it agree with itself?

Nothing in a generated plan shows that P wrote "left" under a summary of the right breast; the target then lies where
the plan says, and every later check is content. A reader of the summary would see it at once, so it is looked for here
by plain words that share nothing with the models. Only what cannot be meant otherwise counts: a summary that names one
side's cancer, one operation or one guideline, and a plan of the other.

A note is not read so: it may tell of former findings, copied errors and what was planned before. But a note that says
of itself that a side in it is wrong is where a model, and a reader, goes wrong.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TypeVar

from rollama.core.errors import DataError
from rollama.data.corrections import corrects_side
from rollama.data.plan import Guideline, Plan, Side, Surgery, Volume, parse_plan
from rollama.data.sentences import sentences
from rollama.data.sides import side_words

_Value = TypeVar("_Value", Side, Surgery, Guideline)
FORMER = re.compile(
    r"\b(?:earlier|former|formerly|previous|previously|prior|past|history|ago|benign|planned|contralateral|refused"
    r"|declined)\b",
    re.I,
)
"""Words with which a sentence may be about another time; such a sentence is not judged."""
DENIED = r"\b(?:no|not|never|without|instead of)\s+(?:[\w-]+\s+){0,2}?"
CANCER = re.compile(r"cancer|carcinoma|malign|tumou?r|\bDCIS\b", re.I)
SIDES = {side: re.compile(rf"\b{side}\b", re.I) for side in Side}
SURGERIES = {
    Surgery.CONSERVING: re.compile(r"conserv|lumpectom|wide (?:local )?excision|segmentectom|quadrantectom", re.I),
    Surgery.MASTECTOMY: re.compile(r"mastectom", re.I),
}
GUIDELINES = {guideline: re.compile(rf"\b{guideline}\b", re.I) for guideline in Guideline}
NODES = re.compile(
    r"(?<![\d/.])(?P<positive>\d{1,3})\s*(?:/|of|out of)\s*(?P<examined>\d{1,3})\s+(?:(?:lymph|sentinel|axillary)\s+)*"
    r"(?:nodes?|LN)\b",
    re.I,
)
"""So many affected nodes of so many that were removed."""
OF_SURGERY = {Surgery.CONSERVING: Volume.BREAST, Surgery.MASTECTOMY: Volume.CHEST_WALL}
"""What is treated after each operation, if anything is."""


def note_doubts(note: str) -> list[str]:
    """What a note itself says to be careful with, in words for a reader that repeat none of it; usually nothing."""
    if corrects_side(note):
        return ["the note says that a side in it is wrong; check that summary, plan and target are of the right one"]
    return []


def answer_doubts(stage: str, text: str, finished: bool, other: str | None) -> list[str]:
    """What to be careful with in a generated text because of how it came about; usually nothing.

    Args:
        stage: `summary` or `plan`, for the words.
        text: what was written.
        finished: False when the length limit cut it.
        other: what a second look at the mirrored text led to, where it disagreed (`rollama.text.looks`).
    """
    found = [] if finished else [f"the {stage} was cut off at the length limit"]
    if other is not None:
        where = "on its side" if side_doubted(text, other) else "on a detail"
        found.append(
            f"two looks at the same text, as it is and with left and right exchanged, disagree about the {stage} "
            f"{where}; the likelier one is shown, check it"
        )
    return found


def summary_doubts(summary: str) -> list[str]:
    """What a summary cannot be right about, in words for a reader that repeat none of it; usually nothing."""
    counts = ((int(match["positive"]), int(match["examined"])) for match in NODES.finditer(summary))
    if any(positive > examined for positive, examined in counts):
        return ["the summary counts more affected nodes than were removed; check them, the plan's levels rest on them"]
    return []


def contradictions(plan: Plan, summary: str | None = None) -> list[str]:
    """What of a plan contradicts itself or its summary, in words for a reader that repeat none of the text.

    Args:
        plan: given or generated.
        summary: what it was written from, if anything.
    """
    found = []
    if plan.volume is not None and plan.volume is not OF_SURGERY[plan.surgery]:
        found.append(f"the plan treats the {plan.volume} after {plan.surgery} surgery; check it")
    if summary is None:
        return found
    says: list[tuple[str, str | None, Collection[str]]] = [
        ("side", plan.side, sides_of(summary)),
        ("surgery", plan.surgery, _named(summary, SURGERIES)),
        ("guideline", plan.guideline, _named(summary, GUIDELINES)),
    ]
    for field, planned, named in says:
        if planned is not None and len(named) == 1 and planned not in named:
            found.append(f"{field}: the plan says {planned}, the summary {next(iter(named))}; check both")
    return found


def sides_of(summary: str) -> set[Side]:
    """The sides whose cancer a summary tells of; not those of earlier or benign findings."""
    return _named(summary, SIDES, CANCER)


def side_doubted(text: str, other: str | None) -> bool:
    """Whether a summary or plan and what a second look led to (see `answer_doubts`) tell of different sides.

    Where plain words do not say which side the cancer is on, any other word for a side counts.
    """
    if other is None:
        return False
    told, doubted = _told(text), _told(other)
    return told != doubted if told and doubted else side_words(text) != side_words(other)


def _told(text: str) -> set[Side]:
    """The side of a plan, or those of a summary."""
    try:
        return {parse_plan(text).side}
    except DataError:
        return sides_of(text)


def _named(text: str, words: Mapping[_Value, re.Pattern[str]], about: re.Pattern[str] | None = None) -> set[_Value]:
    """The values that sentences name which name one only, are `about` something and tell of the present."""
    found: set[_Value] = set()
    for start, end in sentences(text):
        sentence = text[start:end]
        values = [value for value, pattern in words.items() if pattern.search(sentence)]
        if len(values) != 1 or FORMER.search(sentence) or (about is not None and not about.search(sentence)):
            continue
        if not re.search(f"{DENIED}(?:{(about or words[values[0]]).pattern})", sentence, re.I):
            found.add(values[0])
    return found
