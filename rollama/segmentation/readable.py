"""Is a text a plan at all? Asked before the network sees it.

A segmentation network outlines something whatever it is told: for "good morning" it outlines its favourite breast. Text
in the plan's own form is checked field by field by its parser. Other text is only taken from it what decides the
target, and refused when that is missing or contradicts itself; nothing is guessed.
"""

from __future__ import annotations

import re

from rollama.core.errors import DataError
from rollama.data.plan import Side, Volume, parse_plan

_SIDES = {Side.LEFT: re.compile(r"\b(left|lt)\b", re.I), Side.RIGHT: re.compile(r"\b(right|rt)\b", re.I)}
_VOLUMES = {
    Volume.BREAST: re.compile(r"\b(breast|mamma)\b(?!-conserv)", re.I),
    Volume.CHEST_WALL: re.compile(r"\b(chest|thoracic)\s+wall\b|\bpmrt\b", re.I),
}
_FIELDS = {
    "Side": re.compile(r"\bSide:\s*(left|right)\b", re.I),
    "Volumes": re.compile(r"\bVolumes:\s*(whole breast|chest wall|none)\b", re.I),
}
_LABEL = re.compile(r"\b(Side|Surgery|Volumes|Nodes|Boost|Prescription|Technique)\b\s*:", re.I)


def check_text(text: str) -> None:
    """Check that a text says which target it means. Text in the plan's form passes.

    Raises:
        DataError: it is empty, names no side or both, names no target volume, or has a plan's headings without the
            plan's words behind them. The message says what is missing and never repeats the text.
    """
    if not text.strip():
        raise DataError("the plan is empty; write it in the plan's form or name side and target volume")
    try:
        parse_plan(text)
    except DataError:
        pass
    else:
        return
    if len(set(_LABEL.findall(text))) >= 2:
        for name, pattern in _FIELDS.items():
            if not pattern.search(text):
                raise DataError(f"the plan has a plan's headings, but '{name}:' is missing or has no accepted value")
    sides = [side for side, pattern in _SIDES.items() if pattern.search(text)]
    if len(sides) != 1:
        what = "both sides" if sides else "no side"
        raise DataError(f"the plan names {what}; exactly one of 'left' and 'right' must be named")
    if not any(pattern.search(text) for pattern in _VOLUMES.values()):
        raise DataError(f"the plan names no target volume; accepted are {' and '.join(map(repr, map(str, Volume)))}")
