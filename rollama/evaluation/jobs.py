"""The independent parts of an evaluation, each a plain function that loads the models it needs.

They may run one after the other, in processes or on a cluster; whoever runs them only passes a `Job` around. Each
part writes how far it is into the output folder, which is how progress crosses machines.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rollama.chain.run import SEGMENTATION_FOLDER, TEXT_FOLDERS
from rollama.core.errors import CheckpointError, ConfigError, DataError
from rollama.core.files import new_file, write_text
from rollama.core.registry import Decoding, Task
from rollama.data.case import Case, Split
from rollama.data.dataset import DatasetInfo, evenly, open_dataset
from rollama.evaluation import corruptions
from rollama.evaluation.answers import Answers
from rollama.evaluation.cache import MaskCache, TextCache
from rollama.evaluation.counterfactual import draw_edits, evaluate_counterfactual
from rollama.evaluation.report import headline_markdown
from rollama.evaluation.run import (
    GENERATED,
    Record,
    evaluate_baselines,
    evaluate_segmentation,
    evaluate_side_swap,
    evaluate_text,
    generated_plans,
)
from rollama.evaluation.tables import write_evaluation
from rollama.evaluation.trust import evaluate_trust

if TYPE_CHECKING:
    from rollama.segmentation.predict import SegmentationModel

HELD_OUT = (Split.TEST, Split.EXTERNAL)
VISION = "seg-vision"
EDITS = "edits"
DRAWN = 4
"""Cases of which edited plans are drawn."""
ZERO_SHOT_CASES = 60
"""The untrained base rarely ends its answers, so each of them costs as much as several of ours."""
ZERO_SHOT_TOKENS = 128
"""Longer than any reference answer of the cohort (90 tokens)."""


class Part(StrEnum):
    """A part of an evaluation that stands alone."""

    TEXT = "text"
    SEG = "seg"


@dataclass(frozen=True)
class Job:
    """What to evaluate; `cases` are held out, `train` feeds the baselines. Small enough to be sent to a worker."""

    models: Path
    out: Path
    info: DatasetInfo
    cases: tuple[Case, ...]
    train: tuple[Case, ...]
    counterfactual: bool = False
    trust: bool = False
    plan_decoding: Decoding = Decoding.FREE
    corrupted: tuple[str, ...] = ()

    @property
    def cache(self) -> Path:
        """Folder of the cached predictions."""
        return self.out / "cache"


def open_job(
    models: Path,
    dataset: Path,
    out: Path,
    limit: int | None,
    only: Part | None = None,
    counterfactual: bool = False,
    trust: bool = False,
    plan_decoding: Decoding = Decoding.FREE,
    corrupted: Sequence[str] = (),
) -> Job:
    """Open and check the dataset and take at most `limit` held-out cases a centre and split.

    With `only`, the other part's models need not be there. `counterfactual`: also give each CT other
    plans. `trust`: also measure calibration and wrong anatomy. `plan_decoding`: how P writes its plans. `corrupted`:
    also score spoilt inputs, by their names in `corruptions`.

    Raises:
        ConfigError: no such corruption.
        DataError: the dataset is damaged.
        CheckpointError: a model is missing.
    """
    if unknown := sorted(set(corrupted) - set(corruptions.NAMES)):
        raise ConfigError(f"corrupted inputs {', '.join(unknown)}: not one of {', '.join(corruptions.NAMES)}")
    needed = {Part.TEXT: tuple(TEXT_FOLDERS.values()), Part.SEG: (SEGMENTATION_FOLDER,)}
    for name in needed[only] if only else (*needed[Part.TEXT], *needed[Part.SEG]):
        if not (models / name / "manifest.json").is_file():
            raise CheckpointError(f"{models / name}: no trained model there; run 'rollama train {name}' first")
    opened = open_dataset(dataset)
    cases: list[Case] = []
    for centre in opened.info.centres:
        for split in HELD_OUT:
            cases += opened.select(split, centre=centre)[:limit]
    mute = [case.case_id for case in cases if not case.note.strip() or not case.summary.strip()]
    if mute and only is not Part.SEG:
        raise DataError(
            f"{dataset}: {len(mute)} held-out case(s) without note or summary, such as {', '.join(mute[:5])}; "
            "evaluate SEG alone with --only seg"
        )
    for old in out.glob(".progress-*"):
        old.unlink()
    return Job(
        models, out, opened.info, tuple(cases), opened.select(Split.TRAIN), counterfactual, trust, plan_decoding,
        tuple(corrupted),
    )  # fmt: skip


def model_hashes(job: Job) -> dict[str, str]:
    """Model folder -> hash of its weights, for the manifest."""
    from rollama.training.artefact import artefact_hash

    names = [name for name in (*TEXT_FOLDERS.values(), SEGMENTATION_FOLDER, VISION) if (job.models / name).is_dir()]
    return {name: artefact_hash(job.models / name) for name in names}


def _second_looks(models: Path) -> list[str]:
    """The text models there that answer the mirrored text as well; the hash of their weights does not tell."""
    from rollama.text.applied import takes_second_looks

    names = [name for name in TEXT_FOLDERS.values() if (models / name).is_dir()]
    return [name for name in names if takes_second_looks(models / name)]


def write_results(job: Job, records: Sequence[Record], limit: int | None, zero_shot: int) -> dict[str, Any]:
    """Write the tables and the report as Markdown into the job's folder; what `evaluation.json` holds."""
    found = write_evaluation(
        job.out, records, job.info, model_hashes(job), limit=limit, zero_shot=zero_shot,
        plan_decoding=str(job.plan_decoding), counterfactual=job.counterfactual, corrupted=list(job.corrupted),
        mirrored_look=_second_looks(job.models),
    )  # fmt: skip
    pictures = "".join(f"\n![{path.stem}, edited plans]({EDITS}/{path.name})\n" for path in edit_pictures(job.out))
    write_text(job.out / "evaluation.md", headline_markdown(found) + pictures)
    return found


