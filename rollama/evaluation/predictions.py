"""A folder of anybody's predictions, found and checked before any of it is scored.

A wrong grid or a mistyped case id must not become a low score, and one bad file must not end a scoring after an hour.
All that is wrong is therefore named in one error, which never repeats a text. The folder's form::

    <predictions>/<case_id>.nii.gz    (or .nii) target mask, 0 and 1, on the CT's own grid
    <predictions>/text.jsonl          optional, one JSON object a line: {"case_id", "summary", "plan_text"}

The masks, the summaries or the plans may be left out altogether. Left out for some cases they are missing, and missing
predictions are refused, or count as empty where the caller allows it: a score over the cases that a model found easy is
not comparable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rollama.core.errors import ConfigError, DataError
from rollama.core.registry import Task
from rollama.data.case import Case, Split
from rollama.data.dataset import Dataset, check_pair
from rollama.data.volumes import NIFTI
from rollama.evaluation.run import Progress

HELD_OUT = tuple(split for split in Split if split not in (Split.TRAIN, Split.VALIDATION))
SEG, TEXT_KEYS = "seg", {Task.SUMMARY: "summary", Task.PLAN: "plan_text"}
TASKS = {SEG: "mask", Task.SUMMARY: "summary", Task.PLAN: "plan_text"}
"""What is scored, and what a missing prediction of it is called."""
PROBLEMS, NAMES = 50, 10
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
