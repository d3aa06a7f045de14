"""The same text of a mirrored patient: every word that names a side, exchanged for the other's.

It is the flip of images for texts. A model that summarises notes or plans from summaries has no use for one side more
than for the other, and what it learned of the left should hold on the right; written twice, every text says so. English
and German words and abbreviations are known. A word that only looks like a side ("right after") changes as well, in
a text that nobody treats by.
"""

from __future__ import annotations

import re

from rollama.data.case import TextCase

PAIRS = (("left", "right"), ("lt", "rt"), ("links", "rechts"), ("linke", "rechte"), ("li", "re"), ("l", "r"))
_OTHER = {word: other for pair in PAIRS for word, other in (pair, pair[::-1])}
_WORDS = re.compile(
    r"\b(?:(?:left|right|links|rechts)(?=sid|seit|\b)|(?:linke|rechte)(?=[mnrs]?\b)"
    r"|(?:li|re)(?=\.)|(?-i:[LRlr]t\b|[LR]\b(?![-0-9+'])))",
    re.I,
)
"""Of single letters only capitals by themselves, neither "L-thyroxine" nor "R0"; "Rt", and not "RT", radiotherapy."""


def other_side(text: str) -> str:
    """The text with left and right exchanged, in the case that each word had."""
    return _WORDS.sub(_exchanged, text)


def side_words(text: str) -> list[str]:
    """The words of a text that name a side, in their order, in small letters."""
    return [match.group().lower() for match in _WORDS.finditer(text)]


def _exchanged(match: re.Match[str]) -> str:
    word = match.group()
    other = _OTHER[word.lower()]
    if word.isupper() and (len(word) > 1 or len(other) == 1):
        return other.upper()
    return other.capitalize() if word[0].isupper() else other


def mirrored_texts(case: TextCase) -> TextCase:
    """The texts of a case's mirror image, under a name of its own."""
    return case.model_copy(
        update={
            "case_id": f"{case.case_id}-mirrored",
            "note": other_side(case.note),
            "summary": other_side(case.summary),
            "plan_text": other_side(case.plan_text),
            "plan": None if case.plan is None else case.plan.mirrored(),
            "evidence": (),
        }
    )
