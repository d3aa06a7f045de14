"""The dataset card: what the cohort is, how it was made, and what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rollama.cohort.shifts import CENTRES
from rollama.data.case import Split
from rollama.data.dataset import DatasetInfo

BREAST_RULES = (
    "T is clinical when chemotherapy came before surgery, pathological otherwise; pN follows from the number of",
    "positive nodes; risk is high below 50 years, with grade 3 or a margin below 2 mm.",
)
BREAST_LIMITS = (
    "- Geometric landmarks stand in for vessels and fasciae; a boost does not enlarge the target.",
    "- One side a plan; no bilateral treatment.",
)


def dataset_card(
    info: DatasetInfo, counts: Mapping[str, Mapping[Split, int]], rules: Sequence[tuple[str, str, str, str]]
) -> str:
    """Markdown of `dataset_card.md`.

    Args:
        info: the dataset's description.
        counts: cases a split for each centre.
        rules: the decision table as rows (decides, when, gives, source).
    """
    breast = info.generator["config"]["site"] == "breast"
    lines = [
        f"# {info.name}, version {info.version}",
        "",
        f"**{info.notice}.** Every patient, note, plan and image here is invented by rules; none describes a person.",
        "",
        f"Content hash: `{info.content_hash}` · labels: {info.label}",
        "",
        f"Configuration hash: `{info.generator['config_hash']}`",
        "",
        "## What it is",
        "",
        "Each case has a clinical note, a reference summary, a radiotherapy plan, a CT phantom and a target mask.",
        "The plan follows from the facts in the note by the table below; the mask follows from plan and CT, not from",
        "the CT alone. No note and no summary states volumes, levels, dose or boost; a breast department's protocol",
        "(ESTRO or RTOG) is stated, as its borders and policies follow from it. For each fact the sentence that",
        "carries it is kept. Some training cases are twins: the same anatomy with another note and plan",
        "(`anatomy_of`). The split `counterfactual` has the very CTs of external cases with other notes and plans",
        "(`scan_of`), the split `combination` combinations of facts that no training, validation or test case has.",
        "`parts/` holds the target's parts as a label map, `readers/` three simulated readers (bits 1, 2, 4).",
        "",
        "## Centres",
        "",
        "| centre | "
        + " | ".join(Split)
        + " | HU offset | noise HU | blur mm | contrast HU | couch | slice mm | field mm | RTOG % | "
        "contours |",
        "|---|" + "---|" * (len(Split) + 9),
    ]
    for name in info.centres:
        scanner, population = CENTRES[name].scanner, CENTRES[name].population
        numbers = " | ".join(str(counts[name].get(split, 0)) for split in Split)
        drawn = f"training: one reader, {CENTRES[name].reader_mm:g} mm" if CENTRES[name].reader_mm else "exact"
        shown = f"{name} (unseen in training)" if CENTRES[name].external else name
        lines.append(
            f"| {shown} | {numbers} | {scanner.hu_offset:g} | {scanner.noise_hu:g} | {scanner.blur_mm:g} | "
            f"{scanner.contrast_hu:g} | {scanner.couch} | {scanner.slice_mm:g} | {scanner.fov_mm:g} | "
            f"{100 * population.rtog:.0f} | {drawn} |"
        )
    lines += [
        "",
        "## From facts to plan",
        "",
        f"For each decision {'exactly one' if breast else 'the first'} row holds for a patient. Not treatment advice.",
        *(BREAST_RULES if breast else ()),
        "",
        "| decides | when | gives | source |",
        "|---|---|---|---|",
        *("| " + " | ".join(row) + " |" for row in rules),
        "",
        "## Limits",
        "",
        "- Synthetic anatomy and language test software and method. They say nothing about clinical accuracy.",
        *(BREAST_LIMITS if breast else ("- Plans are free text; no parts of the target are kept.",)),
        "- Rules are simpler than practice, and some only make the choice definite (cohort convention).",
        "- Patient coordinates RAS+ in mm, HU, Gy; flip an image left-right only with the plan's side.",
        "",
    ]
    return "\n".join(lines)
