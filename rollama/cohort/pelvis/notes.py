"""A prostate patient's note and summary in words, and which sentence carries which fact.

As for the breast: a note gives history and findings, never target, volumes or dose; it holds things that mislead a
careless reader (a treatment that was planned and not done, an MRI that the PET contradicts, an enlarged gland, an old
hernia); the summary is written by one renderer for all centres and rewords: Gleason patterns become a grade group,
findings a stage, PSA and grade a risk group and a risk of involved nodes. Templates are in `styles`.
"""

from __future__ import annotations

import numpy as np

from rollama.cohort.notes import Style
from rollama.cohort.pelvis.facts import SEVERE_IPSS, Facts, Past, Psma
from rollama.data.case import Evidence

INTACT_FACTS = ("age", "psa", "gleason", "t_stage", "cores", "nodes", "psma", "surgery", "ipss")
OPERATED_FACTS = ("age", "psa", "gleason", "t_stage", "margin", "nodes", "psma", "surgery")
"""Facts that the plan depends on; every note carries those of its kind of patient."""
THIS_YEAR = 2024


def conditions(facts: Facts) -> list[str]:
    """Names of what is true of this patient, most specific first; `always` comes last."""
    had = facts.prostatectomy
    found = {
        "intact reconsidered": not had and facts.reconsidered,
        "operated reconsidered": had and facts.reconsidered,
        "intact mri node": not had and facts.scan_node,
        "operated nodes some": had and facts.nodes_positive > 0,
        "psma overruled": not had and facts.scan_node and facts.psma is Psma.CLEAR,
        "operated psma clear": had and facts.psma is Psma.CLEAR,
        "psma node": facts.psma is Psma.NODE,
        "psma local": facts.psma is Psma.LOCAL,
        "psma clear": facts.psma is Psma.CLEAR,
        "psma none": facts.psma is Psma.NOT_DONE,
        "margin positive": had and facts.margin_positive,
        "margin clear": had and not facts.margin_positive,
        "t 1c": not had and facts.t == "1c",
        "t 3a": not had and facts.t == "3a",
        "t 3b": not had and facts.t == "3b",
        "t 2": not had and facts.t.startswith("2"),
        "intact severe": not had and facts.ipss >= SEVERE_IPSS,
        "operated": had,
        "intact": not had,
        f"past {facts.past}": facts.past is not Past.NONE,
        "always": True,
    }
    return [name for name, holds in found.items() if holds]


def write_note(facts: Facts, style: Style, rng: np.random.Generator) -> tuple[str, tuple[Evidence, ...]]:
    """Write a note.

    Args:
        facts: the patient.
        style: one of `styles.STYLES`.
        rng: the case's generator for the note.

    Returns:
        the note, and for each fact the characters that carry it.
    """
    true, filled = conditions(facts), _values(facts)
    order = list(range(len(style.blocks)))
    moved = [order[i] for i in style.shuffle]
    for place, block in zip(style.shuffle, rng.permutation(moved), strict=True):
        order[place] = int(block)
    note, evidence = "", []
    for slot in (slot for index in order for slot in style.blocks[index]):
        luck, pick = rng.random(), rng.random()
        name = next((name for name in true if name in slot.templates), None)
        if name is None or luck >= slot.chance:
            continue
        options = slot.templates[name]
        text = options[int(pick * len(options))].format(**filled)
        start = len(note) + len(style.separator) if note else 0
        note = note + style.separator + text if note else text
        evidence += [Evidence(fact=fact, start=start, end=len(note)) for fact in slot.facts]
    return note, tuple(evidence)


def _values(facts: Facts) -> dict[str, str]:
    cancer = "a relapse of prostate cancer" if facts.prostatectomy else "prostate cancer"
    return {
        "age": str(facts.age),
        "cancer": cancer,
        "Cancer": cancer.capitalize(),
        "psa": f"{facts.psa:g}",
        "gleason": f"{facts.gleason[0]}+{facts.gleason[1]}",
        "t": facts.t,
        "positive": str(facts.cores_positive),
        "cores": str(facts.cores),
        "involved": str(facts.nodes_positive),
        "examined": str(facts.nodes_examined),
        "ipss": str(facts.ipss),
        "first_psa": f"{facts.first_psa:g}",
        "year": str(THIS_YEAR - facts.years),
    }


def write_summary(facts: Facts) -> str:
    """The reference summary: every fact that the plan depends on, in one wording for all centres."""
    grade = f"ISUP grade group {facts.grade_group} (Gleason {facts.gleason[0]}+{facts.gleason[1]})"
    if facts.prostatectomy:
        stage = f"pT{facts.t} pN{min(facts.nodes_positive, 1)} ({facts.nodes_positive} of {facts.nodes_examined} nodes)"
        margin = "positive" if facts.margin_positive else "clear"
        findings = {
            Psma.NOT_DONE: "not done", Psma.CLEAR: "no uptake", Psma.LOCAL: "local recurrence",
            Psma.NODE: "pelvic node positive",
        }  # fmt: skip
        return (
            f"{facts.age}-year-old man, biochemical recurrence after radical prostatectomy, {stage}, {grade}, "
            f"{margin} margin. PSA {facts.psa:g} ng/ml. PSMA-PET: {findings[facts.psma]}."
        )
    findings = {
        Psma.NOT_DONE: "not done", Psma.CLEAR: "prostate only", Psma.NODE: "pelvic node positive",
    }  # fmt: skip
    return (
        f"{facts.age}-year-old man, prostate cancer, no prostatectomy, cT{facts.t} cN{int(facts.node)}, {grade}, "
        f"{facts.cores_positive} of {facts.cores} cores, PSA {facts.psa:g} ng/ml. PSMA-PET: {findings[facts.psma]}. "
        f"IPSS {facts.ipss}. Risk group: {facts.risk}. Risk of involved nodes {facts.node_risk} %."
    )
