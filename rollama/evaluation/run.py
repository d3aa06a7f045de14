"""Score models on held-out cases: one record a case, system and input, then tables with intervals.

The chain S -> P -> SEG can fail at any link, so each link is scored on the true input and on what the link before it
wrote. The models are known here only by two small protocols; anything that generates text or masks can be scored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rollama.chain.agreement import note_doubts, side_doubted
from rollama.chain.run import Answer
from rollama.core.errors import DataError
from rollama.core.registry import Task
from rollama.data.case import Case
from rollama.data.organs import case_ct
from rollama.data.parts import LEVELS, read_parts
from rollama.data.plan import Guideline, render_plan
from rollama.data.volumes import Volume, read_mask
from rollama.evaluation import baselines, levels
from rollama.evaluation.answers import Answers, Levels
from rollama.evaluation.cache import MaskCache, TextCache, Written
from rollama.evaluation.fields import compare_plans, flags, read_generated
from rollama.evaluation.masks import body_midline, compare_masks, side_of
from rollama.evaluation.rouge import rouge

Progress = Callable[[int, int], None]
CHUNK = 16
"""Cases generated between two writes to the cache."""
REFERENCE, GENERATED = "reference", "generated"
SIDE_SWAP = "side-swap"


class TextGenerator(Protocol):
    """S and P."""

    def generate(self, task: Task, texts: Sequence[str], progress: Any = None) -> Sequence[Answer]:
        """Answer each text."""
        ...


class Segmenter(Protocol):
    """SEG."""

    def predict(self, volume: Volume, plan_text: str, progress: Any = None) -> np.ndarray:
        """The target mask, uint8 (x, y, z), on the volume's grid."""
        ...


class Refused(DataError):
    """A model does not take a plan's text."""


@dataclass(frozen=True)
class Record:
    """The scores of one case. `text` is the generated text; it is written only for synthetic data."""

    case_id: str
    centre: str
    split: str
    task: str
    system: str
    source: str
    metrics: dict[str, float]
    text: str | None = field(default=None, repr=False)


def evaluate_text(
    model: TextGenerator,
    cases: Sequence[Case],
    cache: Callable[[str], TextCache],
    system: str = "RO-LLaMA",
    chain: bool = True,
    progress: Progress | None = None,
) -> list[Record]:
    """Score S on notes, P on reference summaries and, with `chain`, P on the generated summaries.

    Args:
        model: generates for both tasks.
        cases: what to score.
        cache: gives the cache of a task (`s` or `p`).
        system: the model's name in the tables.
        progress: called with (cases done, cases in all) over the passes.
    """
    total = len(cases) * (3 if chain else 2)

    def run(task: Task, texts: Sequence[str], offset: int) -> list[Written]:
        return _generate(model, task, cases, texts, cache(task), lambda n: progress and progress(offset + n, total))

    summaries = run(Task.SUMMARY, [case.note for case in cases], 0)
    records = [
        score_answer(case, Task.SUMMARY, system, REFERENCE, *found)
        for case, found in zip(cases, summaries, strict=True)
    ]
    read = {REFERENCE: [Written(case.summary, True) for case in cases]}
    if chain:
        read[GENERATED] = summaries
    for done, (source, texts) in enumerate(read.items(), 1):
        plans = run(Task.PLAN, [found.text for found in texts], done * len(cases))
        records += [
            score_answer(case, Task.PLAN, system, source, *plan, summary=summary)
            for case, plan, summary in zip(cases, plans, texts, strict=True)
        ]
    return records


