"""The HTTP face: texts at once, targets as jobs. Knows no Ray: models and store come from outside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, File, Form, Header, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException

from rollama import RESEARCH_ONLY, __version__
from rollama.chain.inputs import PlanSource, make_request
from rollama.chain.inputs import Request as ChainRequest
from rollama.client.schemas import (
    JobAnswer,
    Options,
    PipelineRequest,
    PlanAnswer,
    PlanRequest,
    Problem,
    SegmentRequest,
    ServedModels,
    SummaryAnswer,
    SummaryRequest,
)
from rollama.core.errors import RollamaError
from rollama.core.registry import Task
from serve.auth import Check
from serve.guard import Guard
from serve.jobs import JobRequest, Status
from serve.page import add_page
from serve.problems import NoSuchJobError, describe, respond
from serve.runner import FullError
from serve.samples import add_samples
from serve.service import Service, to_answer, wanted_wait
from serve.uploads import MAX_SLICES
from serve.work import evidence, read_plan, text_of

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "content": {"application/problem+json": {}}, "description": text}
    for status, text in (
        (401, "no key, or a wrong one"),
        (409, "the Idempotency-Key was used for another request"),
        (413, "the body is too long"),
        (422, "the request is not usable; the detail says why"),
        (503, "models are loading, or too much is waiting; Retry-After says when to come back"),
        (504, "the deadline passed"),
    )
}
UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "content": {"application/problem+json": {}}, "description": "no such job or file"}
}
POLL_S = 0.3
MEDIA = {".gz": "application/gzip", ".png": "image/png", ".json": "application/json", ".dcm": "application/dicom"}


def make_api(service: Service, check: Check) -> FastAPI:
    """The routes. `/openapi.json` needs the key like everything but the health checks."""
    config = service.config

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    api = FastAPI(
        title="rollama", version=__version__, description=RESEARCH_ONLY, docs_url=None, redoc_url=None,
        lifespan=lifespan, responses=PROBLEMS, max_body_size=config.max_body_bytes,
        form_limits={"max_files": MAX_SLICES, "max_fields": 20, "max_part_size": 2 << 20},
    )  # fmt: skip
    api.state.runner = service.runner
    api.add_middleware(Guard, check=check, audit=service.audit, meter=service.meter, close=config.close_connections)

    async def on_error(request: Request, error: Exception) -> Response:
        headers = getattr(error, "headers", None)
        return respond(describe(error, request.state.request_id), headers)

    for kind in (RollamaError, FullError, TimeoutError, HTTPException, RequestValidationError):
        api.add_exception_handler(kind, on_error)
    add_page(api)
    _add_health(api, service)
    _add_models(api, service)
    _add_texts(api, service)
    _add_submissions(api, service)
    _add_jobs(api, service)
    add_samples(api)
    return api


def _add_health(api: FastAPI, service: Service) -> None:
    @api.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """Whether this process lives."""
        return {"status": "alive"}

    @api.get("/readyz", tags=["health"])
    async def readyz() -> dict[str, str]:
        """Whether all models are loaded."""
        await service.backend.hashes(now=True)
        return {"status": "ready"}


def _add_models(api: FastAPI, service: Service) -> None:
    @api.get("/v1/models", tags=["health"])
    async def models() -> ServedModels:
        """Which models answer, and which are to: a release that is not ready changes nothing."""
        hashes = await service.backend.hashes()
        return ServedModels(serving=hashes) if service.backend.served is None else service.backend.served()


def _add_texts(api: FastAPI, service: Service) -> None:
    @api.post("/v1/summary", tags=["texts"])
    async def summary(body: SummaryRequest, request: Request) -> SummaryAnswer:
        """Summarise a clinical note."""
        backend, started = service.backend.pinned(), time.perf_counter()
        models = await backend.hashes()
        request.state.audit = {"models": models}
        asked = make_request(note=body.note)
        text, warnings = await service.generate(backend, Task.SUMMARY, asked.text, service.deadline())
        service.drift.summary(request.state.owner, asked.text, text)
        return SummaryAnswer(
            request_id=request.state.request_id, summary=text, models=models, warnings=warnings,
            seconds=round(time.perf_counter() - started, 3),
        )  # fmt: skip

    @api.post("/v1/plan", tags=["texts"])
    async def plan(body: PlanRequest, request: Request) -> PlanAnswer:
        """Suggest a treatment plan from a note or a summary."""
        backend, started = service.backend.pinned(), time.perf_counter()
        models = await backend.hashes()
        request.state.audit = {"models": models}
        asked = make_request(body.note, body.summary)
        short, deadline = asked.text, service.deadline()
        warnings: list[str] = []
        if asked.source is PlanSource.NOTE:
            short, warnings = await service.generate(backend, Task.SUMMARY, asked.text, deadline)
            service.drift.summary(request.state.owner, asked.text, short)
        text, more = await service.generate(backend, Task.PLAN, short, deadline)
        found = read_plan(text)
        service.drift.plan(request.state.owner, short, found)
        if found is None:
            more = [*more, "the generated plan does not parse"]
        return PlanAnswer(
            request_id=request.state.request_id, summary=short, plan_text=text, models=models,
            plan=None if found is None else found.model_dump(mode="json"), evidence=evidence(asked, found),
            warnings=[*warnings, *more], seconds=round(time.perf_counter() - started, 3),
        )  # fmt: skip


Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key", max_length=255, description="the same key and request again give the same job, once"
    ),
]
Prefer = Annotated[str, Header(description="'wait=30' answers when the job is over, at the latest after 30 s")]
OptionalText = Annotated[str | None, Form()]


def _add_submissions(api: FastAPI, service: Service) -> None:
    async def start(
        request: Request, text: ChainRequest, options: Options, ct_path: str, parts: Sequence[UploadFile], key: str,
        prefer: str,
    ) -> Response:  # fmt: skip
        owner, wait = request.state.owner, wanted_wait(prefer)
        job_id = await service.submit(owner, text, options, ct_path, parts, key)
        request.state.audit = {"job": job_id}
        until = time.monotonic() + wait
        while True:
            job, status = await service.look(owner, job_id)
            if status.final or time.monotonic() >= until:
                break
            await asyncio.sleep(POLL_S)
        answer = to_answer(request.state.request_id, job, status).model_dump(mode="json")
        return JSONResponse(answer, 200 if status.final else 202, {"Location": f"/v1/jobs/{job_id}"})

    said: dict[str, Any] = {
        "status_code": 202, "response_model": JobAnswer,
        "responses": {200: {"model": JobAnswer, "description": "the job is over (with Prefer: wait)"}},
    }  # fmt: skip

    @api.post("/v1/pipeline", tags=["targets"], **said)
    async def pipeline(body: PipelineRequest, request: Request, key: Key = "", prefer: Prefer = "") -> Response:
        """Summary, plan and target of a patient whose CT lies in the data folder."""
        text = text_of(body.note, body.summary, body.plan)
        return await start(request, text, body.options, body.ct_path, (), key, prefer)

    @api.post("/v1/segment", tags=["targets"], **said)
    async def segment(body: SegmentRequest, request: Request, key: Key = "", prefer: Prefer = "") -> Response:
        """The target of a plan on a CT in the data folder."""
        text = text_of(None, None, body.plan)
        return await start(request, text, body.options, body.ct_path, (), key, prefer)

    upload: dict[str, Any] = {"max_body_size": service.config.max_upload_bytes, **said}

    @api.post("/v1/pipeline/upload", tags=["targets"], **upload)
    async def pipeline_upload(
        request: Request,
        ct: Annotated[list[UploadFile], File(description="one NIfTI, NRRD, MHA or zip, or the slices of a series")],
        note: OptionalText = None,
        summary: OptionalText = None,
        plan: OptionalText = None,
        probability: Annotated[bool, Form()] = False,
        key: Key = "",
        prefer: Prefer = "",
    ) -> Response:
        """Summary, plan and target of a patient whose CT comes along."""
        text = text_of(note, summary, plan)
        return await start(request, text, Options(probability=probability), "", ct, key, prefer)

    @api.post("/v1/segment/upload", tags=["targets"], **upload)
    async def segment_upload(
        request: Request,
        ct: Annotated[list[UploadFile], File(description="one NIfTI, NRRD, MHA or zip, or the slices of a series")],
        plan: Annotated[str, Form(description="the plan's sentences")],
        probability: Annotated[bool, Form()] = False,
        key: Key = "",
        prefer: Prefer = "",
    ) -> Response:
        """The target of a plan on a CT that comes along."""
        return await start(request, text_of(None, None, plan), Options(probability=probability), "", ct, key, prefer)


def _add_jobs(api: FastAPI, service: Service) -> None:
    async def look(job_id: str, request: Request) -> tuple[JobRequest, Status]:
        found, status = await service.look(request.state.owner, job_id)
        request.state.audit = {"job": found.job_id}  # now that it is an id and not a stranger's text
        return found, status

    @api.get("/v1/jobs/{job_id}", tags=["jobs"], responses=UNKNOWN)
    async def job(job_id: str, request: Request) -> JobAnswer:
        """How far a job is, and what it has found so far."""
        return to_answer(request.state.request_id, *await look(job_id, request))

    async def known(job_id: str, request: Request) -> None:
        await look(job_id, request)

    @api.get(
        "/v1/jobs/{job_id}/events", tags=["jobs"], responses=UNKNOWN, response_class=EventSourceResponse,
        dependencies=[Depends(known)],  # before the first event, while a 404 can still be said
    )  # fmt: skip
    async def events(job_id: str, request: Request) -> AsyncIterator[ServerSentEvent]:
        """The job's answer as server-sent events, each time it changes, until it is over."""
        last: Status | None = None
        while True:
            found, status = await service.look(request.state.owner, job_id)
            if status != last:
                last = status
                answer = to_answer(request.state.request_id, found, status)
                yield ServerSentEvent(event="job", data=answer.model_dump(mode="json"))
            if status.final:
                return
            await asyncio.sleep(POLL_S)

    @api.delete("/v1/jobs/{job_id}", tags=["jobs"], responses=UNKNOWN)
    async def cancel(job_id: str, request: Request) -> JobAnswer:
        """Stop a job. What it has found stays until it expires; a job that is over stays as it is."""
        found, status = await look(job_id, request)
        if not status.final:
            await asyncio.to_thread(service.store.cancel, job_id)
            service.runner.cancel(job_id)
            status = await asyncio.to_thread(service.store.status, job_id)
        return to_answer(request.state.request_id, found, status)

    @api.get("/v1/jobs/{job_id}/files/{name}", tags=["jobs"], responses=UNKNOWN, response_class=Response)
    async def file(job_id: str, name: str, request: Request) -> Response:
        """A result: target.nii.gz, target.dcm, overlay.png, manifest.json and the others that the job names."""
        _, status = await look(job_id, request)
        data = await asyncio.to_thread(service.store.get_file, job_id, status, name)
        if data is None:
            raise NoSuchJobError("no such file; the job's answer lists those it has")
        media = MEDIA.get(Path(name).suffix, "text/plain; charset=utf-8")
        return Response(data, media_type=media, headers={"Content-Disposition": f'attachment; filename="{name}"'})
