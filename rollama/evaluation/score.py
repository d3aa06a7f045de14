"""Score anybody's checked predictions (see `predictions`) on a data set's held-out cases.

Who compares a model of his own with ours must not need our code in his. His files get the same metrics and intervals as
our own models. Held-out is every split but training and validation.

Part figures need the parts' label maps (`rollama.data.parts`). They say what share of a part is covered, never what
lies outside (a mask of ones covers every part); read them beside Dice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rollama.cohort.rules import RuleTable, load_rules
from rollama.core.config import hash_json
from rollama.core.errors import ConfigError, DataError
from rollama.core.files import write_json, write_text
from rollama.core.manifest import run_manifest
from rollama.core.registry import Task
from rollama.data.case import Case, Split
from rollama.data.dataset import Dataset, content_hash
from rollama.data.parts import LEVELS, Part, read_parts
from rollama.data.plan import Plan
from rollama.data.volumes import Volume, read_ct, read_mask
from rollama.evaluation import readers, statistics, tables
from rollama.evaluation.fields import compare_plans, read_generated
from rollama.evaluation.masks import body_midline, compare_masks
from rollama.evaluation.predictions import HELD_OUT, SEG, TASKS, Predictions
from rollama.evaluation.rouge import rouge
from rollama.evaluation.run import Progress, Record

FORMAT_VERSION = 1
"""Of `scores.json`."""
COVERED = 0.5
"""A part counts as included when at least this share of its voxels is covered."""
RATES = {"false_target", "missed_target", "missing", "outside_rules"}
SETTINGS = tables.SETTINGS | {
    "included": f"a part of the plan counts as included when at least {COVERED:.0%} of its voxels are covered",
    "false_target": "share of the cases without a target for which a mask was drawn",
    "missed_target": "share of the cases with a target for which no mask was drawn",
    "outside_rules": "share of the plans that parse and that the cohort's rules give to nobody",
}
WORST = 5


@dataclass(frozen=True)
class Scores:
    """The outcome: `records` (one a case and task), the readers' `ceiling`, and `summary`, as in `scores.json`."""

    records: tuple[Record, ...]
    ceiling: readers.Ceiling | None
    summary: dict[str, Any]


def score_predictions(dataset: Dataset, predictions: Predictions, progress: Progress | None = None) -> Scores:
    """Score checked predictions, and the simulated readers beside the masks.

    Args:
        dataset: the data set that the predictions were checked against.
        predictions: of `read_predictions`.
        progress: called with (steps done, steps in all); a step is a case of a task.

    Raises:
        DataError: a CT, a target or a label map of the data set, or a mask changed since the check, cannot be used.
    """
    cases, records = predictions.cases, []
    rules = _rules_of(dataset)
    ceiling = None
    total = len(cases) * (2 * (predictions.masks is not None) + len(predictions.texts))

    def step(done: int, _: int = 0) -> None:
        if progress:
            progress(done, total)

    if predictions.masks is not None:
        for case in cases:
            records.append(_score_mask(case, predictions.masks.get(case.case_id)))
            step(len(records))
        ceiling = readers.reader_ceiling(cases, lambda done, _: step(len(cases) + done))
    for task, texts in predictions.texts.items():
        for case in cases:
            records.append(_score_text(case, task, texts.get(case.case_id), rules))
            step(len(records) + len(cases) * (ceiling is not None))
    missing = predictions.missing()
    info = dataset.info
    summary = run_manifest(
        "scores",
        SETTINGS,
        hash_json(SETTINGS),
        format_version=FORMAT_VERSION,
        dataset={
            "name": info.name, "version": info.version, "synthetic": info.synthetic, "label": info.label,
            "hash": info.content_hash,
            "unchanged": content_hash(dataset.root, info.centres) == info.content_hash,
        },
        cases={split: n for split in HELD_OUT if (n := sum(case.split == split for case in cases))},
        predictions={
            task: {"given": len(cases) - len(missing[task]), "missing": len(missing[task]),
                   "missing_cases": missing[task]}
            for task in TASKS if task in missing
        },
        outside_the_form=sum(r.metrics["unparsed"] == 1 and not r.metrics["missing"]
                             for r in records if r.task == Task.PLAN),
        ignored=dict(predictions.ignored),
        tables=make_rows(records),
        readers=None if ceiling is None or not ceiling.records else {
            "cases": len(ceiling.records), "without": ceiling.without, "tables": _ordered(ceiling.tables),
        },
        worst=worst_cases(records),
    )  # fmt: skip
    return Scores(tuple(records), ceiling, summary)