def edit_pictures(out: Path) -> list[Path]:
    """The pictures of edited plans of an evaluation, if there are some."""
    return sorted((out / EDITS).glob("*.png"))


def score_text(job: Job) -> list[Record]:
    """S and P alone and chained, and the baselines."""
    from rollama.text.applied import answering
    from rollama.text.generate import TextModel

    folders = {task: job.models / name for task, name in TEXT_FOLDERS.items()}
    hashes = {str(task): answering(folder) for task, folder in folders.items()}
    model = TextModel.load(folders, plan_decoding=job.plan_decoding)
    records = evaluate_text(model, job.cases, _texts(job, dict(hashes)), progress=_reporter(job, "text"))
    for name in (name for name in job.corrupted if name in corruptions.TEXTS):
        keys = {task: corruptions.cache_key(value, name) for task, value in hashes.items()}
        found = evaluate_text(
            corruptions.SpoiltTexts(model, name), job.cases, _texts(job, keys), chain=False,
            progress=_reporter(job, f"text, {name}"),
        )  # fmt: skip
        records += [replace(record, source=name) for record in found]
    return records + evaluate_baselines(job.cases, job.train)


def score_zero_shot(job: Job, limit: int) -> list[Record]:
    """The untrained base of S, with its own chat template, on at most `limit` cases of the unseen centre."""
    from rollama.language.base import base_info
    from rollama.text.generate import TextModel
    from rollama.training.artefact import read_manifest

    base = read_manifest(job.models / TEXT_FOLDERS[Task.SUMMARY])["config"]["base"]
    model = TextModel.zero_shot(base, max_new_tokens=ZERO_SHOT_TOKENS, plan_decoding=job.plan_decoding)
    hashes = {str(task): f"zero-shot:{base_info(base).weights_hash}" for task in Task}
    cases = [case for case in job.cases if case.split is Split.EXTERNAL][:limit]
    progress = _reporter(job, "zero-shot")
    return evaluate_text(model, cases, _texts(job, hashes), "zero-shot base", chain=False, progress=progress)


