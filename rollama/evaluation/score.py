"""Score anybody's predictions on a data set's held-out cases, from files only.

Who compares a model of his own with ours must not need our code in his. He writes a folder; this module scores it with
the same metrics and intervals as our own models get::

    <predictions>/<case_id>.nii.gz    (or .nii) target mask, 0 and 1, on the CT's own grid
    <predictions>/text.jsonl          optional, one JSON object a line: {"case_id", "summary", "plan_text"}

The masks, the summaries or the plans may be left out altogether; that task is then not scored. Left out for some cases
they are missing, and missing predictions are refused, or count as empty where the caller allows it: a score over the
cases that a model found easy is not comparable. Held-out is every split but training and validation.

A wrong grid or a mistyped case id must not become a low score, so everything is checked before anything is scored and
all that is wrong is named in one error. It never repeats a text.

Part figures need the parts' label maps (`rollama.data.parts`). They say what share of a part is covered, never what
lies outside (a mask of ones covers every part); read them beside Dice.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rollama.core.config import hash_json
from rollama.core.errors import ConfigError, DataError
from rollama.core.files import write_json, write_text
from rollama.core.manifest import run_manifest
from rollama.core.registry import Task
from rollama.data.case import Case, Split
from rollama.data.dataset import Dataset, check_pair, content_hash
from rollama.data.parts import LEVELS, Part, read_parts
from rollama.data.volumes import NIFTI, Volume, read_ct, read_mask
from rollama.evaluation import readers, statistics, tables
from rollama.evaluation.fields import compare_plans, read_generated
from rollama.evaluation.masks import body_midline, compare_masks
from rollama.evaluation.rouge import rouge
from rollama.evaluation.run import Progress, Record

FORMAT_VERSION = 1
"""Of `scores.json`."""
HELD_OUT = tuple(split for split in Split if split not in (Split.TRAIN, Split.VALIDATION))
SEG, TEXT_KEYS = "seg", {Task.SUMMARY: "summary", Task.PLAN: "plan_text"}
TASKS = {SEG: "mask", Task.SUMMARY: "summary", Task.PLAN: "plan_text"}
"""What is scored, and what a missing prediction of it is called."""
COVERED = 0.5
"""A part counts as included when at least this share of its voxels is covered."""
RATES = {"false_target", "missed_target", "missing"}
SETTINGS = tables.SETTINGS | {
    "included": f"a part of the plan counts as included when at least {COVERED:.0%} of its voxels are covered",
    "false_target": "share of the cases without a target for which a mask was drawn",
    "missed_target": "share of the cases with a target for which no mask was drawn",
}
PROBLEMS, NAMES, WORST = 50, 10, 5
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


@dataclass(frozen=True)
class Predictions:
    """A checked folder of predictions.

    Attributes:
        cases: the held-out cases to score, in the data set's order.
        masks: case id -> file; None when no mask was given, and masks are not scored.
        texts: task -> case id -> text, for the tasks that are scored.
        ignored: what was found and not read: masks and text lines of other splits, other files.
    """

    folder: Path
    cases: tuple[Case, ...]
    masks: Mapping[str, Path] | None
    texts: Mapping[Task, Mapping[str, str]] = field(repr=False)
    ignored: Mapping[str, int]

    def missing(self) -> dict[str, list[str]]:
        """Task -> the ids of the cases without a prediction, for the tasks that are scored."""
        given: dict[str, Mapping[str, Any]] = {} if self.masks is None else {SEG: self.masks}
        given.update({str(task): texts for task, texts in self.texts.items()})
        return {task: [case.case_id for case in self.cases if case.case_id not in given[task]] for task in given}


@dataclass(frozen=True)
class Scores:
    """The outcome: `records` (one a case and task), the readers' `ceiling`, and `summary`, as in `scores.json`."""

    records: tuple[Record, ...]
    ceiling: readers.Ceiling | None
    summary: dict[str, Any]


