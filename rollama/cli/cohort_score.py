"""`rollama cohort score`: anybody's predictions on a cohort's held-out cases, from files, as tables and as a report.

A terminal of 80 columns holds three groups of cases beside each other, so the splits stand there, with the centres
below at their headline figures; the Markdown report has every figure of every centre.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

ACROSS = 3
"""Groups of cases that fit beside each other on a terminal."""
TITLES = {"seg": "Target masks", "readers": "Simulated readers (the ceiling)", "s": "Summaries",
          "p": "Plans"}  # fmt: skip
FIGURES = {
    "seg": {"dice": "Dice", "iou": "IoU", "hd95_mm": "HD95 (mm)", "wrong_side": "wrong side",
            "false_target": "false target", "missed_target": "missed target"},
    "readers": {"dice_reference": "Dice to truth", "dice_pairs": "Dice in pairs", "hd95_reference_mm": "HD95 (mm)"},
    "s": {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"},
    "p": {"fields_mean": "fields right", "fields_all": "all right", "unparsed": "outside form",
          "outside_rules": "outside rules", "rougeL": "ROUGE-L"},
}  # fmt: skip
HEADLINE = (("seg", "dice", "Dice"), ("readers", "dice_pairs", "readers"), ("seg", "hd95_mm", "HD95 (mm)"),
            ("s", "rougeL", "S ROUGE-L"), ("p", "fields_mean", "P fields"))  # fmt: skip
LEGEND = (
    "Mean [95 % CI], number of cases. Shares and scores in percent, distances in mm. False target: a mask where the "
    "plan has none; missed target: no mask where it has one."
)


@dataclass(frozen=True)
class Sheet:
    """One table: its title, the names of its columns and its rows."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


def score(
    root: Path = typer.Argument(..., help="Folder of the data set."),
    predictions: Path = typer.Argument(
        ..., help="Folder with <case_id>.nii.gz (or .nii) masks, 0 and 1 on the CT's grid, and text.jsonl."
    ),
    split: list[str] = typer.Option([], "--split", help="Only this held-out split. Repeatable. Default: all."),
    allow_missing: bool = typer.Option(
        False,
        "--allow-missing",
        help="Count a case without a prediction as an empty mask or text, instead of refusing.",
    ),
    out: Path | None = typer.Option(None, "--out", help="Also write scores.json, scores.md and cases.jsonl here."),
) -> None:
    """Score any model's predictions on the held-out cases: masks, summaries and plans, from files only.

    text.jsonl holds one JSON object a line,
    {"case_id": ..., "summary": ..., "plan_text": ...}.
    Masks, summaries or plans may be left out altogether; that task is then not
    scored. Held-out is every split but training and validation. All files are
    checked first, and all that is wrong is named at once.
    """
    from rollama.cli.progress import bar
    from rollama.data.dataset import open_dataset
    from rollama.evaluation.predictions import read_predictions
    from rollama.evaluation.score import score_predictions, write_scores

    dataset = open_dataset(root, check_volumes=False)  # the held-out volumes are checked with the masks
    messages, console = Console(stderr=True), Console()
    with bar("checking the predictions", len(dataset.cases), messages) as update:
        found = read_predictions(dataset, predictions, split, allow_missing, update)
    with bar("scoring", len(found.cases), messages) as update:
        scores = score_predictions(dataset, found, update)
    for line in (*head_lines(scores.summary), LEGEND):
        console.print(line, highlight=False, markup=False)
    for sheet in terminal_sheets(scores.summary):
        table = Table(*sheet.head, title=sheet.title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0),
                      pad_edge=False, show_edge=False)  # fmt: skip
        for row in sheet.rows:
            table.add_row(*row)
        console.print(table)
        console.print()
    for line in foot_lines(scores.summary):
        console.print(line, highlight=False, markup=False)
    if out is not None:
        write_scores(out, scores, markdown(scores.summary))
        console.print(f"{out}: scores.json, scores.md and cases.jsonl written", highlight=False, markup=False)


def head_lines(summary: Mapping[str, Any]) -> list[str]:
    """What was scored, and what has to be known before reading a figure: the label, missing and ignored files."""
    data, ignored = summary["dataset"], summary["ignored"]
    kind = "SYNTHETIC patients" if data["synthetic"] else "Patients"
    lines = [
        summary["notice"],
        f"{kind}: {data['name']} {data['version']}, content {data['hash'][:16]}, label {data['label']}; held-out "
        "cases: " + ", ".join(f"{split} {n}" for split, n in summary["cases"].items()),
    ]
    if not data["unchanged"]:
        lines.append("WARNING: the data set's files differ from its content hash; these scores compare with no others.")
    for task, counts in summary["predictions"].items():
        if counts["missing"]:
            total = counts["given"] + counts["missing"]
            lines.append(f"{TITLES[task]}: {counts['missing']} of {total} cases are missing and count as empty.")
    if absent := [TITLES[task].lower() for task in ("seg", "s", "p") if task not in summary["predictions"]]:
        lines.append(f"Not scored, as none was given: {', '.join(absent)}.")
    if ignored["masks_of_other_splits"] or ignored["lines_of_other_splits"]:
        lines.append(
            f"Ignored: {ignored['masks_of_other_splits']} mask(s) and {ignored['lines_of_other_splits']} line(s) of "
            "text.jsonl, of cases that are not in the scored splits."
        )
    if ignored["other_files"]:
        lines.append(f"Ignored: {ignored['other_files']} file(s) that are neither NIfTI nor text.jsonl.")
    return lines