def evaluate_baselines(cases: Sequence[Case], train_cases: Sequence[Case]) -> list[Record]:
    """Score lead words and the nearest training case for S; the most frequent plan and the nearest case for P."""
    summaries = [case.summary for case in train_cases]
    plans = [case.plan_text for case in train_cases]
    notes = [case.note for case in train_cases]
    answers = {
        (Task.SUMMARY, "lead words"): baselines.lead_words([case.note for case in cases], summaries),
        (Task.SUMMARY, "nearest case"): baselines.nearest([case.note for case in cases], notes, summaries),
        (Task.PLAN, "most frequent"): [baselines.most_frequent(plans)] * len(cases),
        (Task.PLAN, "nearest case"): baselines.nearest([case.summary for case in cases], summaries, plans),
    }
    return [
        score_answer(case, task, system, REFERENCE, text, True)
        for (task, system), texts in answers.items()
        for case, text in zip(cases, texts, strict=True)
    ]


def evaluate_segmentation(
    model: Segmenter,
    cases: Sequence[Case],
    plans: Mapping[str, str],
    cache: MaskCache,
    system: str = "SEG++",
    source: str = REFERENCE,
    progress: Progress | None = None,
    answers: Answers | None = None,
) -> list[Record]:
    """Score the target on each case's own CT grid, in mm.

    Args:
        model: plan-guided or plan-blind, the same call.
        cases: what to score.
        plans: case id -> plan text given to the model.
        source: `reference` or `generated`: where the plans come from. A generated plan that the model refuses (empty or
            far too long) counts as an empty mask; `refused` says how often.
        answers: where every nodal level lies (synthetic data); without them level inclusion knows the planned levels of
            cases that come with a map of their parts.
    """
    records = []
    for done, case in enumerate(cases, 1):
        volume = case_ct(case)
        try:
            mask, refused = predict_cached(model, case, volume, plans[case.case_id], cache), 0.0
        except Refused:
            if source == REFERENCE:
                raise
            # P wrote nothing, or more than a plan can be: the chain gives no target, and that is a miss.
            mask, refused = np.zeros(volume.shape, np.uint8), 1.0
        midline = body_midline(volume.array, volume.affine)
        truth = read_mask(case.target, volume)
        metrics = compare_masks(truth, mask, volume.affine, midline) | {"refused": refused}
        metrics |= _levels(case, volume, mask, truth, answers)
        records.append(Record(case.case_id, case.centre, case.split, "seg", system, source, metrics))
        if progress:
            progress(done, len(cases))
    return records


def _levels(
    case: Case, volume: Volume, mask: np.ndarray, truth: np.ndarray, answers: Answers | None
) -> dict[str, float]:
    if case.plan is None or not case.plan.has_target:
        return dict.fromkeys(levels.METRICS, math.nan)
    known: Levels
    if answers is not None and answers.know(case, truth):
        known = answers.levels(case, case.plan.guideline or Guideline.ESTRO)
    else:
        parts = read_parts(case, volume)
        known = {(case.plan.side, level): parts[part] for level, part in LEVELS.items() if part in parts}
    return levels.level_inclusion(mask, case.plan, truth.astype(bool), known, volume.voxel_cc)


def evaluate_side_swap(
    model: Segmenter, cases: Sequence[Case], cache: MaskCache, system: str = "SEG++", progress: Progress | None = None
) -> list[Record]:
    """Give the same CT the plan of the other side: does the predicted mask move across?

    Only cases with a target count. `moved_across`: the two masks lie on different sides of the body's midline (0 when
    either is empty). `followed_plan`: the second mask lies on the side that its plan names.
    """
    chosen = [(case, case.plan) for case in cases if case.plan is not None and case.plan.has_target]
    records = []
    for done, (case, plan) in enumerate(chosen, 1):
        volume = case_ct(case)
        midline = body_midline(volume.array, volume.affine)
        before, after = (
            side_of(predict_cached(model, case, volume, text, cache), volume.affine, midline)
            for text in (case.plan_text, render_plan(plan.mirrored()))
        )
        metrics = {
            "moved_across": float(before is not None and after is not None and before is not after),
            "followed_plan": float(after is plan.mirrored().side),
        }
        records.append(Record(case.case_id, case.centre, case.split, SIDE_SWAP, system, "mirrored", metrics))
        if progress:
            progress(done, len(chosen))
    return records


