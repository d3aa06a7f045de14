"""The HTTP face and the request's way, with scripted models behind it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import nibabel
import numpy as np
import pytest
from fastapi.testclient import TestClient

from rollama.core.errors import DataError
from rollama.core.registry import Task
from rollama.data.plan import parse_plan
from rollama.data.volumes import Volume
from rollama.segmentation.outline import Outline
from serve.auth import load_key
from serve.config import ServeConfig
from serve.service import Backend, BusyError, PipelineService, make_api

PLAN = (
    "Side: left. Surgery: breast-conserving. Volumes: whole breast. Nodes: none. Boost: none. "
    "Prescription: 40.05 Gy in 15 fractions. Technique: VMAT."
)
HASHES = {"s": "1", "p": "2", "seg": "3"}


@dataclass(frozen=True)
class Answer:
    text: str
    finished: bool = True


@dataclass
class Models:
    """Scripted models; `fail` is raised by the text model, `delay` slows it, `loaded` turns readiness on."""

    fail: Exception | None = None
    delay: float = 0.0
    loaded: bool = True
    asked: list[str] = field(default_factory=list)

    async def generate(self, task: Task, text: str) -> Answer:
        self.asked.append(text)
        await asyncio.sleep(self.delay)
        if self.fail:
            raise self.fail
        return Answer("Left, pT1." if task is Task.SUMMARY else PLAN)

    async def segment(self, volume: Volume, plan_text: str) -> Outline:
        mask = np.zeros(volume.shape, dtype=np.uint8)
        mask[3:8, 5:15, 3:9] = 1
        return Outline(mask)

    async def ready(self) -> dict[str, str] | None:
        return dict(HASHES) if self.loaded else None


@pytest.fixture
def models() -> Models:
    return Models()


@pytest.fixture
def post(config: ServeConfig, models: Models, api_key: str) -> Callable[..., Any]:
    def send(body: Any, headers: dict[str, str] | None = None, **changes: Any) -> Any:
        settings = config.updated(**changes)
        service = PipelineService(settings, Backend(models.generate, models.segment, models.ready), load_key(settings))
        with TestClient(make_api(service), raise_server_exceptions=False) as client:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            used = {"Authorization": f"Bearer {api_key}"} if headers is None else headers
            return client.post("/v1/pipeline", content=content, headers=used)

    return send


def test_a_note_becomes_summary_plan_and_files(post: Callable[..., Any], config: ServeConfig) -> None:
    answer = post({"note": "A note.", "ct_path": "ct.nii.gz"})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["summary"] == "Left, pT1."
    assert body["plan_text"] == PLAN
    assert body["plan"] == parse_plan(PLAN).model_dump(mode="json")
    assert (body["plan_parsed"], body["plan_source"]) == (True, "note")
    assert body["target_cc"] == pytest.approx(5 * 10 * 6 * 0.216)
    assert body["models"] == HASHES
    assert "RESEARCH USE ONLY" in body["notice"]
    assert answer.headers["X-Request-ID"] == body["request_id"]
    for name, relative in body["files"].items():
        assert (config.results_folder / relative).is_file(), name
    texts = {"summary.txt", "plan.yaml", "plan.txt"}
    assert set(body["files"]) == texts | {"target.nii.gz", "overlay.png", "manifest.json"}
    manifest = json.loads((config.results_folder / body["files"]["manifest.json"]).read_text())
    assert manifest["models"] == HASHES
    assert set(manifest["inputs"]) == {"ct"}
    target = nibabel.load(config.results_folder / body["files"]["target.nii.gz"])
    assert int(np.asarray(target.dataobj).sum()) == 5 * 10 * 6


def test_a_plan_as_text_or_as_fields_asks_no_text_model(post: Callable[..., Any], models: Models) -> None:
    fields = parse_plan(PLAN).model_dump(mode="json")
    for plan in (PLAN, fields):
        body = post({"plan": plan, "ct_path": "ct.nii.gz"}).json()
        assert body["plan"] == fields
        assert body["summary"] is None
    assert models.asked == []


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic abc"}])
def test_without_the_key_nothing_is_read(post: Callable[..., Any], models: Models, headers: dict[str, str]) -> None:
    answer = post(b"not even json", headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert models.asked == []


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "the body is not valid JSON"),
        ({"ct_path": "ct.nii.gz"}, "exactly one of a note, a summary or a plan; found 0"),
        ({"ct_path": "ct.nii.gz", "note": "a", "plan": PLAN}, "found 2"),
        ({"ct_path": "ct.nii.gz", "note": "  "}, "note: is empty"),
        ({"ct_path": "ct.nii.gz", "note": ["CANARY"]}, "note: Input should be a valid string"),
        ({"note": "CANARY"}, "ct_path: Field required"),
        ({"ct_path": "ct.nii.gz", "note": "a", "CANARY": 1}, "unknown key; accepted: ct_path, note, summary, plan"),
        ({"ct_path": "ct.nii.gz", "plan": "CANARY"}, "no 'Side:' sentence"),
        ({"ct_path": "ct.nii.gz", "plan": {"side": "left"}}, "'surgery' is missing"),
        ({"ct_path": "../secret.nii.gz", "note": "CANARY"}, "no such CT in the data folder"),
        ({"ct_path": "absent.nii.gz", "note": "CANARY"}, "no such CT in the data folder"),
        ({"ct_path": "broken.nii.gz", "note": "CANARY"}, "broken.nii.gz: not a readable NIfTI file"),
    ],
)
def test_bad_requests_are_problems_that_do_not_echo(
    post: Callable[..., Any],
    config: ServeConfig,
    models: Models,
    caplog: pytest.LogCaptureFixture,
    body: Any,
    detail: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    (config.data_folder / "broken.nii.gz").write_bytes(b"no volume")
    answer = post(body)
    assert answer.status_code == 422
    problem = answer.json()
    assert detail in problem["detail"]
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    assert str(config.data_folder) not in answer.text
    assert "CANARY" not in answer.text + caplog.text
    assert models.asked == []
    assert not config.results_folder.exists()


def test_body_limit(post: Callable[..., Any]) -> None:
    assert post({"ct_path": "ct.nii.gz", "note": "a" * 2000}, max_body_bytes=1000).status_code == 413


def test_deadline_busy_and_failures(
    post: Callable[..., Any], models: Models, config: ServeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    request = {"note": "A note.", "ct_path": "ct.nii.gz"}
    models.delay = 5.0
    assert post(request, deadline_s=0.3).status_code == 504
    models.delay = 0.0
    models.fail = BusyError("too many requests are waiting")
    answer = post(request)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    models.fail = DataError("the note is longer than the context")
    assert post(request).status_code == 422
    models.fail = ValueError("CANARY in a library's message")
    answer = post(request)
    assert answer.status_code == 500
    assert "CANARY" not in answer.text + caplog.text
    models.fail = None
    config.results_folder.write_text("a file in the way")
    answer = post(request)
    assert (answer.status_code, answer.json()["detail"]) == (500, "the results cannot be written")


def test_health_and_readiness(config: ServeConfig, models: Models, api_key: str) -> None:
    service = PipelineService(config, Backend(models.generate, models.segment, models.ready), load_key(config))
    with TestClient(make_api(service)) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200
        models.loaded = False
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503
        header = {"Authorization": f"Bearer {api_key}"}
        waiting = client.post("/v1/pipeline", json={"note": "a", "ct_path": "ct.nii.gz"}, headers=header)
        assert waiting.status_code == 503
        for path in ("/docs", "/openapi.json"):
            assert client.get(path).status_code == 404
            assert client.get(path).headers["Content-Type"] == "application/problem+json"