def read_predictions(
    dataset: Dataset,
    folder: Path,
    splits: Sequence[str] = (),
    allow_missing: bool = False,
    progress: Progress | None = None,
) -> Predictions:
    """Find and check all predictions in a folder (see the module docstring for its form).

    Args:
        dataset: the opened data set; its held-out CTs and targets are checked here too.
        folder: the predictions.
        splits: held-out splits to score; all when empty.
        allow_missing: cases without a prediction then count as an empty mask or an empty text.
        progress: called with (masks checked, masks in all).

    Raises:
        ConfigError: a split is not a held-out one.
        DataError: nothing to score; or lists all that is wrong: ids that the data set does not have, ids given twice,
            unreadable files, other grids, values other than 0 and 1, malformed lines, missing cases.
    """
    if unknown := [name for name in splits if name not in HELD_OUT]:
        raise ConfigError(f"split {unknown[0]!r} is not held out; accepted: {', '.join(HELD_OUT)}")
    cases = dataset.select(*(split for split in HELD_OUT if not splits or split in splits))
    if not cases:
        raise DataError(f"{dataset.root}: no case in the split(s) {', '.join(splits or HELD_OUT)}")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of predictions")
    problems: list[str] = []
    known, chosen = {case.case_id for case in dataset.cases}, {case.case_id for case in cases}
    masks, ignored = _find_masks(folder, known, problems)
    lines = _read_texts(folder / "text.jsonl", known, problems)
    ignored |= {
        "masks_of_other_splits": len(masks.keys() - chosen),
        "lines_of_other_splits": len(lines.keys() - chosen),
    }
    masks = {name: path for name, path in masks.items() if name in chosen}
    texts = {
        task: {name: line[key] for name, line in lines.items() if name in chosen and key in line}
        for task, key in TEXT_KEYS.items()
    }
    texts = {task: found for task, found in texts.items() if found}
    for done, case in enumerate(cases if masks else (), 1):
        problems += _check_mask(case, masks.get(case.case_id))
        if progress:
            progress(done, len(cases))
    predictions = Predictions(folder, cases, masks or None, texts, ignored)
    for task, names in predictions.missing().items():
        if names and not allow_missing:
            problems.append(
                f"{len(names)} of {len(cases)} held-out cases have no {TASKS[task]}: {_some(names)}; add them, or "
                "count them as empty with --allow-missing"
            )
    if not masks and not texts:
        problems.append(f"no mask and no text of a held-out case; a mask is named '{cases[0].case_id}.nii.gz'")
    if problems:
        more = f"\n  and {len(problems) - PROBLEMS + 1} more" if len(problems) > PROBLEMS else ""
        shown = problems[: PROBLEMS - 1] if more else problems
        raise DataError(f"{folder}: {len(problems)} problem(s) in the predictions:\n  " + "\n  ".join(shown) + more)
    return predictions


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
            records.append(_score_text(case, task, texts.get(case.case_id)))
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


def _score_text(case: Case, task: Task, text: str | None) -> Record:
    metrics = rouge(case.summary if task is Task.SUMMARY else case.plan_text, text or "")
    if task is Task.PLAN:
        metrics |= compare_plans(case.plan, read_generated(text or ""))
    return _record(case, task, metrics | {"missing": float(text is None)})


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


def _find_masks(folder: Path, known: set[str], problems: list[str]) -> tuple[dict[str, Path], dict[str, int]]:
    masks: dict[str, Path] = {}
    unknown, other = [], 0
    for path in sorted(folder.iterdir()):
        suffix = next((s for s in sorted(NIFTI, key=len, reverse=True) if path.name.lower().endswith(s)), None)
        name = path.name[: -len(suffix)] if suffix else ""
        if path.name.startswith(".") or path.name == "text.jsonl":
            continue  # hidden files are the system's, such as `._x.nii.gz` of macOS
        if suffix is None:
            other += path.is_file()
        elif name not in known:
            unknown.append(path.name)
        elif name in masks:
            problems.append(f"case {name} has two masks, {masks[name].name} and {path.name}; keep one")
        else:
            masks[name] = path
    if unknown:
        problems.append(
            f"{len(unknown)} file(s) named after no case of the data set: {_some(unknown)}; a mask is named after its "
            f"case, such as '{min(known)}.nii.gz'"
        )
    return masks, {"other_files": other}


