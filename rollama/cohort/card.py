"""The dataset card: what the cohort is, how it was made, and what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping

from rollama.cohort.rules import rule_rows
from rollama.cohort.shifts import CENTRES
from rollama.data.case import Split
from rollama.data.dataset import DatasetInfo


def dataset_card(info: DatasetInfo, counts: Mapping[str, Mapping[Split, int]]) -> str:
    """Markdown of `dataset_card.md`.

    Args:
        info: the dataset's description.
        counts: cases a split for each centre.
    """
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
        "the CT alone. No note and no summary states volumes, levels, dose or boost. For each fact the sentence that",
        "carries it is kept. Some training cases are counterfactual twins: the same anatomy with another note and",
        "another plan (`anatomy_of`).",
        "",
        "## Centres",
        "",
        "| centre | " + " | ".join(Split) + " | HU offset | noise HU | blur mm | contrast HU | couch | voxel |",
        "|---|" + "---|" * (len(Split) + 6),
    ]
    for name in info.centres:
        scanner = CENTRES[name].scanner
        numbers = " | ".join(str(counts[name].get(split, 0)) for split in Split)
        voxel = "configured" if scanner.spacing is None else "own"
        shown = f"{name} (unseen in training)" if CENTRES[name].external else name
        lines.append(
            f"| {shown} | {numbers} | {scanner.hu_offset:g} | "
            f"{scanner.noise_hu:g} | {scanner.blur_mm:g} | {scanner.contrast_hu:g} | {scanner.couch} | {voxel} |"
        )
    lines += [
        "",
        "## From facts to plan",
        "",
        "For each decision the first row that applies holds. T is clinical when chemotherapy came before surgery,",
        "pathological otherwise; pN follows from the number of positive nodes. Not treatment advice.",
        "",
        "| decides | when | gives | source |",
        "|---|---|---|---|",
        *("| " + " | ".join(row) + " |" for row in rule_rows()),
        "",
        "## Limits",
        "",
        "- Synthetic anatomy and language test software and method. They say nothing about clinical accuracy.",
        "- Geometric landmarks stand in for vessels and fasciae; a boost does not enlarge the target.",
        "- One side a plan; no bilateral treatment.",
        "- English only; rules are simpler than practice, and some only make the choice definite (cohort convention).",
        "- Patient coordinates RAS+ in mm, HU, Gy; flip an image left-right only with the plan's side.",
        "",
    ]
    return "\n".join(lines)
