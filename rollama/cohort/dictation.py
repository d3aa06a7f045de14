"""Slips of dictated and hastily typed notes, kept off the words that carry the case.

A model that meets only clean text stumbles over the first misspelt note. But a slip that turned 'left' or 'no' into
another word would change the case while the stored summary and plan stay. Slips therefore touch plain words and
commas only: never numbers, abbreviations, the side, the site, negations, or what was done and what was only planned.
"""

from __future__ import annotations

import re

import numpy as np

PROTECTED = re.compile(
    r"(un|in)?(?:left|right|other|opposite|same|side|upper|outer|lower|inner|central|retroareolar|quadrant|area|"
    r"no|not|none|never|neither|nor|without|nothing|absent|free|clean|clear|negative|positive|benign|malignan|suspicio|"
    r"plan|book|intend|want|sign|instead|original|initial|change|cancel|drop|convert|complet|done|did|had|got|"
    r"mastectom|lumpectom|excis|segmental|resect|conserv|remov|preserv|saved?$|ablat|operat|surg|"
    r"sentinel|dissect|axill|armpit|node|lymph|biops|implant|expander|flap|tissue|reconstruct|prosthe|rebuil|"
    r"ductal|lobular|mucinous|mixed|type|carcinoma|cancer|tumou?r|invasive|involve|grade|margin|millimet|centimet|"
    r"chemo|neoadjuvant|adjuvant|upfront|before|after|follow|first|final|later|earlier|previous|then$|"
    r"wrong|correct|copied|carried|refer|metasta|stage|protocol|atlas|department|clips?$|seroma|fluid|"
    r"one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|"
    r"eighteen|nineteen|twenty|years?$)"
)
"""Stems that are never touched, matched at the start of a word in lower case."""

SOUND_ALIKES = {
    "breast": "brest", "healed": "heeled", "mammogram": "mamogram", "palpable": "palpible", "pathology": "pathalogy",
    "patient": "pacient", "receptor": "recepter", "scans": "scams", "slides": "slights", "there": "their",
    "through": "threw", "tightest": "titest", "weeks": "weaks", "which": "witch", "while": "wile",
    "worried": "worryed",
}  # fmt: skip
"""What a speech recogniser or a tired typist writes instead; the first letter is the same."""

LETTER_SLIP_FROM = 5
"""Shorter words keep their letters: a slip in them makes another word too easily."""

_WORD = re.compile(r"(?P<word>[A-Za-z][a-z]*)(?P<end>[.,;:]?)")


def mistype(sentence: str, rate: float, rng: np.random.Generator) -> str:
    """The sentence with slips in some of its unprotected words; the first letter always stays.

    Args:
        sentence: one sentence with single spaces.
        rate: chance of a slip for each word that may have one, 0 to 1.
        rng: the note's generator for slips.
    """
    words = sentence.split(" ")
    typed = []
    for place, text in enumerate(words):
        match = _WORD.fullmatch(text)
        if match is None or is_protected(text) or rng.random() >= rate:
            typed.append(text)
            continue
        word, end = match["word"], match["end"]
        following = words[place + 1] if place + 1 < len(words) else ""
        if end == "," and following and not is_protected(following) and rng.random() < 0.5:
            typed.append(word)  # the comma alone is lost
            continue
        slip = _sound_alike(word) or _letter_slip(word, rng)
        typed.append(text if is_protected(slip) else slip + end)
    return " ".join(typed)


def is_protected(word: str) -> bool:
    """Whether a word must stay as it is: a number, an abbreviation, or a word that carries the case."""
    plain = word.strip(".,;:()\"'")
    return not re.fullmatch(r"[A-Za-z]?[a-z]+", plain) or PROTECTED.match(plain.lower()) is not None


def _sound_alike(word: str) -> str | None:
    other = SOUND_ALIKES.get(word.lower())
    return None if other is None else word[0] + other[1:]


def _letter_slip(word: str, rng: np.random.Generator) -> str:
    if len(word) < LETTER_SLIP_FROM:
        return word
    at = int(rng.integers(1, len(word) - 1))
    kind = int(rng.integers(3))
    if kind == 0:
        return word[:at] + word[at + 1 :]
    if kind == 1:
        return word[:at] + word[at] + word[at:]
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
