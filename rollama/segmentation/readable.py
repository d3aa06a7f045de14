"""Is a text a plan at all? Asked before the network sees it.

A segmentation network outlines something whatever it is told: for "good morning" it outlines its favourite breast. Text
in the plan's own form is checked field by field by its parser. Other text is only taken from it what decides the
target, and refused when that is missing or contradicts itself; nothing is guessed.
"""

from __future__ import annotations

import re

from rollama.core.errors import DataError
from rollama.data.plan import Side, Volume, parse_plan

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


def check_text(text: str) -> None:
    """Check that a text says which target it means. Text in the plan's form passes.

    Raises:
        DataError: it is empty, names no side or both, names no target volume or two, says that nothing is treated, or
            has a plan's headings without the plan's words behind them. The message says what is wrong and never
            repeats the text.
    """
    if not text.strip():
        raise DataError("the plan is empty; write it in the plan's form or name side and target volume")
    try:
        parse_plan(text)
    except DataError:
        pass
    else:
        return
    sides = [side for side, pattern in _SIDES.items() if pattern.search(text)]
    if len(set(map(str.lower, _LABEL.findall(text)))) >= 2:
        _check_headings(text)
        volumes = 1
    else:
        if _NOTHING.search(text):
            raise DataError(f"the plan says that nothing is treated; {_NO_TARGET}")
        volumes = sum(bool(pattern.search(text)) for pattern in _VOLUMES.values())
    if len(sides) != 1:
        what = "both sides" if sides else "no side"
        raise DataError(f"the plan names {what}; exactly one of 'left' and 'right' must be named")
    if volumes != 1:
        what = "two target volumes" if volumes else "no target volume"
        raise DataError(
            f"the plan names {what}; exactly one of {' and '.join(map(repr, map(str, Volume)))} must be named"
        )


def _check_headings(text: str) -> None:
    """Of a text with a plan's headings, take what decides the target from behind them only."""
    volume = _VOLUME.search(text)
    for name, found in (("Side", _SIDE.search(text)), ("Volumes", volume)):
        if not found:
            raise DataError(f"the plan has a plan's headings, but '{name}:' is missing or has no accepted value")
    if volume and volume["named"].lower() == "none":
        raise DataError(f"the plan says 'Volumes: none', but is not of the plan's form; {_NO_TARGET}")


_NO_TARGET = "write a plan without target exactly in the plan's form"