def generated_plans(records: Iterable[Record], system: str = "RO-LLaMA") -> dict[str, str]:
    """Case id -> the plan text that P wrote from S's summary."""
    return {
        record.case_id: record.text or ""
        for record in records
        if record.task == Task.PLAN and record.source == GENERATED and record.system == system
    }


def to_line(record: Record, keep_text: bool) -> str:
    """One JSON line; NaN becomes null. The text goes in only where `keep_text` says the data are synthetic."""
    values: dict[str, Any] = {key: value for key, value in vars(record).items() if key not in ("text", "metrics")}
    if keep_text:
        values["text"] = record.text
    else:
        values["metrics"] = {name: None if math.isnan(x) else x for name, x in record.metrics.items()}
    return json.dumps(values, ensure_ascii=False)


def from_line(line: str) -> Record:
    """The record of a line with metrics.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    row = json.loads(line)
    metrics = {name: math.nan if value is None else float(value) for name, value in row["metrics"].items()}
    return Record(**{**row, "metrics": metrics})


def _generate(
    model: TextGenerator,
    task: Task,
    cases: Sequence[Case],
    texts: Sequence[str],
    cache: TextCache,
    progress: Callable[[int], object],
) -> list[Written]:
    pairs = list(zip(cases, texts, strict=True))
    # An empty summary (S wrote nothing) is no input for P: its answer is empty and scores as such.
    results = [Written("", True) if not text.strip() else cache.get(case.case_id, text) for case, text in pairs]
    missing = [index for index, result in enumerate(results) if result is None]
    done = len(pairs) - len(missing)
    progress(done)
    for start in range(0, len(missing), CHUNK):
        chunk = missing[start : start + CHUNK]
        for index, answer in zip(chunk, model.generate(task, [pairs[index][1] for index in chunk]), strict=True):
            case, text = pairs[index]
            written = results[index] = Written(answer.text, answer.finished, answer.other)
            cache.add(case.case_id, text, written)
        progress(done + start + len(chunk))
    return [result for result in results if result is not None]


def score_answer(
    case: Case,
    task: Task,
    system: str,
    source: str,
    text: str,
    finished: bool,
    other: str | None = None,
    summary: Written | None = None,
) -> Record:
    """The record of one text that S or P wrote for a case.

    Args:
        finished: False when the token limit cut it.
        other: what a second look led to instead.
        summary: what P read, where it is known.
    """
    metrics = rouge(case.summary if task is Task.SUMMARY else case.plan_text, text)
    if task is Task.PLAN:
        plan = read_generated(text)
        metrics |= compare_plans(case.plan, plan)
        if summary is not None:
            doubted = side_doubted(summary.text, summary.other) or side_doubted(text, other)
            warned = source == GENERATED and bool(note_doubts(case.note))
            metrics |= flags(case.plan, plan, summary.text, doubted, warned)
    metrics["cut_off"] = float(not finished)
    return Record(case.case_id, case.centre, case.split, task, system, source, metrics, text)


def predict_cached(model: Segmenter, case: Case, volume: Volume, plan_text: str, cache: MaskCache) -> np.ndarray:
    """The mask that a model gives a case with a plan, from the cache or new.

    Raises:
        Refused: the model refuses the text.
        DataError: the mask cannot be kept (a full disk).
    """
    mask = cache.get(case.case_id, plan_text)
    if mask is None or mask.shape != volume.array.shape:
        try:
            mask = model.predict(volume, plan_text)
        except DataError as error:
            raise Refused(str(error)) from error
        cache.add(case.case_id, plan_text, mask)
    return mask


def write_lines(path: Path, records: Iterable[Record], keep_text: bool) -> None:
    """Write one JSON line a record under a temporary name, then rename."""
    from rollama.core.files import write_text

    write_text(path, "".join(to_line(record, keep_text) + "\n" for record in records))