def score_segmentation(job: Job) -> list[Record]:
    """SEG++ on reference plans, the side swap, and the plan-blind twin where it was trained."""
    plans = {case.case_id: case.plan_text for case in job.cases}
    model, cache = _segmenter(job, SEGMENTATION_FOLDER)
    answers = Answers.of(job.info)
    records = evaluate_segmentation(
        model, job.cases, plans, cache, progress=_reporter(job, "segmentation"), answers=answers
    )
    records += evaluate_side_swap(model, job.cases, cache, progress=_reporter(job, "side-swap"))
    for name in (name for name in job.corrupted if name in corruptions.SCANS):
        spoilt_cache = MaskCache(job.cache, corruptions.cache_key(model.identity, name), job.info.content_hash)
        records += evaluate_segmentation(
            corruptions.SpoiltScans(model, name), job.cases, plans, spoilt_cache, source=name,
            progress=_reporter(job, f"segmentation, {name}"), answers=answers,
        )  # fmt: skip
    if job.counterfactual:
        progress = _reporter(job, "counterfactual")
        records += evaluate_counterfactual(model, job.cases, cache, answers, progress=progress)
        _draw_edits(job, model, cache, answers)
    if job.trust:
        records += evaluate_trust(model, job.cases, answers, progress=_reporter(job, "trust"))
    if (job.models / VISION / "manifest.json").is_file():
        model, cache = _segmenter(job, VISION)
        progress = _reporter(job, "vision-only")
        records += evaluate_segmentation(
            model, job.cases, plans, cache, "vision-only", progress=progress, answers=answers
        )
    return records


def _draw_edits(job: Job, model: SegmentationModel, cache: MaskCache, answers: Answers | None) -> None:
    """Pictures of edited plans for a few cases, of each centre as evenly as they come; old ones go."""
    from rollama.data.slices import figure_png  # loads matplotlib

    shutil.rmtree(job.out / EDITS, ignore_errors=True)
    for case in evenly(case for case in job.cases if case.plan is not None and case.plan.has_target)[:DRAWN]:
        figure = draw_edits(model, case, cache, answers, job.info.synthetic)
        with new_file(job.out / EDITS / f"{case.case_id}.png") as path:
            path.write_bytes(figure_png(figure))


def score_chain(job: Job, text_records: Sequence[Record]) -> list[Record]:
    """SEG++ on the plans that P wrote from the summaries of S."""
    model, cache = _segmenter(job, SEGMENTATION_FOLDER)
    progress = _reporter(job, "chain")
    return evaluate_segmentation(
        model, job.cases, generated_plans(text_records), cache, source=GENERATED, progress=progress,
        answers=Answers.of(job.info),
    )  # fmt: skip


def progress_of(job: Job, parts: int, finished: int) -> tuple[float, str]:
    """(share done in [0, 1], what is running) from the parts' progress files; each part weighs the same."""
    notes, share = [], 0.0
    for path in sorted(job.out.glob(".progress-*")):
        done, _, total = path.read_text(encoding="utf-8").partition("/")
        if int(done) < int(total):
            share += int(done) / int(total)
            notes.append(f"{path.name.removeprefix('.progress-')} {done}/{total}")
    return min((finished + min(share, parts - finished)) / parts, 1.0), ", ".join(notes)


def _segmenter(job: Job, name: str) -> tuple[SegmentationModel, MaskCache]:
    from rollama.segmentation.predict import SegmentationModel

    model = SegmentationModel.load(job.models / name)
    return model, MaskCache(job.cache, model.identity, job.info.content_hash)


def _texts(job: Job, hashes: dict[str, str]) -> Callable[[str], TextCache]:
    folder = job.cache if job.info.synthetic else None  # generated text derives from notes: PHI
    if job.plan_decoding is not Decoding.FREE:
        hashes |= {str(Task.PLAN): f"{hashes[str(Task.PLAN)]}:{job.plan_decoding}"}
    caches = {task: TextCache(folder, value, job.info.content_hash, task) for task, value in hashes.items()}
    return lambda task: caches[str(task)]


def _reporter(job: Job, name: str) -> Callable[[int, int], None]:
    path = job.out / f".progress-{name}"
    return lambda done, total: write_text(path, f"{done}/{total}")
