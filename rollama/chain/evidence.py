"""Which sentences of a note support each field of a plan.

A reader who doubts a plan should not have to search the note. A pointer names a field of the plan and a range of the
note (Python code points); a field for which nothing was found has none, which is worth knowing as well. Pointers are
found afterwards for any note and plan: they say what speaks for a field there, not what went on in the model.

Two questions are answered apart. Which facts does a field rest on? The rules that give such plans say so (the bundled
table, `cohort.reasons`); for a value that they give to nobody a general list does (`RESTS_ON`). Which sentence states a
fact? Words say so (`WORDS`): general oncology and its abbreviations in English, with some German. Asking the models
instead, by hiding one sentence after the other, found fewer of the right sentences (docs/results/structured_plans.md).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from rollama.cohort.reasons import usual_reasons
from rollama.cohort.rules import load_rules
from rollama.data.plan import Plan, Side
from rollama.data.sentences import sentences

FIELDS = ("side", "surgery", "volume", "levels", "boost", "dose", "technique", "guideline")
"""The fields of `Plan` that pointers name."""


@dataclass(frozen=True, order=True)
class Pointer:
    """`note[start:end]` supports the plan's `field`."""

    field: str
    start: int
    end: int


WORDS = {
    "left": r"\b(?:left(?!\s+(?:the|our|us|hospital|home)\b)|lt|lft|links|linke[rnms]?|sinist\w+)\b",
    "right": r"\b(?:right|rt|rechts|rechte[rnms]?|dext\w+)\b",
    "surgery": r"mastectom|ablatio|lumpectom|tumou?rectom|quadrantectom|segmental resect|segmentectom"
    r"|wide (?:local )?excis|breast.conserv|\bBCS\b|\bBCT\b|conserving|conserved|\bBET\b|brusterhalt|\bMRM\b",
    "nodes": r"\bnod(?:e|es|al)\b|\bLNs?\b|lymph|\by?c?pN\d|axill\w+ (?:metast|involv)",
    "axilla": r"sentinel|\bSLNB\b|\bSNB\b|\bALND\b|axillary (?:dissect|clear)|dissection of the axilla"
    r"|axilladissektion",
    "t_stage": r"\by?p?c?T[1-4]",
    "margin": r"margin|\bRM\b|clearance|from ink|resection edge|free edge|\bR0\b|schnittrand|absetzungsrand",
    "grade": r"\bgrad(?:e|ed|ing)\b|\bG ?[1-3]\b|\bgr\.? ?[1-3]\b|\bNHG\b",
    "age": r"\b\d{2}[- ]?(?:y/?o|years?|yrs?)\b|\baged?\b|(?:female|woman|lady)\W{1,4}\d{2}\b|\byears? of age"
    r"|j[aä]hrig",
    "reconstruction": r"reconstruct|\brecon\b|expander|\bflap\b|\bDIEP\b|implant|\bTRAM\b|\bflat\b",
    "site": r"quadrant|\b[UL][OI]Q\b|\bcentral\b|retroareolar|subareolar|medial|lateral",
    "chemo": r"chemo|\bNACT?\b|\bCTx\b|cytostat|neo-?adjuvant|systemic therap",
    "protocol": r"\bESTRO\b|\bRTOG\b|contour|delineat",
}
"""Words by which a sentence is taken to state a fact."""

RESTS_ON = {
    "surgery": ("surgery",),
    "volume": ("surgery", "nodes", "t_stage"),
    "levels": ("nodes", "axilla", "site", "protocol"),
    "boost": ("surgery", "age", "grade", "margin", "nodes"),
    "dose": ("surgery", "reconstruction", "nodes", "protocol"),
    "technique": ("nodes", "axilla", "site"),
    "guideline": ("protocol",),
}
"""The facts that a field usually follows from, whatever the department; the side has words of its own."""


def evidence_of(note: str, plan: Plan, rests_on: Mapping[str, Collection[str]] | None = None) -> tuple[Pointer, ...]:
    """Pointers from a plan's fields to sentences of its note, in the order of `FIELDS` and of the note.

    Args:
        note: the clinical note; pointers count in it as it is.
        plan: given or generated.
        rests_on: field -> facts (keys of `WORDS`); default: see the module docstring.
    """
    if rests_on is None:
        rests_on = {**RESTS_ON, **usual_reasons(load_rules(), plan)}
    places = sentences(note)
    said = [{fact for fact, pattern in _PATTERNS.items() if pattern.search(note, *place)} for place in places]
    own, other = ("left", "right") if plan.side is Side.LEFT else ("right", "left")
    found = []
    for field in FIELDS:
        if field == "guideline" and plan.guideline is None:
            continue
        for place, facts in zip(places, said, strict=True):
            if (own in facts and other not in facts) if field == "side" else facts.intersection(rests_on[field]):
                found.append(Pointer(field, *place))
    return tuple(found)


_PATTERNS = {fact: re.compile(pattern, re.IGNORECASE) for fact, pattern in WORDS.items()}
