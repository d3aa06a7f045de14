"""One HTML file that shows what a run found: figures with intervals, curves, examples beside the truth, provenance.

It must open anywhere years later, so it carries its images inside and asks no other host for anything. All texts are
escaped; clinical texts appear only through `examples`, which the caller must take from synthetic data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rollama import RESEARCH_ONLY
from rollama.core.files import write_text
from rollama.core.registry import Decoding
from rollama.data.volumes import Volume

TASKS = {
    "s": ("S: note to summary", ("rouge1", "rouge2", "rougeL", "cut_off")),
    "p": ("P: summary to plan", ("fields_mean", "fields_all", "side", "surgery", "volumes", "levels", "boost", "dose",
                                 "fractions", "technique", "guideline", "unparsed", "contradicts",
                                 "side_doubted", "side_unflagged", "rougeL")),
    "seg": ("SEG: CT and plan to target", ("dice", "iou", "hd95_mm", "hd95_pooled_mm", "surface_dice_2mm",
                                           "surface_dice_3mm", "surface_dice_5mm", "added_path_mm", "volume_ratio",
                                           "levels_held", "levels_left_out", "levels_right", "wrong_side", "missed",
                                           "invented", "both_empty")),
    "side-swap": ("Same CT, plan of the other side", ("moved_across", "followed_plan")),
    "counterfactual": ("Same CT, edited plan", ("success", "leakage", "leakage_strict", "edited_dice")),
    "trust": ("What SEG says of itself", ("calibration_error", "unusual", "flagged", "ranked_above")),
}  # fmt: skip
LABELS = {
    "rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "cut_off": "cut off", "fields_mean": "fields right",
    "fields_all": "all fields right", "dice": "Dice", "iou": "IoU", "hd95_mm": "HD95 (mm)", "wrong_side": "wrong side",
    "hd95_pooled_mm": "HD95 pooled (mm)", "surface_dice_2mm": "surface Dice 2 mm",
    "surface_dice_3mm": "surface Dice 3 mm", "surface_dice_5mm": "surface Dice 5 mm",
    "added_path_mm": "added path (mm)", "volume_ratio": "volume / reference", "levels_held": "planned levels held",
    "levels_left_out": "other levels left out", "levels_right": "all levels right", "success": "edit followed",
    "leakage": "leakage", "leakage_strict": "leakage, no tolerance", "edited_dice": "Dice after the edit",
    "both_empty": "both empty", "calibration_error": "calibration error", "flagged": "called unusual",
    "unusual": "distance from training", "ranked_above": "AUROC against held-out cases",
    "contradicts": "contradicts itself or its summary", "side_unflagged": "wrong side, not flagged",
    "side_doubted": "side doubted by a second look",
    "moved_across": "moved across", "followed_plan": "on the plan's side",
}  # fmt: skip
HEADLINE = (("s", "rougeL"), ("p", "fields_mean"), ("p", "rougeL"), ("seg", "dice"), ("seg", "hd95_mm"),
            ("seg", "surface_dice_3mm"), ("seg", "levels_right"), ("seg", "wrong_side"),
            ("side-swap", "moved_across"), ("counterfactual", "success"), ("counterfactual", "leakage"),
            ("trust", "calibration_error"), ("trust", "ranked_above"))  # fmt: skip
SPLITS = {"external": "external (unseen centre)", "test": "internal test", "validation": "internal validation"}


@dataclass(frozen=True)
class Example:
    """A held-out patient to show. Texts are shown as they are: synthetic data only.

    Masks are (x, y, z) on the volume's grid. `metrics` are shown as given, such as {"Dice": "0.93"}.
    """

    case_id: str
    centre: str
    split: str
    volume: Volume
    true_mask: np.ndarray
    predicted_mask: np.ndarray
    note: str = field(repr=False)
    reference_summary: str = field(repr=False)
    summary: str = field(repr=False)
    reference_plan: str = field(repr=False)
    plan: str = field(repr=False)
    metrics: Mapping[str, str] = field(default_factory=dict)


def headline_rows(evaluation: Mapping[str, Any]) -> list[dict[str, str]]:
    """The key results as text: one row a system, split and metric, pooled over centres; the external split first."""
    order = list(SPLITS)
    tables = sorted(
        (row for row in evaluation["tables"] if row["centre"] == "all"),
        key=lambda row: order.index(row["split"]) if row["split"] in order else len(order),
    )
    return [
        {
            "Task": TASKS[task][0],
            "Metric": LABELS[metric],
            "Cases": SPLITS.get(row["split"], row["split"]),
            "System": row["system"],
            "Input": row["source"],
            "Mean [95 % CI]": show(row["metrics"][metric], metric),
            "n": _count(row["metrics"][metric]),
        }
        for task, metric in HEADLINE
        for row in tables
        if row["task"] == task and metric in row["metrics"]
    ]


def headline_markdown(evaluation: Mapping[str, Any]) -> str:
    """The key results as a Markdown table, for documents that are read as text."""
    rows = headline_rows(evaluation)
    if not rows:
        return "nothing was scored\n"
    data = evaluation["dataset"]
    kind = "synthetic patients" if data["synthetic"] else "patients"
    held = " P was held to the plan's form." if evaluation.get("plan_decoding") == Decoding.CONSTRAINED else ""
    known = f"{data['name']}, content {data['hash'][:16]}, label {data['label']}"
    lines = [
        f"{RESEARCH_ONLY}. {kind.capitalize()}: {known}.{held}",
        "",
        "| " + " | ".join(rows[0]) + " |",
        "|" + "---|" * len(rows[0]),
    ]
    return "\n".join([*lines, *("| " + " | ".join(row.values()) + " |" for row in rows)]) + "\n"


def show(value: Mapping[str, Any], metric: str) -> str:
    """A mean with its interval: shares and scores in percent, distances in mm or standard distances."""
    if value["mean"] is None:
        return "n/a"
    scale, digits = (1.0, 1) if metric.endswith("_mm") else (1.0, 2) if metric == "unusual" else (100.0, 1)
    text = f"{value['mean'] * scale:.{digits}f}"
    if value["low"] is None:
        return text
    return f"{text} [{value['low'] * scale:.{digits}f}, {value['high'] * scale:.{digits}f}]"


def plan_differences(reference: str, generated: str) -> list[tuple[str, str, bool]]:
    """(true sentence, generated sentence, equal) line by line, split at the sentences 'Name: value.'"""
    truth, found = _sentences(reference), _sentences(generated)
    names = list(dict.fromkeys([*truth, *found]))
    return [(truth.get(n, "(none)"), found.get(n, "(none)"), truth.get(n) == found.get(n)) for n in names]


def write_report(
    folder: Path,
    evaluation: Mapping[str, Any],
    curves: Mapping[str, Path],
    examples: Sequence[Example],
    provenance: Mapping[str, Any],
    edits: Sequence[Path] = (),
) -> Path:
    """Write `<folder>/report.html` and return its path.

    Args:
        folder: the run's folder.
        evaluation: what `evaluation.json` holds.
        curves: title -> `metrics.jsonl` of each training run.
        examples: patients to show.
        provenance: commands, hashes, timings, manifests; nested values are shown as JSON.
        edits: pictures of edited plans, named after their cases.

    Raises:
        DataError: the folder cannot be written.
    """
    import jinja2

    from rollama.data.slices import draw_planes, figure_png
    from rollama.evaluation.figures import curves_png, data_uri

    shown = []
    for example in examples:
        masks = {"true target": example.true_mask, "predicted target": example.predicted_mask}
        figure = draw_planes(example.volume, masks, f"{example.case_id} ({example.centre})")
        differences = plan_differences(example.reference_plan, example.plan)
        shown.append({"example": example, "image": data_uri(figure_png(figure)), "plan": differences,
                      "wrong": sum(not equal for _, _, equal in differences)})  # fmt: skip
    png = curves_png(curves)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = _plain
    html = environment.get_template("report.jinja").render(
        notice=RESEARCH_ONLY,
        synthetic=evaluation["dataset"]["synthetic"],
        evaluation=evaluation,
        headline=headline_rows(evaluation),
        sections=_sections(evaluation),
        comparisons=[_comparison(item) for item in evaluation.get("comparisons", [])],
        curves=data_uri(png) if png else None,
        curve_names=list(curves),
        examples=shown,
        edits={path.stem: data_uri(path.read_bytes()) for path in edits},
        provenance=provenance,
    )
    path = folder / "report.html"
    write_text(path, html)
    return path


def _sections(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    sections = []
    for task, (title, metrics) in TASKS.items():
        rows = [row for row in evaluation["tables"] if row["task"] == task]
        splits = sorted(
            {row["split"] for row in rows}, key=lambda split: list(SPLITS).index(split) if split in SPLITS else 9
        )
        for split in splits:
            body = [
                {
                    "centre": "all centres" if row["centre"] == "all" else row["centre"],
                    "pooled": row["centre"] == "all",
                    "system": row["system"],
                    "source": row["source"],
                    "n": row["n"],
                    "cells": [show(row["metrics"][m], m) if m in row["metrics"] else "" for m in metrics],
                    "excluded": [row["metrics"].get(m, {}).get("excluded", 0) for m in metrics],
                }
                for row in sorted(rows, key=lambda row: (row["centre"] != "all", row["centre"]))
                if row["split"] == split
            ]
            if len({row["centre"] for row in body if not row["pooled"]}) == 1:
                body = [row for row in body if not row["pooled"]]  # one centre: the pooled rows would repeat it
            head = [LABELS.get(metric, metric) for metric in metrics]
            sections.append({"title": f"{title}: {SPLITS.get(split, split)}", "head": head, "rows": body})
    return sections


def _comparison(item: Mapping[str, Any]) -> dict[str, str]:
    return {
        "Task": TASKS[item["task"]][0],
        "Metric": LABELS[item["metric"]],
        "Cases": SPLITS.get(item["split"], item["split"]),
        "A minus B": f"{item['a']} minus {item['b']}",
        "Difference [95 % CI]": show(item["difference"], item["metric"]),
        "n": _count(item["difference"]),
    }


def _count(value: Mapping[str, Any]) -> str:
    return f"{value['n']}" + (f" ({value['excluded']} excluded)" if value["excluded"] else "")


def _sentences(plan: str) -> dict[str, str]:
    """The sentences 'Name: value.' of a plan by name; text of another form as one entry without a name."""
    found: dict[str, str] = {}
    for part in plan.strip().removesuffix(".").split(". "):
        name, colon, _ = part.partition(": ")
        found[name.strip() if colon else "text"] = part.strip() + "."
    return found


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)