def make_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Tables as `rollama.evaluation.tables.make_tables` gives them, in a fixed order, for the records of this module.

    Part figures that no case of a row has are left out.
    """
    rows = _ordered(tables.make_tables(records))
    for row in rows:
        members = [
            r for r in records
            if (r.task, r.split) == (row["task"], row["split"]) and row["centre"] in (tables.POOLED, r.centre)
        ]  # fmt: skip
        for name in members[0].metrics:
            if name in RATES or name.startswith("included_"):
                row["metrics"][name] = statistics.rate([r.metrics[name] for r in members]).to_dict()
            if name.startswith(("included_", "recall_", "levels_")) and not row["metrics"][name]["n"]:
                del row["metrics"][name]
    return rows


def worst_cases(records: Sequence[Record], count: int = WORST) -> list[dict[str, Any]]:
    """The cases with the lowest Dice, the worst first; of equal ones in the order of their ids."""
    found = [r for r in records if r.task == SEG and not math.isnan(r.metrics["dice"])]
    found = sorted(found, key=lambda r: (r.metrics["dice"], r.case_id))[:count]
    return [
        {"case_id": r.case_id, "centre": r.centre, "split": str(r.split), "dice": r.metrics["dice"],
         "missing": bool(r.metrics["missing"])}
        for r in found
    ]  # fmt: skip


def write_scores(out: Path, scores: Scores, markdown: str) -> None:
    """Write `scores.json`, `scores.md` and `cases.jsonl` (one line a case: its metrics, no text; NaN becomes null).

    Raises:
        DataError: the folder cannot be written.
    """
    lines: dict[str, dict[str, Any]] = {}
    for record in (*scores.records, *(scores.ceiling.records if scores.ceiling else ())):
        line = {"case_id": record.case_id, "centre": record.centre, "split": record.split}
        lines.setdefault(record.case_id, line)[str(record.task)] = {
            name: None if math.isnan(value) else value for name, value in record.metrics.items()
        }
    write_text(out / "cases.jsonl", "".join(json.dumps(line) + "\n" for line in lines.values()))
    write_text(out / "scores.md", markdown)
    write_json(out / "scores.json", scores.summary)


def _score_mask(case: Case, path: Path | None) -> Record:
    ct = read_ct(case.image)
    reference = read_mask(case.target, ct)
    mask = np.zeros(ct.shape, np.uint8) if path is None else read_mask(path, ct)
    metrics = compare_masks(reference, mask, ct.affine, body_midline(ct.array, ct.affine))
    target = bool(reference.any())
    metrics["false_target"] = math.nan if target else metrics["invented"]
    metrics["missed_target"] = metrics["missed"] if target else math.nan
    metrics |= {"missing": float(path is None), **_cover_parts(case, ct, mask)}
    return _record(case, SEG, metrics)


def _cover_parts(case: Case, ct: Volume, mask: np.ndarray) -> dict[str, float]:
    parts = read_parts(case, ct)
    recall = {p: float(np.count_nonzero(mask[parts[p]])) / np.count_nonzero(parts[p]) for p in parts}
    levels = [float(recall[part] >= COVERED) for part in LEVELS.values() if part in recall]
    found = {"levels_included": sum(levels) / len(levels) if levels else math.nan}
    for part in Part:
        share = recall.get(part, math.nan)
        found[f"recall_{part.name.lower()}"] = share
        found[f"included_{part.name.lower()}"] = math.nan if math.isnan(share) else float(share >= COVERED)
    return found


def _rules_of(dataset: Dataset) -> RuleTable | None:
    """The decision table of a synthetic breast cohort; None for other data or when its file is not here."""
    config = dataset.info.generator.get("config", {})
    if dataset.info.generator.get("room") != "rollama.cohort" or config.get("site") != "breast":
        return None
    try:
        return load_rules(str(config.get("rules")))
    except ConfigError:
        return None


def _score_text(case: Case, task: Task, text: str | None, rules: RuleTable | None) -> Record:
    metrics = rouge(case.summary if task is Task.SUMMARY else case.plan_text, text or "")
    if task is Task.PLAN:
        plan = read_generated(text or "")
        metrics |= compare_plans(case.plan, plan)
        metrics["outside_rules"] = math.nan if rules is None or plan is None else float(not _within(rules, plan))
    return _record(case, task, metrics | {"missing": float(text is None)})


def _within(rules: RuleTable, plan: Plan) -> bool:
    try:
        rules.check_plan(plan)
    except DataError:
        return False
    return True


def _record(case: Case, task: str, metrics: dict[str, float]) -> Record:
    return Record(case.case_id, case.centre, case.split, task, "predictions", "files", metrics)


def _ordered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    tasks, splits = [*TASKS, readers.TASK], list(Split)
    return sorted(
        rows,
        key=lambda row: (
            tasks.index(row["task"]), splits.index(row["split"]), row["centre"] != tables.POOLED, row["centre"],
        ),
    )  # fmt: skip
