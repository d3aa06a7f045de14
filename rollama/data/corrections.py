"""Does a note say of itself that a side in it is wrong?

Notes are copied from referrals, mistakes included, and corrected further down. They are few, and a model that learned
to take the first side it reads is right on nearly all others; so training may draw them more often, and the chain
tells a reader of them. Words are looked for, not meant: a note in other words, or in a language but English and
German, is not found.
"""

from __future__ import annotations

import re

from rollama.data.sentences import sentences

SIDE = re.compile(r"\bsides?\b|\blateralit|\bseite", re.I)
WRONG = re.compile(r"\bwrong|\bmistak|\berror|\berroneous|\bincorrect|\bnot correct|\bfalsch", re.I)


def corrects_side(note: str) -> bool:
    """Whether one sentence speaks of a side and of a mistake."""
    return any(SIDE.search(note, *place) and WRONG.search(note, *place) for place in sentences(note))
