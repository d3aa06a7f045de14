"""What of a free text decides the target, and is it a plan at all? Asked before the network sees it.

A segmentation network outlines something whatever it is told: for "good morning" it outlines its favourite breast, and
a plan in other words than those of its training is as foreign to it: of plans with slips of the keyboard half came out
on the wrong side. So a text that is not in the plan's form is read here for side, volume, levels and guideline, and
the network gets them in the one form that it knows. A text in which they are missing or contradict themselves is
refused; nothing is guessed.
"""

from __future__ import annotations

import re

from rollama.core.errors import DataError
from rollama.data.plan import Guideline, Level, Side, Structures, Volume

_STRUCTURE = r"(?:whole\s+)?breast|chest\s*-?wall|thoracic\s+wall"
_SIDES = {  # "RT" is radiotherapy, unless a structure follows at once; structure names end in _L or _R
    Side.LEFT: re.compile(rf"\bleft\b|\blt\.?\s+(?={_STRUCTURE})|(?<=[a-z0-9])_l\b", re.I),
    Side.RIGHT: re.compile(rf"\bright\b|\brt\.?\s+(?={_STRUCTURE})|(?<=[a-z0-9])_r\b", re.I),
}
_VOLUMES = {
    Volume.BREAST: re.compile(r"(?<![a-z])breast(?![a-z]|[\s-]*(?:conserv|cancer|carcinoma|tumou?r))", re.I),
    Volume.CHEST_WALL: re.compile(r"(?:chest|thoracic)\s*-?wall|\bpmrt\b", re.I),
}
_NOTHING = re.compile(
    r"\b(?:no|without|omit\w*|declin\w*)\s+(?:(?!nod|boost)\w+\s+)?(?:radio\w*|rt|irradiation|target|treatment)\b"
    r"|\bnot\s+(?:indicated|recommended|irradiated|treated)\b",
    re.I,
)
_LABEL = re.compile(r"\b(Side|Surgery|Volumes|Nodes|Boost|Prescription|Technique)\s*:", re.I)
_SIDE = re.compile(r"\bSide\s*:\s*(?:left|right)\b", re.I)
_VOLUME = re.compile(rf"\bVolumes\s*:\s*(?:(?:left|right)\s+)?(?P<named>{_STRUCTURE}|none)\b", re.I)


_LEVEL = re.compile(
    r"(?<![a-z0-9])(?:levels?\s+|l)(?P<first>[1-4])(?![0-9])(?:\s*(?:-|to|through)\s*(?:level\s+|l)?(?P<last>[1-4])(?![0-9]))?"
    r"|(?<![a-z])(?P<imn>imns?|internal\s+mammary)(?![a-z])|(?<![a-z])(?P<inter>inter-?pector|rotter)",
    re.I,
)
_EXCEPT = re.compile(
    rf"\b(?:no|not|without|except|excluding|sparing|omit\w*)\s+(?:[\w-]+\s+){{0,2}}?(?:{_LEVEL.pattern})", re.I
)
_GUIDELINES = {name: re.compile(rf"\b{name}\b", re.I) for name in Guideline}


def read_target(text: str) -> Structures:
    """The target that a text means which is not in the plan's form.

    Raises:
        DataError: it is empty, names no side or both, names no target volume or two, says that nothing is treated or
            that some level is not, names two guidelines, or has a plan's headings without the plan's words behind them.
            The message says what is wrong and never repeats the text.
    """
    if not text.strip():
        raise DataError("the plan is empty; write it in the plan's form or name side and target volume")
    sides = [side for side, pattern in _SIDES.items() if pattern.search(text)]
    volumes = [volume for volume, pattern in _VOLUMES.items() if pattern.search(text)]
    if len(set(map(str.lower, _LABEL.findall(text)))) >= 2:
        volumes = [_behind_headings(text)]
    elif _NOTHING.search(text):
        raise DataError(f"the plan says that nothing is treated; {_NO_TARGET}")
    if len(sides) != 1:
        what = "both sides" if sides else "no side"
        raise DataError(f"the plan names {what}; exactly one of 'left' and 'right' must be named")
    if len(volumes) != 1:
        what = "two target volumes" if volumes else "no target volume"
        raise DataError(
            f"the plan names {what}; exactly one of {' and '.join(map(repr, map(str, Volume)))} must be named"
        )
    if _EXCEPT.search(text):
        raise DataError("the plan says in words that some level is not treated; name only the levels that are")
    guidelines = [name for name, pattern in _GUIDELINES.items() if pattern.search(text)]
    if len(guidelines) > 1:
        raise DataError(f"the plan names {' and '.join(guidelines)}; its target follows one of them")
    return Structures(sides[0], volumes[0], _levels(text), guidelines[0] if guidelines else None)


def _levels(text: str) -> tuple[Level, ...]:
    found: set[Level] = set()
    for match in _LEVEL.finditer(text):
        if match["imn"]:
            found.add(Level.IMN)
        elif match["inter"]:
            found.add(Level.INTERPECTORAL)
        else:
            first, last = int(match["first"]), int(match["last"] or match["first"])
            found |= {Level(f"L{number}") for number in range(min(first, last), max(first, last) + 1)}
    return tuple(level for level in Level if level in found)


def _behind_headings(text: str) -> Volume:
    """The volume of a text with a plan's headings: what decides the target must stand behind them."""
    volume = _VOLUME.search(text)
    if not _SIDE.search(text):
        raise DataError("the plan has a plan's headings, but 'Side:' is missing or has no accepted value")
    if not volume:
        raise DataError("the plan has a plan's headings, but 'Volumes:' is missing or has no accepted value")
    if volume["named"].lower() == "none":
        raise DataError(f"the plan says 'Volumes: none', but is not of the plan's form; {_NO_TARGET}")
    return Volume.BREAST if volume["named"].lower().endswith("breast") else Volume.CHEST_WALL


_NO_TARGET = "write a plan without target exactly in the plan's form"
