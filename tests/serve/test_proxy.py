"""Serve's own 404, which comes before it knows the application, becomes "come back later"; all else stays as it is."""

from __future__ import annotations

import warnings

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse, StreamingResponse

from rollama.client.schemas import Problem
from serve.problems import PROBLEM, NoSuchJobError, describe, respond
from serve.proxy import CALLBACK, NotYet

api = FastAPI()


@api.get("/early")
async def early() -> PlainTextResponse:
    """As the proxy says it."""
    return PlainTextResponse("Path '/early' not found. Ping http://.../-/routes for available routes.", 404)


@api.get("/gone")
async def gone() -> object:
    """As the application says it."""
    return respond(describe(NoSuchJobError("no such job"), "id"))


@api.get("/rows")
async def rows() -> StreamingResponse:
    """Plain text in pieces that is no error."""
    return StreamingResponse(iter(["a", "b"]), media_type="text/plain")


@pytest.fixture
def client() -> TestClient:
    return TestClient(NotYet(api))


def test_before_the_application_is_known_one_is_told_to_come_back(client: TestClient) -> None:
    answer = client.get("/early")
    assert (answer.status_code, answer.headers["content-type"]) == (503, PROBLEM)
    assert int(answer.headers["Retry-After"]) > 0
    problem = Problem.model_validate_json(answer.content)
    assert problem.status == 503 and "starting" in problem.detail and "/early" not in answer.text


def test_the_applications_own_answers_stay(client: TestClient) -> None:
    answer = client.get("/gone")
    assert answer.status_code == 404 and Problem.model_validate_json(answer.content).detail == "no such job"
    assert client.get("/rows").text == "ab"


def test_serve_finds_and_takes_it() -> None:
    with warnings.catch_warnings():  # see test_app
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        from ray.serve._private.http_util import (
            call_function_from_import_path,
            validate_http_proxy_callback_return,
        )
    (found,) = validate_http_proxy_callback_return(call_function_from_import_path(CALLBACK))
    assert found.cls is NotYet
