"""What goes over the wire between the endpoint and its clients. Volumes travel as files, never in JSON."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from rollama import RESEARCH_ONLY
from rollama.core.config import StrictModel

NOTE = "54 y/o woman, left breast cancer, pT1c pN1a, breast-conserving surgery, margins clear."
SUMMARY = "Left breast cancer, pT1c pN1a, breast-conserving surgery."
PLAN = (
    "Side: left. Surgery: breast-conserving. Volumes: whole breast. Nodes: L3, L4. Boost: none. "
    "Prescription: 40.05 Gy in 15 fractions. Technique: VMAT."
)


class State(StrEnum):
    """How far a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing will change any more."""
        return self not in (State.QUEUED, State.RUNNING)


class SummaryRequest(StrictModel):
    """A clinical note."""

    note: str = Field(min_length=1, repr=False, examples=[NOTE])


class PlanRequest(StrictModel):
    """Exactly one of a note (S and P run) and a summary (P runs)."""

    note: str | None = Field(default=None, repr=False, examples=[NOTE])
    summary: str | None = Field(default=None, repr=False, examples=[None])


class Texts(StrictModel):
    """A patient's text: exactly one of note (S, P and SEG run), summary (P and SEG) and plan (SEG)."""

    note: str | None = Field(default=None, repr=False, examples=[NOTE])
    summary: str | None = Field(default=None, repr=False, examples=[None])
    plan: str | dict[str, Any] | None = Field(
        default=None, repr=False, description="the plan's sentences, or its fields", examples=[None]
    )


class Options(StrictModel):
    """What a job writes beside the target."""

    probability: bool = Field(default=False, description="also probability.nii.gz, how likely each voxel is target")


class PipelineRequest(Texts):
    """A patient's text, and a CT by its path below the data folder."""

    ct_path: str = Field(min_length=1, max_length=1024, examples=["patient1/ct.nii.gz"])
    options: Options = Options()


class SegmentRequest(StrictModel):
    """A plan, and a CT by its path below the data folder."""

    plan: str | dict[str, Any] = Field(repr=False, description="the plan's sentences, or its fields", examples=[PLAN])
    ct_path: str = Field(min_length=1, max_length=1024, examples=["patient1/ct.nii.gz"])
    options: Options = Options()


class Pointer(StrictModel):
    """A sentence of the note that supports a field of the plan."""

    field: str = Field(description="side, surgery, volume, levels, boost, dose, technique or guideline")
    start: int = Field(ge=0, description="first character in the note, in code points; a line break counts as one")
    end: int = Field(gt=0, description="one after its last character")


class Answer(StrictModel):
    """What every answer says."""

    notice: str = RESEARCH_ONLY
    request_id: str


class SummaryAnswer(Answer):
    """What S wrote."""

    summary: str = Field(repr=False, examples=[SUMMARY])
    models: dict[str, str]
    seconds: float
    warnings: list[str] = Field(default_factory=list)


class PlanAnswer(Answer):
    """What P wrote; `plan` is null when the text does not parse."""

    summary: str = Field(repr=False, examples=[SUMMARY])
    plan_text: str = Field(repr=False, examples=[PLAN])
    plan: dict[str, Any] | None
    evidence: list[Pointer] = Field(
        default_factory=list, description="empty when no note was sent or the plan does not parse"
    )
    models: dict[str, str]
    seconds: float
    warnings: list[str] = Field(default_factory=list)


class ServedModels(StrictModel):
    """Which models answer now, and which are to answer."""

    notice: str = RESEARCH_ONLY
    serving: dict[str, str] = Field(description="SHA-256 of each model's weights")
    named: dict[str, str] = Field(default_factory=dict, description="their digests in the store, or their folders")
    wanted: dict[str, str] = Field(default_factory=dict, description="the release that is being brought up, if any")
    problem: str = Field(default="", description="why it is not ready")


class Sample(StrictModel):
    """A synthetic patient to try the endpoint with; `plan_text` is what the generator's own rules give for her."""

    name: str = Field(examples=["left-breast"])
    title: str = Field(examples=["Left breast and nodes"])
    note: str = Field(examples=[NOTE])
    plan_text: str = Field(description="the plan by the generator's rules, to compare with", examples=[PLAN])
    ct: str = Field(description="path to fetch the CT from", examples=["/v1/samples/left-breast/ct.nii.gz"])


class SamplesAnswer(Answer):
    """The synthetic patients that the endpoint offers."""

    synthetic: Literal[True] = True
    samples: list[Sample]


class Problem(StrictModel):
    """An error as RFC 9457 problem details."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str


class Findings(StrictModel):
    """What a job has found so far; each field is null until its stage is finished."""

    summary: str | None = Field(default=None, repr=False)
    plan_text: str | None = Field(default=None, repr=False)
    plan: dict[str, Any] | None = Field(default=None, description="null also when the text does not parse")
    plan_parsed: bool | None = None
    plan_source: str | None = None
    evidence: list[Pointer] = Field(
        default_factory=list, description="empty unless the job began with a note and its plan parses"
    )
    target_cc: float | None = None
    target_centre_mm: tuple[float, float, float] | None = Field(
        default=None, description="centre of the target: RAS+ mm: x to the right of the patient, y forward, z up"
    )
    unusual: float | None = Field(default=None, description="distance from the training cases; above 1 look twice")
    models: dict[str, str] = Field(default_factory=dict)
    timings: dict[str, float] = Field(default_factory=dict, description="seconds of each stage")
    warnings: list[str] = Field(default_factory=list)


class JobAnswer(Answer):
    """A job: how far it is, what it has found, and where its files are."""

    job_id: str
    state: State
    attempt: int = Field(description="0 while it waits; above 1 when an attempt was lost with its server")
    stage: str = Field(description="summary, plan, target or empty")
    done: int = Field(description="finished parts of the stage")
    total: int = Field(description="all parts of the stage; 0 while not known")
    created: float = Field(description="seconds since 1970")
    expires: float = Field(description="when everything of the job is deleted, seconds since 1970")
    findings: Findings
    files: dict[str, str] = Field(description="name: path to fetch it from")
    error: Problem | None = None