def _check_mask(case: Case, path: Path | None) -> list[str]:
    import nibabel

    try:
        check_pair(case.image, case.target)
    except DataError as error:
        return [f"data set, case {case.case_id}: {error}"]
    if path is None:
        return []
    ct: Any = nibabel.load(case.image)
    try:
        image: Any = nibabel.load(path)
        values = np.asarray(image.dataobj)
        affine = np.asarray(image.affine, dtype=np.float64)
    except Exception as error:  # nibabel raises its own, zlib's and OS errors for damaged files
        return [f"{path.name}: not a readable NIfTI file ({type(error).__name__})"]
    if values.shape != ct.shape:
        return [f"{path.name}: shape {values.shape} differs from the CT's {ct.shape}"]
    if not np.allclose(affine, ct.affine, atol=1e-3):
        return [f"{path.name}: affine differs from the CT's; resample it onto the CT's grid"]
    if values.dtype.kind not in "buif":
        return [f"{path.name}: voxels of type {values.dtype}; a mask holds 0 and 1"]
    wrong = values[(values != 0) & (values != 1)]  # NaN is neither
    return [f"{path.name}: values must be 0 and 1, found {np.unique(wrong)[:5].tolist()}"] if wrong.size else []


def _read_texts(path: Path, known: set[str], problems: list[str]) -> dict[str, dict[str, str]]:
    """Case id -> its texts. Lines are grouped by what is wrong with them, so that one habit gives one problem."""
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # a text may hold what splitlines takes for a line end
    except OSError as error:
        problems.append(f"{path.name}: cannot read it ({error.strerror})")
        return {}
    except UnicodeDecodeError as error:
        problems.append(f"{path.name}: not UTF-8 text (byte {error.start})")
        return {}
    found: dict[str, dict[str, str]] = {}
    wrong: dict[str, list[str]] = {}
    unknown: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, texts, reason = _read_line(line)
        if not reason and name in found:
            reason = "the case has a line already"
        if reason:
            wrong.setdefault(reason, []).append(str(number))
        elif name not in known:
            unknown.append(name)
        else:
            found[name] = texts
    problems += [f"{path.name}: line(s) {_some(numbers)}: {reason}" for reason, numbers in wrong.items()]
    if unknown:
        problems.append(
            f"{path.name}: {len(unknown)} line(s) with a case_id that the data set does not have: {_some(unknown)}; "
            f"an id looks like '{min(known)}'"
        )
    return found


def _read_line(line: str) -> tuple[str, dict[str, str], str]:
    """Case id, texts by key, and what is wrong ("" when nothing is); null is as good as no key."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return "", {}, "not valid JSON"
    if not isinstance(record, dict):
        return "", {}, "not a JSON object"
    name = record.pop("case_id", None)
    if not isinstance(name, str) or not _ID.fullmatch(name):
        return "", {}, "no case_id of letters, digits, '_' and '-'"
    if not record.keys() <= set(TEXT_KEYS.values()):
        return name, {}, f"a key other than case_id, {' and '.join(TEXT_KEYS.values())}"
    texts = {key: value for key, value in record.items() if value is not None}
    if not all(isinstance(value, str) for value in texts.values()):
        return name, {}, f"a {' or '.join(TEXT_KEYS.values())} that is no text"
    return name, texts, ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMES]) + (f" and {len(names) - NAMES} more" if len(names) > NAMES else "")
