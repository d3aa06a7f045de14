"""The client against the real HTTP face (scripted models behind it), and against networks that fail."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import nibabel
import pydicom
import pytest
from fastapi.testclient import TestClient

from rollama.client import Endpoint, EndpointError
from rollama.core.errors import DataError
from rollama.data.plan import parse_plan
from serve.config import ServeConfig
from tests.serve.conftest import KEY, PLAN, Models, api_key, client, config, connect, meter, models, zipped_series

__all__ = ["api_key", "client", "config", "connect", "meter", "models"]  # fixtures


class Through(httpx.BaseTransport):
    """Hands requests to the application in this process (whose test client is of another httpx)."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        headers = dict(request.headers)
        answer = self.client.request(
            request.method, request.url.raw_path.decode(), content=request.read(), headers=headers
        )
        return httpx.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)


@pytest.fixture
def endpoint(client: TestClient) -> Endpoint:
    return Endpoint("http://testserver", KEY, Through(client), pause=lambda _: time.sleep(0.02))


def test_texts(endpoint: Endpoint) -> None:
    assert endpoint.summary("A note.").summary == "Left, pT1."
    assert endpoint.plan(summary="Left.").plan_text == PLAN
    with pytest.raises(EndpointError, match="422: give exactly one") as caught:
        endpoint.plan(note="CANARY", summary="CANARY")
    assert caught.value.problem is not None and caught.value.problem.status == 422
    assert "CANARY" not in str(caught.value)


def test_which_models_answer(endpoint: Endpoint) -> None:
    served = endpoint.models()
    assert set(served.serving) == {"s", "p", "seg"} and served.problem == "" and served.wanted == {}


def test_a_job_and_its_files(endpoint: Endpoint, config: ServeConfig, models: Models, tmp_path: Path) -> None:
    models.delay = 0.2
    job = endpoint.pipeline(config.data_folder / "ct.nii.gz", note="A note.", probability=True)
    stages = [answer.stage for answer in endpoint.job(job.job_id).follow()]
    assert "target" in stages
    answer = job.result()
    assert answer.findings.plan_text == PLAN
    paths = job.save(tmp_path / "out")
    assert {path.name for path in paths} == set(answer.files) >= {"target.nii.gz", "probability.nii.gz"}
    assert nibabel.load(tmp_path / "out" / "target.nii.gz").shape == (30, 24, 12)  # type: ignore[attr-defined]
    zipped_series(config, tmp_path / "series")
    for ct in ("ct.nii.gz", tmp_path / "series"):
        for plan in (PLAN, parse_plan(PLAN).model_dump(mode="json")):
            assert endpoint.pipeline(ct, plan=plan).result().state == "done"
    with pytest.raises(DataError, match="no such CT"):
        endpoint.pipeline(tmp_path / "absent.nii.gz", plan=PLAN)


def test_a_series_brings_its_structure_set_along(endpoint: Endpoint, config: ServeConfig, tmp_path: Path) -> None:
    zipped_series(config, tmp_path / "series")
    paths = endpoint.pipeline(tmp_path / "series", note="A note.").save(tmp_path / "out")
    assert tmp_path / "out" / "target.dcm" in paths
    assert pydicom.dcmread(tmp_path / "out" / "target.dcm").Modality == "RTSTRUCT"


def test_a_synthetic_patient_to_try(endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.samples.GRID", (80, 64, 48))
    monkeypatch.setattr("serve.samples.SPACING_MM", (6.25, 6.25, 6.0))
    samples = endpoint.samples()
    assert "left-breast" in [sample.name for sample in samples]
    ct = endpoint.save_sample(samples[0], tmp_path / "ct.nii.gz")
    assert endpoint.pipeline(ct, note=samples[0].note).result().state == "done"


def test_what_fails_is_said(endpoint: Endpoint, models: Models) -> None:
    models.fail = DataError("the note is longer than the context")
    with pytest.raises(EndpointError, match=r"failed: the note is longer"):
        endpoint.pipeline("ct.nii.gz", note="A note.").result()
    models.fail, models.delay = None, 30.0
    job = endpoint.pipeline("ct.nii.gz", note="A note.")
    job.cancel()
    with pytest.raises(EndpointError, match="was cancelled"):
        job.result()
    with pytest.raises(EndpointError, match="404: no such job"):
        endpoint.job("0" * 32).look()


def scripted(*steps: Callable[[httpx.Request], httpx.Response]) -> tuple[Endpoint, list[httpx.Request], list[float]]:
    seen: list[httpx.Request] = []
    pauses: list[float] = []
    left = list(steps)

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return left.pop(0)(request)

    return Endpoint("http://x", KEY, httpx.MockTransport(answer), pause=pauses.append), seen, pauses


def lost(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


def busy(_: httpx.Request) -> httpx.Response:
    return httpx.Response(503, headers={"Retry-After": "7"}, text="a proxy's page")


def test_a_repeated_submission_is_one_job_and_a_busy_server_is_asked_again() -> None:
    ends = {"request_id": "r", "job_id": "j", "state": "queued", "attempt": 0, "stage": "", "done": 0, "total": 0,
            "created": 0, "expires": 1, "findings": {}, "files": {}}  # fmt: skip
    endpoint, seen, pauses = scripted(lost, busy, lambda _: httpx.Response(202, json=ends))
    assert endpoint.pipeline("ct.nii.gz", note="A note.").job_id == "j"
    assert len({request.headers["Idempotency-Key"] for request in seen}) == 1 and len(seen) == 3
    assert pauses == [1.0, 7.0]
    endpoint, seen, _ = scripted(lost, lost, lost, lost)
    with pytest.raises(EndpointError, match="not reached"):
        endpoint.summary("CANARY")
    endpoint, seen, _ = scripted(lambda _: httpx.Response(500, text="CANARY"))
    with pytest.raises(EndpointError, match="500: no reason"):
        endpoint.summary("a")
    endpoint, _, _ = scripted(lambda _: httpx.Response(200, json={"summary": "CANARY"}))
    with pytest.raises(EndpointError, match="versions may differ") as caught:
        endpoint.summary("a")
    assert "CANARY" not in str(caught.value)
