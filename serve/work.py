"""What a job does: the chain of one patient, its parts reported as they come, its files kept in the store.

Knows no Ray: the models come as callables.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError

from rollama.chain.inputs import PlanSource, Request, hash_ct, make_request
from rollama.chain.outputs import target_cc, write_outputs
from rollama.chain.run import Answer, ChainResult, Segment, chain_steps, pointers
from rollama.client.schemas import Findings, Options, Pointer, ServedModels, State
from rollama.core.errors import DataError, ServeError
from rollama.core.registry import Decoding, Task
from rollama.data.plan import Plan, parse_plan, plan_from_dict, render_plan
from rollama.data.volumes import Mask, Volume
from rollama.segmentation.outline import Outline
from serve.drift import Drift
from serve.inputs import resolve_ct
from serve.jobs import JobRequest, JobStore, Status
from serve.problems import BusyError, LostError
from serve.runner import Report
from serve.scratch import scratch
from serve.uploads import Limits, read_checked, store_ct

Result = TypeVar("Result")
PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0
LOSSES = 4
"""Servers that may be lost at one piece of work before it is taken for the cause."""
Progress = Callable[[int, int], None]
"""Called with (finished windows, all windows)."""


@dataclass(frozen=True)
class Backend:
    """The models, wherever they run. `ready` gives their hashes, or None while they load or do not answer; `lately` the
    same, but what answered a moment ago counts; `pin` is a backend that stays with the models of this moment, `served`
    what is to be told about them.

    `generate` takes task, text and deadline; `segment` CT, plan text, deadline, whether the probability is wanted, and
    whom to tell of progress. Deadlines are seconds since 1970: they travel with the work, so that nothing is done for a
    request that is over.
    """

    generate: Callable[[Task, str, float], Awaitable[Answer]]
    segment: Callable[[Volume, str, float, bool, Progress], Awaitable[Outline]]
    ready: Callable[[], Awaitable[dict[str, str] | None]]
    lately: Callable[[], Awaitable[dict[str, str] | None]] | None = None
    pin: Callable[[], Backend] | None = None
    served: Callable[[], ServedModels] | None = None

    def pinned(self) -> Backend:
        """The models of this moment: what begins with one release must end with it."""
        return self if self.pin is None else self.pin()

    async def hashes(self, now: bool = False) -> dict[str, str]:
        """Hashes of the loaded models; `now` when a model that is too busy to say that it is there does not count.

        Raises:
            BusyError: they are loading, or do not answer in time.
        """
        found = await (self.ready if now or self.lately is None else self.lately)()
        if found is None:
            raise BusyError("the models are loading, or too busy to say that they are ready; try again")
        return found


@dataclass(frozen=True)
class PipelineWork:
    """Does attempts of jobs."""

    backend: Backend
    store: JobStore
    data_folder: Path
    limits: Limits
    plan_decoding: Decoding = Decoding.FREE
    drift: Drift = field(default_factory=Drift)

    async def __call__(self, job: JobRequest, attempt: int, report: Report) -> Status:
        """One attempt from the stored request to stored files.

        Raises:
            DataError: text or CT are not usable.
            BusyError, TimeoutError, ServeError: see `problems`.
        """
        backend = self.backend.pinned()
        models: dict[str, str] = await patiently(backend.hashes)
        request = to_request(job.source, job.text)
        status = Status(State.RUNNING, attempt)
        report(status)
        with scratch() as folder:
            path, digest = await to_the_end(self._ct, job, folder)
            volume = await to_the_end(read_checked, path, self.limits)
            inputs = {"ct": digest}
            result = await self._chain(request, volume, backend, models, job, status, report)
            files, warnings = await to_the_end(
                self._keep, job.job_id, attempt, result, volume, folder / "out", inputs, path
            )
        await to_the_end(self._count, job.owner, request, result, volume, digest)
        found = findings(result, volume).model_copy(update={"warnings": warnings})
        return Status(State.DONE, attempt, result=found.model_dump(mode="json"), files=files)

    def _count(self, owner: str, request: Request, result: ChainResult, volume: Volume, digest: str) -> None:
        """For the operators: how this case compares with the training cases, in bins."""
        if request.source is PlanSource.NOTE and result.summary is not None:
            self.drift.summary(owner, request.text, result.summary)
        if request.source is not PlanSource.GIVEN and result.summary is not None:
            self.drift.plan(owner, result.summary, result.plan)
        self.drift.target(owner, digest, volume, result.plan, target_cc(result, volume))

    def _ct(self, job: JobRequest, folder: Path) -> tuple[Path, str]:
        """The CT on this machine's disk, and its hash."""
        if job.ct:
            path = resolve_ct(self.data_folder, job.ct)
            return path, hash_ct(path)
        blob = folder / "upload"
        digest = self.store.storage.download(f"jobs/{job.job_id}/ct", blob)
        with blob.open("rb") as stream:
            path = store_ct([stream], folder, self.limits)
        return path, hash_ct(path) if path.is_dir() else digest

    async def _chain(
        self, request: Request, volume: Volume, backend: Backend, models: dict[str, str], job: JobRequest,
        status: Status, report: Report,
    ) -> ChainResult:  # fmt: skip
        options = Options.model_validate(job.options.get("asked", {}))
        steps = chain_steps(request, volume, models, self.plan_decoding)
        given = request.text if request.source is PlanSource.SUMMARY else None
        known = Findings(summary=given, plan_source=str(request.source), models=models)
        if request.plan is not None:
            known = _with_plan(known, request, request.text)
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                result: ChainResult = end.value
                return result
            stage = "target" if isinstance(step, Segment) else step.task.name.lower()
            status = replace(status, stage=stage, done=0, total=0, result=known.model_dump(mode="json"))
            report(status)
            if isinstance(step, Segment):

                def progress(done: int, total: int, current: Status = status) -> None:
                    report(replace(current, done=done, total=total))

                answer = await patiently(
                    backend.segment, volume, step.plan_text, job.deadline, options.probability, progress
                )
                continue
            answer = await patiently(backend.generate, step.task, step.text, job.deadline)
            if step.task is Task.SUMMARY:
                known = known.model_copy(update={"summary": answer.text})
            else:
                known = _with_plan(known, request, answer.text)

    def _keep(
        self, job_id: str, attempt: int, result: ChainResult, volume: Volume, folder: Path, inputs: dict[str, str],
        ct: Path,
    ) -> tuple[dict[str, str], list[str]]:  # fmt: skip
        """The files' names with their SHA-256, and what whoever reads them should look at."""
        try:
            manifest = write_outputs(result, volume, folder, inputs, ct)
        except DataError as error:
            raise ServeError("the results cannot be written") from error
        files = {}
        for path in sorted(folder.iterdir()):
            data = path.read_bytes()
            files[path.name] = hashlib.sha256(data).hexdigest()
            self.store.put_file(job_id, attempt, path.name, data)
        return files, list(manifest["warnings"])


