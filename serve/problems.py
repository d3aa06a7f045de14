"""Errors as RFC 9457 problems: which status an exception becomes, and what of it may leave the server.

Messages of our own about a request name keys and what is accepted, never values, and may go out; everything else may
carry clinical text or paths and stays in.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from rollama.client.schemas import Problem
from rollama.core.errors import DataError, RollamaError, ServeError
from serve.jobs import ConflictError, StoreError
from serve.runner import FullError

PROBLEM = "application/problem+json"
RETRY_AFTER_S = 5


class BusyError(ServeError):
    """The models are loading or their queue is full; worth a retry."""


class LostError(BusyError):
    """A model's server went while it was at this; another one is starting. Worth a few retries: it may be the cause."""


class NoSuchJobError(ServeError):
    """There is no such job, it expired, or it is somebody else's."""


def describe(error: Exception, request_id: str) -> Problem:
    """The problem that answers an error."""
    status, title, detail = _explain(error)
    return Problem(title=title, status=status, detail=detail, request_id=request_id)


def _explain(error: Exception) -> tuple[int, str, str]:
    if isinstance(error, RequestValidationError):
        return 422, "Request not usable", validation_detail(error)
    if isinstance(error, HTTPException):
        return error.status_code, HTTPStatus(error.status_code).phrase, str(error.detail)
    if isinstance(error, DataError):
        return 422, "Request not usable", str(error)
    if isinstance(error, ConflictError):
        return 409, "Conflict", str(error)
    if isinstance(error, NoSuchJobError):
        return 404, "Not found", str(error)
    if isinstance(error, StoreError):
        return 503, "Busy", str(error)
    if isinstance(error, FullError):
        return 503, "Busy", "too many jobs are waiting; try again later"
    if isinstance(error, BusyError):
        return 503, "Busy", str(error)
    if isinstance(error, TimeoutError):
        return 504, "Deadline passed", "the request took longer than the server allows"
    detail = str(error) if isinstance(error, ServeError) else "the server failed; its log has the request id"
    return 500, "Failed" if isinstance(error, RollamaError) else "Internal error", detail


def validation_detail(error: RequestValidationError) -> str:
    """Which keys are wrong and why; values may be clinical text and are not repeated."""
    problems = set()
    for item in error.errors():
        place = [str(part) for part in item["loc"] if part not in ("body", "query", "path", "header")]
        if item["type"] == "json_invalid":
            problems.add("the body is not valid JSON")
        elif item["type"] == "extra_forbidden":
            problems.add("unknown key; docs/serving.md lists those that are accepted")
        else:
            problems.add(f"{'.'.join(place) or 'body'}: {item['msg']}")
    return "; ".join(sorted(problems))


def respond(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The response; says when to come back if that may help."""
    more = {"Retry-After": str(RETRY_AFTER_S)} if problem.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Response(problem.model_dump_json(), problem.status, {**more, **(headers or {})}, media_type=PROBLEM)
