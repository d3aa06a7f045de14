"""What is true of a patient, as names and as words: the vocabulary that sentence templates draw on.

A style holds templates only. Which of its alternatives fits a patient (`conditions`) and what its placeholders say
(`values`) is decided here once for all styles, so that no style can word a fact that the patient does not have.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rollama.cohort.facts import Axilla, Chemo, Contralateral, Facts, Reconstruction, Site
from rollama.data.plan import Surgery

NUMBERS = (
    "none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "twenty-one",
    "twenty-two",
)  # fmt: skip

SIZE_CONFLICT_MM = 5
"""Imaging and pathology that differ by this much are told as a contradiction."""

THIS_YEAR = 2024

_RECONSTRUCTIONS = {
    Reconstruction.NONE: "flat",
    Reconstruction.IMPLANT: "recon implant",
    Reconstruction.EXPANDER: "recon expander",
    Reconstruction.FLAP: "recon flap",
}


def conditions(facts: Facts) -> list[str]:
    """Names of what is true of this patient, most specific first; `always` comes last.

    An axilla that imaging overcalled is named only without chemotherapy before surgery: there a negative axilla may
    be the effect of treatment and no error of imaging.
    """
    mastectomy = facts.surgery is Surgery.MASTECTOMY
    before = facts.chemo is Chemo.BEFORE
    kind = "mastectomy" if mastectomy else "conserving"
    found = {
        f"{kind} changed": facts.planned_surgery is not facts.surgery,
        kind: True,
        f"chemo {facts.chemo}": True,
        "contralateral implant": facts.contralateral_implant,
        "contralateral clips": facts.contralateral_clips,
        f"contralateral {facts.contralateral}": facts.contralateral is not Contralateral.NONE,
        _RECONSTRUCTIONS[facts.reconstruction]: mastectomy,
        "nodes none": facts.nodes_positive == 0,
        "nodes some": facts.nodes_positive > 0,
        "axilla alnd": facts.axilla is Axilla.DISSECTION,
        "axilla slnb": facts.axilla is Axilla.SENTINEL,
        "imaging missed": facts.nodes_positive > 0 and not facts.imaging_nodes,
        "imaging overcalled": facts.nodes_positive == 0 and facts.imaging_nodes and not before,
        "imaging size": abs(facts.imaging_size_mm - facts.size_mm) >= SIZE_CONFLICT_MM,
        "clips": facts.clips,
        "seroma": facts.seroma,
        "t4": facts.t_clinical == 4,
        "younger": facts.age < 50,
        "older": facts.age >= 70,
        "always": True,
    }
    return [name for name, holds in found.items() if holds]


def values(facts: Facts, words: Mapping[str, Mapping[str, str]], rng: np.random.Generator) -> dict[str, str]:
    """Placeholders of the templates.

    Args:
        facts: the patient.
        words: a style's own wording: placeholder -> plain value -> word. `other` follows `side` unless given.
        rng: the case's generator for the note; draws what means nothing (number of children, weeks).
    """
    plain = {
        "side": str(facts.side),
        "other": str(facts.other_side),
        "site": str(facts.site) if facts.site is not Site.CENTRAL else "central area",
        "histology": f"{facts.histology} carcinoma",
        "axilla": str(facts.axilla),
        "er": "positive" if facts.er_positive else "negative",
        "her2": "positive" if facts.her2_positive else "negative",
    }
    words = {"other": words.get("side", {}), **words}
    shown = {key: words.get(key, {}).get(value, value) for key, value in plain.items()}
    margin, positive = facts.margin_mm, facts.nodes_positive
    return shown | {
        "Side": shown["side"].capitalize(),
        "Site": shown["site"].capitalize(),
        "Histology": shown["histology"].capitalize(),
        "age": str(facts.age),
        "grade": str(facts.grade),
        "core_grade": "3" if facts.grade == 2 else "2",  # a core biopsy that misjudged the grade
        "size": str(facts.size_mm),
        "cm": f"{facts.size_mm / 10:.1f}",
        "imaging_size": str(facts.imaging_size_mm),
        "imaging_cm": f"{facts.imaging_size_mm / 10:.1f}",
        "t": f"{'yp' if facts.chemo is Chemo.BEFORE else 'p'}T{facts.t_pathological}",
        "ct": f"cT{facts.t_clinical}",
        "pos": str(positive),
        "exam": str(facts.nodes_examined),
        "pos_word": NUMBERS[positive],
        "Pos_word": NUMBERS[positive].capitalize(),
        "exam_word": NUMBERS[facts.nodes_examined],
        "node_s": "node" if positive == 1 else "nodes",
        "margin": f"{margin:g}",
        "margin_cm": f"{margin / 10:g}",
        "margin_comma": f"{margin:g}".replace(".", ","),
        "protocol": str(facts.protocol),
        "years": str(facts.contralateral_years),
        "year": str(THIS_YEAR - facts.contralateral_years),
        "children": str(rng.integers(2, 5)),
        "weeks": str(rng.integers(3, 8)),
    }