async def to_the_end(work: Callable[..., Result], *arguments: Any) -> Result:
    """Work in a thread; when cancelled, wait until it has let go of its files, then stop."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def patiently(ask: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    """Ask a model again and again while it is busy: a job was accepted, so it waits; its deadline ends that.

    Raises:
        ServeError: one server after another was lost at this work.
    """
    pause, lost = PAUSE_S, 0
    while True:
        try:
            return await ask(*arguments)
        except BusyError as error:
            lost += isinstance(error, LostError)
            if lost >= LOSSES:
                raise ServeError(f"{LOSSES} servers of a model were lost, one after the other, at this work") from None
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)


def to_request(source: str, text: str) -> Request:
    """A stored text as the chain's request.

    Raises:
        DataError: see `make_request`.
    """
    return make_request(**{{"note": "note", "summary": "summary", "given": "plan_text"}[source]: text})


def text_of(note: str | None, summary: str | None, plan: str | dict[str, Any] | None) -> Request:
    """The checked text of a request; a plan may come as fields, in a form as their JSON.

    Raises:
        DataError: none or several, or not usable.
    """
    if isinstance(plan, str) and plan.lstrip().startswith("{"):
        try:
            plan = dict(json.loads(plan))
        except (ValueError, TypeError, RecursionError):
            raise DataError("plan: neither a plan's sentences nor the JSON of its fields") from None
    try:
        if isinstance(plan, dict):
            plan = render_plan(plan_from_dict(plan))
        return make_request(note, summary, plan)
    except DataError as error:
        found = without_values(error)
    raise DataError(found)  # outside: a chained error would carry the values along


def without_values(error: BaseException) -> str:
    """What is wrong with a plan's fields, without repeating what was found there: it may be clinical text."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ValidationError):
        cause = cause.__cause__
    if cause is None:
        return str(error)
    problems = set()
    for item in cause.errors(include_url=False, include_context=False, include_input=False):
        key = str(item["loc"][0]) if item["loc"] else ""
        known = key in Plan.model_fields
        problems.add(f"{key}: {item['msg']}" if known else "unknown key" if key else str(item["msg"]))
    return "plan: " + "; ".join(sorted(problems))


def read_plan(text: str) -> Plan | None:
    """The plan of a text; None when it does not parse."""
    try:
        return parse_plan(text)
    except DataError:
        return None


def evidence(request: Request, plan: Plan | None) -> list[Pointer]:
    """Places in a request's note that support a plan, for the wire."""
    return [Pointer(**vars(item)) for item in pointers(request, plan)]


def findings(result: ChainResult, volume: Volume) -> Findings:
    """All that a finished chain found."""
    return Findings(
        summary=result.summary,
        plan_text=result.plan_text,
        plan=None if result.plan is None else result.plan.model_dump(mode="json"),
        plan_parsed=result.plan is not None,
        plan_source=str(result.source),
        evidence=[Pointer(**vars(item)) for item in result.evidence],
        target_cc=target_cc(result, volume),
        target_centre_mm=centre_mm(result.mask, volume),
        unusual=None if result.unusual != result.unusual else round(result.unusual, 3),
        models=dict(result.models),
        timings=dict(result.timings),
        warnings=list(result.warnings),
    )


def centre_mm(mask: Mask, volume: Volume) -> tuple[float, float, float] | None:
    """Where the middle of a mask (x, y, z) lies, in RAS+ mm; None without one."""
    axes = [mask.sum(axis=tuple(other for other in range(3) if other != axis), dtype=float) for axis in range(3)]
    if not axes[0].any():
        return None
    voxel = [float(values @ np.arange(len(values)) / values.sum()) for values in axes]
    x, y, z = (round(float(value), 1) for value in (volume.affine @ [*voxel, 1.0])[:3])
    return x, y, z


def _with_plan(known: Findings, request: Request, text: str) -> Findings:
    plan = read_plan(text)
    fields = None if plan is None else plan.model_dump(mode="json")
    found = {"plan_text": text, "plan": fields, "plan_parsed": plan is not None, "evidence": evidence(request, plan)}
    return known.model_copy(update=found)
