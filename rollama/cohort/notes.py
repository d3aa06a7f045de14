"""Notes and summaries in words, and which sentence of a note carries which fact.

A note that states the volumes or the dose would let a model copy the plan. Notes here give history and findings
only, with things that mislead a careless reader: surgery that was planned and not done, the other breast's past,
negated findings, drugs. The summary is written by one rule-based renderer for all centres, and it rewords: it counts
nodes into a pN category, judges the margin, names the surgery that was done.

A style is an ordered list of slots; each slot has several templates and states the facts it carries. The external
centre's styles share no template with the training centres' styles (checked by a test).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rollama.cohort.facts import Chemo, Contralateral, Facts, Site
from rollama.data.case import Evidence
from rollama.data.plan import Surgery

NUMBERS = (
    "none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "twenty-one",
    "twenty-two",
)  # fmt: skip

PLAN_FACTS = (
    "age", "side", "site", "grade", "t_stage", "nodes", "axilla", "surgery", "margin", "chemo", "reconstruction",
)  # fmt: skip
"""Facts that the plan depends on; every note carries them (`reconstruction` after mastectomy only)."""


@dataclass(frozen=True)
class Slot:
    """One sentence of a style: what it carries, its templates, and how often it appears (1 = always).

    `templates` maps a condition to alternatives; the first condition among those of the patient is used (see
    `conditions`). A slot without a matching condition stays out.
    """

    facts: tuple[str, ...]
    templates: Mapping[str, Sequence[str]]
    chance: float = 1.0


@dataclass(frozen=True)
class Style:
    """A way of writing notes. `words` replaces values' wording; `blocks` are shuffled slots groups kept in order."""

    name: str
    blocks: tuple[tuple[Slot, ...], ...]
    separator: str = " "
    shuffle: tuple[int, ...] = ()
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def always(*templates: str, facts: Sequence[str] = (), chance: float = 1.0) -> Slot:
    """A slot whose wording does not depend on a condition."""
    return Slot(tuple(facts), {"always": templates}, chance)


def conditions(facts: Facts) -> list[str]:
    """Names of what is true of this patient, most specific first."""
    mastectomy = facts.surgery is Surgery.MASTECTOMY
    changed = facts.planned_surgery is not facts.surgery
    kind = "mastectomy" if mastectomy else "conserving"
    found = [f"{kind} changed"] if changed else []
    found += [kind, f"chemo {facts.chemo}", f"contralateral {facts.contralateral}"]
    if facts.reconstruction:
        found.append("reconstruction")
    elif mastectomy:
        found.append("flat")
    found.append("nodes none" if facts.nodes_positive == 0 else "nodes some")
    found.append("close" if facts.close_margin else "clear")
    found.append(f"axilla {'alnd' if facts.axilla.name == 'DISSECTION' else 'slnb'}")
    return [*found, "always"]


def values(facts: Facts, style: Style, rng: np.random.Generator) -> dict[str, str]:
    """Placeholders of the templates, in the style's wording."""
    plain = {
        "side": str(facts.side),
        "other": str(facts.other_side),
        "site": str(facts.site) if facts.site is not Site.CENTRAL else "central area",
        "histology": f"{facts.histology} carcinoma",
        "axilla": str(facts.axilla),
        "grade": str(facts.grade),
        "er": "positive" if facts.er_positive else "negative",
        "her2": "positive" if facts.her2_positive else "negative",
    }
    shown = {key: style.words.get(key, {}).get(value, value) for key, value in plain.items()}
    shown |= {
        "Side": shown["side"].capitalize(),
        "Site": shown["site"].capitalize(),
        "Histology": shown["histology"].capitalize(),
        "age": str(facts.age),
        "size": str(facts.size_mm),
        "cm": f"{facts.size_mm / 10:.1f}",
        "t": f"{'yp' if facts.chemo is Chemo.BEFORE else 'p'}T{facts.t_pathological}",
        "ct": f"cT{facts.t_clinical}",
        "pos": str(facts.nodes_positive),
        "exam": str(facts.nodes_examined),
        "pos_word": NUMBERS[facts.nodes_positive],
        "Pos_word": NUMBERS[facts.nodes_positive].capitalize(),
        "exam_word": NUMBERS[facts.nodes_examined],
        "node_s": "node" if facts.nodes_positive == 1 else "nodes",
        "margin": f"{facts.margin_mm:g}",
        "years": str(facts.contralateral_years),
        "year": str(2024 - facts.contralateral_years),
        "children": str(rng.integers(1, 4)),
        "weeks": str(rng.integers(3, 8)),
    }
    return shown


def write_note(facts: Facts, style: Style, rng: np.random.Generator) -> tuple[str, tuple[Evidence, ...]]:
    """Write one note.

    Args:
        facts: the patient.
        style: how this author writes.
        rng: the case's generator for the note.

    Returns:
        the note, and for each fact the character range of the sentence that carries it.
    """
    true = conditions(facts)
    filled = values(facts, style, rng)
    order = list(range(len(style.blocks)))
    moved = [order[i] for i in style.shuffle]
    for place, block in zip(style.shuffle, rng.permutation(moved), strict=True):
        order[place] = int(block)
    note, evidence = "", []
    for index in order:
        for slot in style.blocks[index]:
            name = next((name for name in true if name in slot.templates), None)
            present = rng.random() < slot.chance
            if name is None or not present:
                continue
            options = slot.templates[name]
            sentence = options[int(rng.integers(len(options)))].format(**filled)
            sentence = sentence[0].upper() + sentence[1:]
            start = len(note) + (len(style.separator) if note else 0)
            note += (style.separator if note else "") + sentence
            if name != "always" or len(slot.templates) == 1:  # a fallback is filler and carries no fact
                evidence += [Evidence(fact=fact, start=start, end=len(note)) for fact in slot.facts]
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
        surgery = f"Mastectomy {'with' if facts.reconstruction else 'without'} reconstruction"
    margin = "close" if facts.close_margin else "clear"
    er, her2 = ("+" if positive else "-" for positive in (facts.er_positive, facts.her2_positive))
    return (
        f"{facts.age}-year-old woman, {facts.side} breast cancer, {site}. "
        f"{facts.histology.capitalize()} carcinoma, grade {facts.grade}, {stage} "
        f"({facts.nodes_positive} of {facts.nodes_examined} nodes), ER{er}, HER2{her2}. "
        f"{surgery}, {facts.axilla}, {margin} margin ({facts.margin_mm:g} mm). "
        f"{_CHEMO[facts.chemo]}.{_earlier(facts)}"
    )


_CHEMO = {
    Chemo.NONE: "No chemotherapy",
    Chemo.BEFORE: "Chemotherapy before surgery",
    Chemo.AFTER: "Chemotherapy after surgery",
}


def _earlier(facts: Facts) -> str:
    if facts.contralateral is Contralateral.NONE:
        return ""
    return f" Earlier {facts.contralateral} of the {facts.other_side} breast."
