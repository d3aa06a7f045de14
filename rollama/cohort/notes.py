"""Notes and summaries in words, and which sentence of a note carries which fact.

A note that states the volumes or the dose would let a model copy the plan. Notes here give history, findings and the
department's contouring protocol only, with things that mislead a careless reader: surgery that was planned and not
done, imaging that pathology contradicts, lines carried over from an outdated or mistaken referral, the other breast's
past, negated findings, drugs, slips of the typist. The summary is written by one rule-based renderer for all
centres, and it rewords: it counts nodes into a pN category, judges the margin, names the surgery that was done.

A style is an ordered list of slots; each slot has several templates and states the facts it carries. The external
centre's styles share no template with the training centres' styles (checked by a test).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rollama.cohort.dictation import mistype
from rollama.cohort.facts import Chemo, Contralateral, Facts, Reconstruction, Site
from rollama.cohort.wording import conditions, values
from rollama.data.case import Evidence
from rollama.data.plan import Surgery

PLAN_FACTS = (
    "age", "side", "site", "grade", "t_stage", "nodes", "axilla", "surgery", "margin", "chemo", "protocol",
    "reconstruction",
)  # fmt: skip
"""Facts that the plan depends on; every note carries them (`reconstruction` after mastectomy only)."""


@dataclass(frozen=True)
class Slot:
    """One sentence of a style: what it carries, its templates, and how often it appears (1 = always).

    `templates` maps a condition to alternatives; the first condition among those of the patient is used (see
    `wording.conditions`). A slot without a matching condition stays out. `trap` names what could mislead here, and
    such a slot carries no fact. Slots of one trap appear together or not at all and use the same place in their
    lists of alternatives, so that a mistaken line never stands without its correction.
    """

    facts: tuple[str, ...]
    templates: Mapping[str, Sequence[str]]
    chance: float = 1.0
    trap: str = ""

    def __post_init__(self) -> None:
        if self.trap and self.facts:
            raise ValueError(f"a slot of the trap {self.trap!r} carries no facts, found {self.facts}")


@dataclass(frozen=True)
class Style:
    """A way of writing notes.

    `words` replaces values' wording; `blocks` are groups of slots kept in order, and those at the places `shuffle`
    change places among themselves. `typos` is the chance of a slip for each word that may have one.
    """

    name: str
    blocks: tuple[tuple[Slot, ...], ...]
    separator: str = " "
    shuffle: tuple[int, ...] = ()
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    typos: float = 0.0


@dataclass(frozen=True)
class Sentence:
    """One sentence of a note, and the facts that it carries; `trap` as in `Slot`."""

    text: str
    facts: tuple[str, ...]
    trap: str = ""


def always(*templates: str, facts: Sequence[str] = (), chance: float = 1.0) -> Slot:
    """A slot whose wording does not depend on a condition."""
    return Slot(tuple(facts), {"always": templates}, chance)


def trap(name: str, templates: Mapping[str, Sequence[str]], chance: float) -> Slot:
    """A slot that could mislead: imaging that pathology contradicts, a line carried over from an earlier note."""
    return Slot((), templates, chance, name)


def compose(facts: Facts, style: Style, rng: np.random.Generator) -> list[Sentence]:
    """The sentences of one note in their order; arguments as for `write_note`."""
    true = conditions(facts)
    filled = values(facts, style.words, rng)
    slips = np.random.default_rng(int(rng.integers(2**32)))
    order = list(range(len(style.blocks)))
    moved = [order[i] for i in style.shuffle]
    for place, block in zip(style.shuffle, rng.permutation(moved), strict=True):
        order[place] = int(block)
    shared: dict[str, tuple[float, float]] = {}
    written = []
    for slot in (slot for index in order for slot in style.blocks[index]):
        draws = (rng.random(), rng.random())
        luck, pick = shared.setdefault(slot.trap, draws) if slot.trap else draws
        name = next((name for name in true if name in slot.templates), None)
        if name is None or luck >= slot.chance:
            continue
        options = slot.templates[name]
        text = options[int(pick * len(options))].format(**filled)
        text = mistype(text[0].upper() + text[1:], style.typos, slips)
        filler = name == "always" and len(slot.templates) > 1  # a fallback carries no fact
        written.append(Sentence(text, () if filler else slot.facts, slot.trap))
    return written


def write_note(facts: Facts, style: Style, rng: np.random.Generator) -> tuple[str, tuple[Evidence, ...]]:
    """Write one note.

    Args:
        facts: the patient.
        style: how this author writes.
        rng: the case's generator for the note.

    Returns:
        the note, and for each fact the character range of the sentence that carries it.
    """
    note, evidence = "", []
    for sentence in compose(facts, style, rng):
        note += style.separator if note else ""
        start = len(note)
        note += sentence.text
        evidence += [Evidence(fact=fact, start=start, end=len(note)) for fact in sentence.facts]
    return note, tuple(evidence)


def template_set(styles: Sequence[Style]) -> set[str]:
    """All templates of some styles with placeholders blanked and case and spaces evened, for comparison."""
    found = set()
    for style in styles:
        for slot in (slot for block in style.blocks for slot in block):
            for options in slot.templates.values():
                found |= {" ".join(re.sub(r"\{\w+\}", "_", text).lower().split()) for text in options}
    return found


def write_summary(facts: Facts) -> str:
    """The reference summary: every fact that the plan depends on, in one wording for all centres."""
    site = "central breast" if facts.site is Site.CENTRAL else facts.site
    before = facts.chemo is Chemo.BEFORE
    clinical, y = (f"cT{facts.t_clinical} ", "y") if before else ("", "")
    stage = f"{clinical}{y}pT{facts.t_pathological} ({facts.size_mm} mm) {y}pN{facts.n_category}"
    surgery = "Breast conservation"
    if facts.surgery is Surgery.MASTECTOMY:
        surgery = f"Mastectomy {_RECONSTRUCTION[facts.reconstruction]}"
    margin = "close" if facts.close_margin else "clear"
    er, her2 = ("+" if positive else "-" for positive in (facts.er_positive, facts.her2_positive))
    return (
        f"{facts.age}-year-old woman, {facts.side} breast cancer, {site}. "
        f"{facts.histology.capitalize()} carcinoma, grade {facts.grade}, {stage} "
        f"({facts.nodes_positive} of {facts.nodes_examined} nodes), ER{er}, HER2{her2}. "
        f"{surgery}, {facts.axilla}, {margin} margin ({facts.margin_mm:g} mm). "
        f"{_CHEMO[facts.chemo]}.{_earlier(facts)} {facts.protocol} protocol."
    )


_RECONSTRUCTION = {
    Reconstruction.NONE: "without reconstruction",
    Reconstruction.IMPLANT: "with implant reconstruction",
    Reconstruction.EXPANDER: "with tissue expander",
    Reconstruction.FLAP: "with flap reconstruction",
}

_CHEMO = {
    Chemo.NONE: "No chemotherapy",
    Chemo.BEFORE: "Chemotherapy before surgery",
    Chemo.AFTER: "Chemotherapy after surgery",
}


def _earlier(facts: Facts) -> str:
    if facts.contralateral is Contralateral.NONE:
        return ""
    return f" Earlier {facts.contralateral} of the {facts.other_side} breast."
