"""One patient through S, P and SEG, the same way on the command line and behind the endpoint.

`chain_steps` is the only place that knows the order of the models and the rules between them. It is a generator that
does no work itself: it asks for a text or a mask and is sent the answer. `Chain.run` answers with the models in this
process, the endpoint with calls to its deployments, so the two cannot drift apart.

Rules: a generated plan that does not parse is kept as text and flagged; it guides the segmentation unless the model
refuses it because it does not say which target is meant. A plan without a target gives an empty mask and the network
does not run. A target on the other side than the plan's is kept and flagged, and so are a plan that contradicts its
summary and a note that corrects its own side: a reader decides, not this program.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rollama.chain.agreement import answer_doubts, contradictions, note_doubts, summary_doubts
from rollama.chain.evidence import Pointer, evidence_of
from rollama.chain.inputs import PlanSource, Request, make_request
from rollama.chain.plausibility import doubts, side_of
from rollama.core.errors import CheckpointError, DataError
from rollama.core.registry import Decoding, Task
from rollama.data.plan import Plan, parse_plan
from rollama.data.volumes import Mask, Volume
from rollama.segmentation.outline import Outline

TEXT_FOLDERS = {Task.SUMMARY: "s", Task.PLAN: "p"}
SEGMENTATION_FOLDER = "seg"
NEEDED = {
    PlanSource.NOTE: (Task.SUMMARY, Task.PLAN),
    PlanSource.SUMMARY: (Task.PLAN,),
    PlanSource.GIVEN: (),
}
"""The text models that a request needs."""
Progress = Callable[[str, int, int], None]
"""Called with the stage (`summary`, `plan`, `target`), steps done and steps in all."""


class Answer(Protocol):
    """What a text model returns for one input (`rollama.text.generate.Generation`)."""

    @property
    def text(self) -> str:
        """The generated text."""

    @property
    def finished(self) -> bool:
        """Whether the model ended it (else it was cut at the length limit)."""

    @property
    def other(self) -> str | None:
        """What a second look at the mirrored text led to, where it disagreed and was not taken."""


@dataclass(frozen=True)
class Generate:
    """A step: write the answer of `task` to `text`; send back an `Answer`."""

    task: Task
    text: str = field(repr=False)


@dataclass(frozen=True)
class Segment:
    """A step: outline the target of `plan_text`; send back an `Outline`."""

    plan_text: str = field(repr=False)


@dataclass(frozen=True, eq=False)
class ChainResult:
    """What the chain found for one patient; timings in seconds.

    `plan is None`: the generated text does not parse. `evidence` points into the note as given, where there is one.
    `unusual`, `probability`: see `Outline`; NaN and None also when the network did not run.
    """

    summary: str | None = field(repr=False)
    plan_text: str = field(repr=False)
    plan: Plan | None
    source: PlanSource
    mask: Mask = field(repr=False)
    timings: Mapping[str, float]
    warnings: tuple[str, ...] = ()
    unusual: float = math.nan
    models: Mapping[str, str] = field(default_factory=dict)
    probability: npt.NDArray[np.uint8] | None = field(default=None, repr=False)
    evidence: tuple[Pointer, ...] = ()
    plan_decoding: Decoding = Decoding.FREE


def chain_steps(
    request: Request, volume: Volume, models: Mapping[str, str], plan_decoding: Decoding = Decoding.FREE
) -> Generator[Generate | Segment, Any, ChainResult]:
    """The steps for one patient, in order; returns the result.

    Args:
        request: checked text.
        volume: the CT on its own grid.
        models: artefact hash of each model, for the record.
        plan_decoding: how P writes, for the record.

    Raises:
        DataError: a mask of another shape than the CT's is sent in.
    """
    timings: dict[str, float] = {}
    warnings = doubts(volume) + (note_doubts(request.text) if request.source is PlanSource.NOTE else [])
    summary = request.text if request.source is PlanSource.SUMMARY else None
    plan_text, plan = request.text, request.plan
    for task in NEEDED[request.source]:
        started = time.perf_counter()
        answer: Answer = yield Generate(task, request.text if summary is None else summary)
        stage = task.name.lower()
        timings[stage] = round(time.perf_counter() - started, 3)
        warnings += answer_doubts(stage, answer.text, answer.finished, answer.other)
        if not answer.text.strip():
            raise DataError(f"the {stage} came out empty; check the model and the input")
        if task is Task.SUMMARY:
            summary = answer.text
        else:
            plan_text = answer.text
    if plan is None:
        with contextlib.suppress(DataError):
            plan = parse_plan(plan_text)
    if summary is not None:
        warnings += summary_doubts(summary)
    if plan is not None:
        warnings += contradictions(plan, summary)
    evidence = pointers(request, plan)
    unusual, probability = math.nan, None
    if plan is not None and not plan.has_target:
        mask = np.zeros(volume.shape, dtype=np.uint8)
        warnings.append("the plan has no target: the mask is empty and the network was not run")
    else:
        started = time.perf_counter()
        found: Outline = yield Segment(plan_text)
        mask, unusual, probability = found.mask, found.unusual, found.probability
        timings["target"] = round(time.perf_counter() - started, 3)
        if mask.shape != volume.shape:
            raise DataError(f"target of shape {mask.shape} is not on the CT's grid {volume.shape}")
        if plan is None and not found.refused:
            warnings.append("the generated plan does not parse; check that the target is what its text means")
        if found.unusual > 1:
            warnings.append(
                f"CT and plan look unlike the training cases (distance {found.unusual:.1f}, usually below 1): "
                "is it the right anatomy, and does the plan fit it?"
            )
        if found.refused:  # a generated plan: what S and P wrote is still worth reading
            warnings.append(f"no target was outlined: {found.refused}")
        elif not mask.any():
            warnings.append("the target is empty although the plan does not say so")
        elif plan is not None and side_of(mask, volume) is not plan.side:
            warnings.append(f"the target lies mostly on the other side than the plan's ({plan.side}); check the input")
    return ChainResult(
        summary, plan_text, plan, request.source, mask, timings, tuple(warnings), unusual, dict(models), probability,
        evidence, plan_decoding,
    )  # fmt: skip


def pointers(request: Request, plan: Plan | None) -> tuple[Pointer, ...]:
    """Evidence for a plan in the note of a request, as places in the note as given; none without note or plan."""
    if plan is None or request.source is not PlanSource.NOTE:
        return ()
    moved = request.skipped
    return tuple(Pointer(item.field, item.start + moved, item.end + moved) for item in evidence_of(request.text, plan))


class Chain:
    """The models of one release, in this process."""

    def __init__(self, text: Any, segmentation: Any, models: Mapping[str, str] | None = None) -> None:
        """Take a `TextModel` (None when no text is to be generated), a `SegmentationModel` and their hashes."""
        self.text = text
        self.segmentation = segmentation
        self.models = dict(models or {})

    @classmethod
    def load(cls, models: Path, source: PlanSource = PlanSource.NOTE, plan_decoding: Decoding = Decoding.FREE) -> Chain:
        """Load what requests of one kind need from `models/{s,p,seg}`.

        Raises:
            CheckpointError: a model is missing, damaged or does not fit the others.
            ConfigError: constrained plans without llguidance.
        """
        from rollama.segmentation.predict import SegmentationModel

        folders = model_folders(models, source)
        text = None
        if NEEDED[source]:
            from rollama.text.generate import TextModel

            needed = {task: models / TEXT_FOLDERS[task] for task in NEEDED[source]}
            text = TextModel.load(needed, plan_decoding=plan_decoding)
        return cls(text, SegmentationModel.load(models / SEGMENTATION_FOLDER), hash_models(folders))

    def run(
        self,
        ct: Volume,
        note: str | None = None,
        summary: str | None = None,
        plan_text: str | None = None,
        progress: Progress | None = None,
    ) -> ChainResult:
        """Run the chain on one patient; give exactly one of the texts.

        Raises:
            DataError: the text is not usable (see `make_request`) or longer than the model's context.
        """
        return self.answer(make_request(note, summary, plan_text), ct, progress)

    def answer(
        self, request: Request, ct: Volume, progress: Progress | None = None, keep_probability: bool = False
    ) -> ChainResult:
        """Run the chain on a request that is already checked; `keep_probability`: see `SegmentationModel.outline`."""
        decoding = self.text.plan_decoding if self.text is not None else Decoding.FREE
        steps = chain_steps(request, ct, self.models, decoding)
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                result: ChainResult = end.value
                return result
            if isinstance(step, Segment):
                stage = progress and partial(progress, "target")
                answer = self.segmentation.outline(ct, step.plan_text, stage, keep_probability)
            elif self.text is None:
                raise CheckpointError(f"the request needs model {step.task.value!r}, which was not loaded")
            else:
                stage = progress and partial(progress, step.task.name.lower())
                try:
                    (answer,) = self.text.generate(step.task, [step.text], progress=stage)
                except DataError as error:  # such as longer than the context: say which file
                    raise DataError(f"{request.name}: {error}") from error


def model_folders(models: Path, source: PlanSource = PlanSource.NOTE) -> dict[str, Path]:
    """The artefact folders that requests of one kind need, by model name.

    Raises:
        CheckpointError: one is missing.
    """
    names = [*(TEXT_FOLDERS[task] for task in NEEDED[source]), SEGMENTATION_FOLDER]
    for name in names:
        if not (models / name).is_dir():
            raise CheckpointError(f"{models / name}: no such model; train it: 'rollama train {name}' or 'make demo'")
    return {name: models / name for name in names}


def hash_models(folders: Mapping[str, Path]) -> dict[str, str]:
    """Identity of each artefact."""
    from rollama.training.artefact import artefact_hash

    return {name: artefact_hash(folder) for name, folder in folders.items()}
