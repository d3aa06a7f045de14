"""One request from JSON to a results folder, and the HTTP face of it. Knows no Ray: the models come as two callables.

Order of checks: key, size, form, text, CT; only then is a model asked. Every answer carries a request id, which is also
the name of the results folder; logs carry the id, the status and the type of an error, never a message or a path,
since paths and notes can name a patient.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from rollama import RESEARCH_ONLY
from rollama.chain.inputs import Request as ChainRequest
from rollama.chain.inputs import hash_ct, make_request, read_input_ct
from rollama.chain.outputs import target_cc, write_outputs
from rollama.chain.run import Answer, ChainResult, Segment, chain_steps
from rollama.core.errors import DataError, RollamaError, ServeError
from rollama.core.registry import Task
from rollama.data.plan import plan_from_dict, render_plan
from rollama.data.volumes import Volume
from rollama.segmentation.outline import Outline
from serve.auth import is_authorised
from serve.config import ServeConfig
from serve.inputs import resolve_ct
from serve.schemas import PROBLEM, PipelineRequest, PipelineResponse, Problem, parse_request

logger = logging.getLogger("rollama.serve")
RETRY_AFTER_S = 5


class BusyError(ServeError):
    """The models are loading or their queue is full; worth a retry."""


@dataclass(frozen=True)
class Backend:
    """The models, wherever they run. `ready` gives their hashes, or None while they load."""

    generate: Callable[[Task, str], Awaitable[Answer]]
    segment: Callable[[Volume, str], Awaitable[Outline]]
    ready: Callable[[], Awaitable[dict[str, str] | None]]


class PipelineService:
    """Answers pipeline requests with a backend."""

    def __init__(self, config: ServeConfig, backend: Backend, key_digest: bytes) -> None:
        self.config = config
        self.backend = backend
        self.key_digest = key_digest

    async def run(self, request: PipelineRequest, request_id: str) -> PipelineResponse:
        """Run the chain for one request and write its results folder.

        Raises:
            DataError: the request's text or CT is not usable.
            BusyError: the models are not ready or their queue is full.
            TimeoutError: the deadline passed.
            ServeError: the results cannot be written.
        """
        models = await self.backend.ready()
        if models is None:
            raise BusyError("the models are still loading")
        async with asyncio.timeout(self.config.deadline_s):
            text = to_chain_request(request)
            path = await asyncio.to_thread(resolve_ct, self.config.data_folder, request.ct_path)
            volume = await asyncio.to_thread(read_input_ct, path)
            inputs = {"ct": await asyncio.to_thread(hash_ct, path)}
            result = await self._answer(text, volume, models)
            folder = self.config.results_folder / request_id
            try:
                manifest = await asyncio.to_thread(write_outputs, result, volume, folder, inputs)
            except DataError as error:
                raise ServeError("the results cannot be written") from error
        return PipelineResponse(
            request_id=request_id,
            summary=result.summary,
            plan_text=result.plan_text,
            plan=result.plan.model_dump(mode="json") if result.plan else None,
            plan_parsed=result.plan is not None,
            plan_source=str(result.source),
            target_cc=target_cc(result, volume),
            files={name: f"{request_id}/{name}" for name in manifest["files"] + ["manifest.json"]},
            models=models,
            timings=dict(result.timings),
            warnings=list(result.warnings),
        )

    async def _answer(self, request: ChainRequest, volume: Volume, models: dict[str, str]) -> ChainResult:
        steps = chain_steps(request, volume, models)
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                result: ChainResult = end.value
                return result
            if isinstance(step, Segment):
                answer = await self.backend.segment(volume, step.plan_text)
            else:
                answer = await self.backend.generate(step.task, step.text)


def to_chain_request(request: PipelineRequest) -> ChainRequest:
    """The checked text of a request; a plan may come as fields."""
    plan = request.plan
    if isinstance(plan, dict):
        plan = render_plan(plan_from_dict(plan))
    return make_request(request.note, request.summary, plan)


def make_api(service: PipelineService) -> FastAPI:
    """The HTTP routes. No generated documentation pages: they would be served without a key."""
    api = FastAPI(title="rollama", description=RESEARCH_ONLY, docs_url=None, redoc_url=None, openapi_url=None)

    @api.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @api.get("/readyz")
    async def readyz() -> Response:
        if await service.backend.ready() is None:
            return error_response(BusyError("the models are still loading"), new_id(), service.config.data_folder)
        return Response('{"status": "ready"}', media_type="application/json")

    @api.post("/v1/pipeline")
    async def pipeline(request: Request) -> Response:
        request_id, started = new_id(), time.perf_counter()
        try:
            response = await _handle(service, request, request_id)
        except Exception as error:  # the boundary: every error becomes a problem with an id, none leaks its text
            response = error_response(error, request_id, service.config.data_folder)
            logger.warning("request %s: %s", request_id, type(error).__name__)
        logger.info("request %s: %d in %.2f s", request_id, response.status_code, time.perf_counter() - started)
        return response

    @api.exception_handler(HTTPException)
    async def not_found(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, "Not available", str(error.detail), new_id())

    return api


async def _handle(service: PipelineService, request: Request, request_id: str) -> Response:
    if not is_authorised(request.headers.get("authorization"), service.key_digest):
        challenge = {"WWW-Authenticate": "Bearer"}
        return problem(401, "Unauthorised", "send the key as 'Authorization: Bearer <key>'", request_id, challenge)
    limit = service.config.max_body_bytes
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            return problem(413, "Too large", f"the body is longer than {limit} bytes", request_id)
    answer = await service.run(parse_request(bytes(body)), request_id)
    return Response(answer.model_dump_json(), media_type="application/json", headers={"X-Request-ID": request_id})


def error_response(error: Exception, request_id: str, data_folder: Path) -> Response:
    """The problem that answers an error. Only our own messages on the request leave the server, without its paths."""
    if isinstance(error, DataError):
        detail = str(error).replace(f"{data_folder.resolve()}/", "")
        return problem(422, "Request not usable", detail, request_id)
    if isinstance(error, BusyError):
        return problem(503, "Busy", str(error), request_id, {"Retry-After": str(RETRY_AFTER_S)})
    if isinstance(error, TimeoutError):
        return problem(504, "Deadline passed", "the request took longer than the server allows", request_id)
    detail = str(error) if isinstance(error, ServeError) else "the server failed; its log has the request id"
    return problem(500, "Failed" if isinstance(error, RollamaError) else "Internal error", detail, request_id)


def problem(status: int, title: str, detail: str, request_id: str, headers: dict[str, str] | None = None) -> Response:
    """An RFC 9457 response."""
    content = Problem(title=title, status=status, detail=detail, request_id=request_id).model_dump_json()
    return Response(content, status, {"X-Request-ID": request_id, **(headers or {})}, media_type=PROBLEM)


def new_id() -> str:
    """A request id: random, so that it tells nothing about the patient."""
    return uuid.uuid4().hex