def foot_lines(summary: Mapping[str, Any]) -> list[str]:
    """Counts and cases that stand below the tables."""
    lines = []
    if "p" in summary["predictions"]:
        given = summary["predictions"]["p"]["given"]
        lines.append(f"Plans outside the form (wrong in every field): {summary['outside_the_form']} of {given} given.")
    if "seg" in summary["predictions"]:
        readers = summary["readers"]
        if readers is None:
            lines.append("No case has simulated readers, so the ceiling is not known.")
        elif readers["without"]:
            lines.append(f"{readers['without']} case(s) have no simulated readers and are not in the ceiling.")
        shown = (
            f"{case['case_id']} ({case['split']}) {100 * case['dice']:.1f}" + (", missing" if case["missing"] else "")
            for case in summary["worst"]
        )
        lines.append("Worst Dice: " + "; ".join(shown) + ".")
    return lines


def terminal_sheets(summary: Mapping[str, Any]) -> Iterator[Sheet]:
    """The tables for a terminal: all figures by split, then the headline figures by centre."""
    splits = list(summary["cases"])
    for start in range(0, len(splits), ACROSS):
        yield from _sheets(summary, [(split, "all") for split in splits[start : start + ACROSS]])
    rows = _rows(summary)
    for split in splits:
        centres = _centres(summary, split)
        columns = [(t, m, name) for t, m, name in HEADLINE if any(m in rows.get((t, split, c), {}) for c in centres)]
        if len(centres) > 1 and columns:  # of one centre it would repeat the figures above
            body = []
            for centre in centres:
                cells = (_cell(rows, task, split, centre, metric, n=False) for task, metric, _ in columns)
                first = f"{centre}\n{_cases(summary, split, centre)} cases"
                body.append((first, *(cell.replace(" [", "\n[") for cell in cells)))
            yield Sheet(f"By centre: {split}", ("centre", *(name for *_, name in columns)), body)


def markdown(summary: Mapping[str, Any]) -> str:
    """The whole report: every figure of every split and centre."""
    parts = ["# Scores", "", *(f"{line}\n" for line in (*head_lines(summary), LEGEND))]
    for split in summary["cases"]:
        centres = _centres(summary, split)
        groups = [(split, centre) for centre in (("all", *centres) if len(centres) > 1 else centres)]
        for sheet in _sheets(summary, groups):
            parts += [f"## {sheet.title}: {split}", "", _line(sheet.head), "|" + "---|" * len(sheet.head)]
            parts += [*(_line(row) for row in sheet.rows), ""]
    return "\n".join([*parts, *(f"{line}\n" for line in foot_lines(summary))])


def _sheets(summary: Mapping[str, Any], groups: Sequence[tuple[str, str]]) -> Iterator[Sheet]:
    """One sheet a task with the groups (split, centre) across; the parts of the target have their own."""
    from rollama.data.parts import LEVELS, Part
    from rollama.evaluation.fields import GETTERS

    rows = _rows(summary)
    words = {part: part.name.lower().replace("_", " ") for part in Part}
    words |= {part: str(level) for level, part in LEVELS.items()}  # as plans word them
    head = tuple(split if centre == "all" else centre for split, centre in groups)
    for task, figures in FIGURES.items():
        names = dict(figures)
        if task == "p":
            names |= {name: name for name in GETTERS}
        if summary["predictions"].get(task, {}).get("missing"):
            names["missing"] = "missing"
        sheets = {TITLES[task]: names}
        if task == "seg":
            recall = {f"recall_{part.name.lower()}": words[part] for part in Part}
            included = {f"included_{part.name.lower()}": words[part] for part in Part}
            sheets["Share of each part that is covered"] = recall
            sheets["Parts of which half is covered"] = {"levels_included": "nodal levels"} | included
        for title, labels in sheets.items():
            body = [
                (label, *(_cell(rows, task, split, centre, metric) for split, centre in groups))
                for metric, label in labels.items()
                if any(metric in rows.get((task, split, centre), {}) for split, centre in groups)
            ]
            if body:
                yield Sheet(title, ("", *head), body)


def _rows(summary: Mapping[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """(task, split, centre) -> figures by name; the readers' stand beside the predictions'."""
    tables = [*summary["tables"], *(summary["readers"]["tables"] if summary["readers"] else ())]
    return {(row["task"], row["split"], row["centre"]): row["metrics"] for row in tables}


def _centres(summary: Mapping[str, Any], split: str) -> list[str]:
    found = (row["centre"] for row in summary["tables"] if row["split"] == split and row["centre"] != "all")
    return sorted(set(found))


def _cases(summary: Mapping[str, Any], split: str, centre: str) -> int:
    return max(int(row["n"]) for row in summary["tables"] if (row["split"], row["centre"]) == (split, centre))


def _cell(
    rows: Mapping[tuple[str, str, str], Mapping[str, Any]],
    task: str,
    split: str,
    centre: str,
    name: str,
    n: bool = True,
) -> str:
    from rollama.evaluation.report import show

    value = rows.get((task, split, centre), {}).get(name)
    if value is None:
        return ""
    return show(value, name) + (f", {value['n']}" if n and value["n"] else "")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
