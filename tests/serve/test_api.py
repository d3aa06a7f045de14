"""The HTTP face with scripted models behind it: texts, jobs, their files, and what goes wrong."""

from __future__ import annotations

import io
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml
from fastapi.testclient import TestClient

from rollama.core.errors import DataError
from rollama.data.plan import parse_plan
from serve.auth import digest
from serve.config import ServeConfig
from serve.problems import BusyError
from tests.serve.conftest import HASHES, PLAN, Connect, Models, zipped_series

WAIT = {"Prefer": "wait=30"}
NOTE = {"note": "A note.", "ct_path": "ct.nii.gz"}


def over(client: TestClient, job_id: str, seconds: float = 10.0) -> dict[str, Any]:
    """The job's answer once it is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        body: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
        if body["state"] not in ("queued", "running"):
            return body
        time.sleep(0.05)
    raise AssertionError(f"job still {body['state']}")


def store_files(config: ServeConfig) -> set[str]:
    root = Path(config.store)
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith("audit/")}


def test_a_note_becomes_a_job_with_summary_plan_and_files(client: TestClient, config: ServeConfig) -> None:
    answer = client.post("/v1/pipeline", json=NOTE)
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["job_id"]
    assert answer.headers["Location"] == f"/v1/jobs/{job_id}"
    body = over(client, job_id)
    assert (body["state"], body["attempt"], body["error"]) == ("done", 1, None)
    assert "RESEARCH USE ONLY" in body["notice"]
    found = body["findings"]
    assert (found["summary"], found["plan_text"]) == ("Left, pT1.", PLAN)
    assert found["plan"] == parse_plan(PLAN).model_dump(mode="json")
    assert (found["plan_parsed"], found["plan_source"], found["models"]) == (True, "note", HASHES)
    assert found["target_cc"] == pytest.approx(5 * 10 * 6 * 0.216)
    assert found["target_centre_mm"] == pytest.approx([5 * 6 - 87, 9.5 * 6, 5.5 * 6])
    texts = {"summary.txt", "plan.yaml", "plan.txt"}
    assert set(body["files"]) == texts | {"target.nii.gz", "overlay.png", "manifest.json"}
    for name, place in body["files"].items():
        file = client.get(place)
        assert file.status_code == 200 and file.content, name
        assert file.headers["Content-Disposition"] == f'attachment; filename="{name}"'
        assert file.headers["X-Content-Type-Options"] == "nosniff"
    manifest = client.get(body["files"]["manifest.json"]).json()
    assert manifest["models"] == HASHES and set(manifest["inputs"]) == {"ct"}
    target = nibabel.Nifti1Image.from_bytes(_gunzip(client.get(body["files"]["target.nii.gz"]).content))
    assert int(np.asarray(target.dataobj).sum()) == 5 * 10 * 6
    assert client.get(f"/v1/jobs/{job_id}/files/other.txt").status_code == 404
    assert client.get(f"/v1/jobs/{job_id}/files/..%2F..%2Frequest.json").status_code == 404
    assert client.get(f"/v1/jobs/{'0' * 32}").status_code == 404
    assert client.get("/v1/jobs/..").status_code == 404


def _gunzip(data: bytes) -> bytes:
    import gzip

    return gzip.decompress(data)


def test_waiting_for_the_answer(client: TestClient, models: Models) -> None:
    answer = client.post("/v1/segment", json={"plan": PLAN, "ct_path": "ct.nii.gz"}, headers=WAIT)
    assert answer.status_code == 200 and answer.json()["state"] == "done"
    fields = parse_plan(PLAN).model_dump(mode="json")
    again = client.post("/v1/pipeline", json={"plan": fields, "ct_path": "ct.nii.gz"}, headers=WAIT).json()
    assert again["findings"]["plan"] == fields and again["findings"]["summary"] is None
    assert models.asked == []
    models.delay = 5.0
    begun = time.monotonic()
    slow = client.post("/v1/pipeline", json=NOTE, headers={"Prefer": "wait=1"})
    assert slow.status_code == 202 and 0.9 < time.monotonic() - begun < 4


def test_partial_results_come_as_events(client: TestClient, models: Models) -> None:
    models.delay = 0.7
    job_id = client.post("/v1/pipeline", json=NOTE).json()["job_id"]
    with client.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        seen = [json.loads(line[5:]) for line in stream.iter_lines() if line.startswith("data:")]
    stages = [(item["stage"], item["findings"].get("summary"), item["findings"].get("plan_text")) for item in seen]
    assert ("plan", "Left, pT1.", None) in stages
    assert ("target", "Left, pT1.", PLAN) in stages
    assert any((item["stage"], item["done"], item["total"]) == ("target", 1, 2) for item in seen)
    assert seen[-1]["state"] == "done" and seen[-1]["files"]
    assert client.get(f"/v1/jobs/{'0' * 32}/events").status_code == 404


def test_texts_are_answered_at_once(client: TestClient, models: Models) -> None:
    short = client.post("/v1/summary", json={"note": "A note."}).json()
    assert (short["summary"], short["warnings"], short["models"]) == ("Left, pT1.", [], HASHES)
    plan = client.post("/v1/plan", json={"note": "A note."}).json()
    assert (plan["summary"], plan["plan_text"]) == ("Left, pT1.", PLAN)
    assert plan["plan"] == parse_plan(PLAN).model_dump(mode="json")
    assert plan["evidence"] == []
    assert client.post("/v1/plan", json={"summary": "Left."}).json()["summary"] == "Left."
    assert models.asked == ["A note.", "A note.", "Left, pT1.", "Left."]
    for body in ({}, {"note": "a", "summary": "b"}, {"note": " "}):
        assert client.post("/v1/plan", json=body).status_code == 422


def test_evidence_points_into_the_note_as_it_was_sent(client: TestClient) -> None:
    note = " Left breast cancer.\nLumpectomy; nodes clear."
    places = {("side", "Left breast cancer."), ("surgery", "Lumpectomy; nodes clear.")}
    plan = client.post("/v1/plan", json={"note": note}).json()
    assert places <= {(item["field"], note[item["start"] : item["end"]]) for item in plan["evidence"]}
    job = client.post("/v1/pipeline", json={"ct_path": "ct.nii.gz", "note": note}, headers=WAIT).json()
    assert job["findings"]["evidence"] == plan["evidence"]
    manifest = client.get(job["files"]["manifest.json"]).json()
    assert manifest["evidence"] == plan["evidence"]
    for other in ({"summary": note}, {"plan": PLAN}):
        job = client.post("/v1/pipeline", json={"ct_path": "ct.nii.gz", **other}, headers=WAIT).json()
        assert job["state"] == "done" and job["findings"]["evidence"] == []


@pytest.mark.parametrize("kind", ["nii.gz", "nii", "zip", "slices"])
def test_a_ct_that_comes_along(client: TestClient, config: ServeConfig, tmp_path: Path, kind: str) -> None:
    packed = (config.data_folder / "ct.nii.gz").read_bytes()
    if kind == "zip":
        files = [("ct", ("any name", zipped_series(config, tmp_path / "series")))]
    elif kind == "slices":
        zipped_series(config, tmp_path / "series")
        files = [("ct", (path.name, path.read_bytes())) for path in sorted((tmp_path / "series").iterdir())]
    else:
        files = [("ct", ("../../ct", packed if kind == "nii.gz" else _gunzip(packed)))]
    form = {"note": "A note.", "probability": "true"}
    answer = client.post("/v1/pipeline/upload", data=form, files=files, headers=WAIT)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["state"] == "done", body
    target = nibabel.Nifti1Image.from_bytes(_gunzip(client.get(body["files"]["target.nii.gz"]).content))
    assert sorted(target.shape) == [12, 24, 30]
    likely = nibabel.Nifti1Image.from_bytes(_gunzip(client.get(body["files"]["probability.nii.gz"]).content))
    assert likely.get_fdata().max() == pytest.approx(0.9)  # type: ignore[attr-defined]
    assert ("target.dcm" in body["files"]) == (kind in ("zip", "slices"))
    again = client.post("/v1/segment/upload", data={"plan": PLAN}, files=files, headers=WAIT)
    assert again.status_code == 200 and again.json()["state"] == "done"


@pytest.mark.parametrize(
    "headers", [{"Authorization": ""}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic abc"}]
)
def test_without_the_key_nothing_is_read(client: TestClient, models: Models, headers: dict[str, str]) -> None:
    for path in ("/v1/pipeline", "/v1/pipeline/upload", "/v1/summary", "/openapi.json", "/other", "/v1/jobs/x"):
        answer = client.post(path, content=b"not even json", headers=headers)
        assert answer.status_code == 401, path
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert models.asked == []


BAD = [
    (b"{", "the body is not valid JSON"),
    (b"\xff\xfe", "the body is not valid JSON"),
    ({"ct_path": "ct.nii.gz"}, "exactly one of a note, a summary or a plan; found 0"),
    ({"ct_path": "ct.nii.gz", "note": "a", "plan": PLAN}, "found 2"),
    ({"ct_path": "ct.nii.gz", "note": "  "}, "note: is empty"),
    ({"ct_path": "ct.nii.gz", "note": ["CANARY"]}, "note: Input should be a valid string"),
    ({"note": "CANARY"}, "ct_path: Field required"),
    ({"ct_path": "ct.nii.gz", "note": "a", "CANARY": 1}, "unknown key"),
    ({"ct_path": "ct.nii.gz", "plan": "CANARY"}, "no 'Side:' sentence"),
    ({"ct_path": "ct.nii.gz", "plan": {"side": "left"}}, "surgery: Field required"),
    ({"ct_path": "ct.nii.gz", "plan": PLAN.replace("left", "CANARY")}, "side: Input should be"),
    ({"ct_path": "ct.nii.gz", "plan": {"side": "CANARY", "CANARY": 1}}, "unknown key"),
    ({"ct_path": "ct.nii.gz", "plan": PLAN.replace("VMAT", "VMAT. CANARY: x")}, "plan"),
    ({"ct_path": "../secret.nii.gz", "note": "CANARY"}, "no such CT in the data folder"),
    ({"ct_path": "absent.nii.gz", "note": "CANARY"}, "no such CT in the data folder"),
    ({"ct_path": "broken.nii.gz", "note": "CANARY"}, "not a readable NIfTI file"),
]


@pytest.mark.parametrize(("body", "detail"), BAD)
def test_bad_requests_are_problems_that_do_not_echo(
    client: TestClient, config: ServeConfig, models: Models, caplog: pytest.LogCaptureFixture, body: Any, detail: str
) -> None:
    caplog.set_level(logging.DEBUG, "rollama")
    (config.data_folder / "broken.nii.gz").write_bytes(b"no volume")
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post("/v1/pipeline", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert detail in problem["detail"]
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    assert str(config.data_folder) not in answer.text
    assert "CANARY" not in answer.text + caplog.text
    assert models.asked == [] and store_files(config) == set()


def test_other_refusals(client: TestClient, connect: Connect, models: Models, config: ServeConfig) -> None:
    assert client.post("/v1/pipeline", content=b"x" * 100).status_code == 422  # no content type
    text = client.post("/v1/pipeline", content=b"hello", headers={"Content-Type": "text/plain"})
    assert text.status_code == 422 and "hello" not in text.text
    assert client.post("/v1/pipeline/upload", data={"note": "a"}).status_code == 422  # no CT
    small = connect(max_body_bytes=1000)
    assert small.post("/v1/pipeline", json={**NOTE, "note": "a" * 2000}).status_code == 413
    for path in ("/docs", "/redoc", "/v2"):
        answer = client.get(path)
        assert answer.status_code == 404 and answer.headers["Content-Type"] == "application/problem+json"
    assert client.get("/v1/pipeline").status_code == 405
    assert models.asked == [] and store_files(config) == set()


def test_failures_inside_a_job(client: TestClient, models: Models, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "rollama")
    for error, status in (
        (DataError("the note is longer than the context"), 422),
        (ValueError("CANARY in a library's message"), 500),
    ):
        models.fail = error
        body = client.post("/v1/pipeline", json=NOTE, headers=WAIT).json()
        assert (body["state"], body["error"]["status"]) == ("failed", status)
        assert "CANARY" not in json.dumps(body) + caplog.text
        text = client.post("/v1/summary", json={"note": "a"})
        assert text.status_code == status and "CANARY" not in text.text
    models.fail = BusyError("too many requests are waiting")
    busy = client.post("/v1/summary", json={"note": "a"})
    assert busy.status_code == 503 and busy.headers["Retry-After"] == "5"
    job_id = client.post("/v1/pipeline", json=NOTE, headers={"Prefer": "wait=1"}).json()["job_id"]
    assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "running"  # accepted, so it waits for its turn
    models.fail = None
    assert over(client, job_id)["state"] == "done"


def test_the_deadline_counts_waiting_too(connect: Connect, models: Models) -> None:
    models.delay = 60.0
    client = connect(deadline_s=4.0, max_ongoing_requests=1)
    begun = time.monotonic()
    first = client.post("/v1/segment", json={"plan": PLAN, "ct_path": "ct.nii.gz"}).json()["job_id"]
    second = client.post("/v1/pipeline", json=NOTE).json()["job_id"]
    for job_id in (first, second):
        late = over(client, job_id, 30)
        assert (late["state"], late["error"]["status"]) == ("failed", 504)
    assert time.monotonic() - begun < 7.5  # were it counted from the work's begin, the second would take 4 s more
    assert connect(deadline_s=0.2).post("/v1/summary", json={"note": "a"}).status_code == 504


def test_too_much_at_once_is_refused_and_recovers(connect: Connect, models: Models, config: ServeConfig) -> None:
    models.delay = 0.6
    client = connect(max_ongoing_requests=1, max_queued_requests=1)
    jobs = [client.post("/v1/segment", json={"plan": PLAN, "ct_path": "ct.nii.gz"}) for _ in range(4)]
    assert [job.status_code for job in jobs] == [202, 202, 503, 503]
    assert jobs[-1].headers["Retry-After"] == "5" and jobs[-1].json()["title"] == "Busy"
    assert all(over(client, job.json()["job_id"])["state"] == "done" for job in jobs[:2])
    assert client.post("/v1/segment", json={"plan": PLAN, "ct_path": "ct.nii.gz"}, headers=WAIT).status_code == 200
    assert not any(name.startswith("open/") for name in store_files(config))


def test_cancelling(client: TestClient, models: Models) -> None:
    models.delay = 30.0
    job_id = client.post("/v1/pipeline", json=NOTE).json()["job_id"]
    while client.get(f"/v1/jobs/{job_id}").json()["stage"] != "summary":
        time.sleep(0.05)
    client.delete(f"/v1/jobs/{job_id}")
    assert over(client, job_id)["state"] == "cancelled"
    assert models.cancelled == 1
    models.delay = 0.0
    body = client.post("/v1/pipeline", json=NOTE, headers=WAIT).json()
    assert client.delete(f"/v1/jobs/{body['job_id']}").json()["state"] == "done"  # what is over stays as it is


def test_a_job_cancelled_twice_is_over_once(client: TestClient, models: Models) -> None:
    models.delay = 30.0
    job_id = client.post("/v1/pipeline", json=NOTE).json()["job_id"]
    while client.get(f"/v1/jobs/{job_id}").json()["stage"] != "summary":
        time.sleep(0.05)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: client.delete(f"/v1/jobs/{job_id}"), range(4)))
    body = over(client, job_id, 20)
    assert (body["state"], body["attempt"]) == ("cancelled", 1)


def test_a_full_store_is_a_503_that_names_no_place(client: TestClient, config: ServeConfig) -> None:
    jobs = Path(config.store) / "expires"
    jobs.write_text("in the way")
    answer = client.post("/v1/pipeline", json=NOTE)
    assert answer.status_code == 503 and str(config.store) not in answer.text


def test_the_same_key_and_request_are_one_job(client: TestClient, models: Models) -> None:
    header = {"Idempotency-Key": "visit 7", **WAIT}
    one, other = (client.post("/v1/pipeline", json=NOTE, headers=header).json() for _ in range(2))
    assert one["job_id"] == other["job_id"] and len(models.asked) == 2
    clash = client.post("/v1/pipeline", json={**NOTE, "note": "Another."}, headers=header)
    assert clash.status_code == 409 and "Another" not in clash.text
    assert client.post("/v1/pipeline", json=NOTE, headers=WAIT).json()["job_id"] != one["job_id"]


def test_a_job_is_its_owners(client: TestClient, config: ServeConfig) -> None:
    job_id = client.post("/v1/pipeline", json=NOTE, headers=WAIT).json()["job_id"]
    path = Path(config.store) / "jobs" / job_id / "request.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "owner": "somebody else"}))
    for answer in (client.get(f"/v1/jobs/{job_id}"), client.delete(f"/v1/jobs/{job_id}")):
        assert answer.status_code == 404
    assert client.get(f"/v1/jobs/{job_id}/files/target.nii.gz").status_code == 404


def test_any_replica_answers_and_a_lost_one_loses_nothing(connect: Connect, models: Models) -> None:
    models.delay = 600.0
    first = connect(lease_s=3.0)  # a busy machine can be late by a second
    job_id = first.post("/v1/pipeline", json=NOTE, headers={"Prefer": "wait=1"}).json()["job_id"]
    second = connect(lease_s=3.0)
    assert second.get(f"/v1/jobs/{job_id}").json()["state"] == "running"
    models.delay = 0.0
    first.app.state.runner.running[job_id].cancel()  # type: ignore[attr-defined]  # as a killed process would end
    body = over(second, job_id, 30)
    assert (body["state"], body["attempt"]) == ("done", 2)
    assert second.get(body["files"]["target.nii.gz"]).status_code == 200


def test_scopes_and_rates(connect: Connect, tmp_path: Path, models: Models) -> None:
    entries = [
        {"name": "texts-only", "sha256": digest("key for texts").hex(), "scopes": ["texts"]},
        {"name": "slow", "sha256": digest("key for slow").hex(), "per_minute": 3},
        {"name": "other", "sha256": digest("key for other").hex()},
    ]
    (tmp_path / "keys.yaml").write_text(yaml.safe_dump({"keys": entries}))
    client = connect(keys_file=tmp_path / "keys.yaml")
    assert client.get("/v1/jobs/x").status_code == 401  # with a list, the variable's key is none of them
    texts, slow, other = ({"Authorization": f"Bearer key for {name}"} for name in ("texts", "slow", "other"))
    assert client.post("/v1/summary", json={"note": "a"}, headers=texts).status_code == 200
    for path in ("/v1/pipeline", "/v1/segment/upload", "/v1/jobs/x"):
        refused = client.post(path, json=NOTE, headers=texts)
        assert refused.status_code == 403 and "scope targets" in refused.json()["detail"]
    job = client.post("/v1/pipeline", json=NOTE, headers={**other, **WAIT}).json()["job_id"]
    assert client.get(f"/v1/jobs/{job}", headers=other).status_code == 200
    answers = [client.get(f"/v1/jobs/{job}", headers=slow) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [404, 404, 404, 429]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
    assert client.get(f"/v1/jobs/{job}", headers=other).status_code == 200


def test_health_and_readiness(client: TestClient, models: Models) -> None:
    nobody = {"Authorization": ""}
    assert client.get("/healthz", headers=nobody).status_code == 200
    assert client.get("/readyz", headers=nobody).status_code == 200
    models.loaded = False
    assert client.get("/healthz", headers=nobody).status_code == 200
    assert client.get("/readyz", headers=nobody).status_code == 503
    for path, body in (("/v1/pipeline", NOTE), ("/v1/summary", {"note": "a"})):
        waiting = client.post(path, json=body)
        assert waiting.status_code == 503 and waiting.headers["Retry-After"]


def test_the_document_describes_every_route(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    routes = {"summary", "plan", "pipeline", "pipeline/upload", "segment", "segment/upload", "jobs/{job_id}"}
    routes |= {"jobs/{job_id}/events", "jobs/{job_id}/files/{name}"}
    assert {f"/v1/{route}" for route in routes} <= set(document["paths"])
    example = document["components"]["schemas"]["SummaryRequest"]["properties"]["note"]["examples"][0]
    assert "left breast" in example
    assert "application/problem+json" in json.dumps(document["paths"]["/v1/pipeline"]["post"]["responses"]["422"])


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"", "not a CT file"),
        (b"hello", "not a CT file"),
        (b"\x1f\x8b\x08\x00broken", "gzip"),
        (b"PK\x03\x04broken", "zip"),
        (b"NRRD0004\ndata file: /etc/passwd\n\n", "two files"),
    ],
)
def test_uploads_that_are_no_ct(client: TestClient, config: ServeConfig, data: bytes, detail: str) -> None:
    answer = client.post("/v1/pipeline/upload", data={"note": "CANARY"}, files={"ct": ("x", io.BytesIO(data))})
    assert answer.status_code == 422, answer.text
    assert detail in answer.json()["detail"] and "CANARY" not in answer.text
    assert store_files(config) == set()


def test_behind_a_service_every_answer_ends_its_connection(connect: Connect) -> None:
    """So that clients which keep theirs do not stay with a cluster that is about to go."""
    closing = connect(close_connections=True)
    stranger = {"Authorization": "Bearer nobody"}
    assert closing.get("/healthz").headers["Connection"] == "close"
    assert closing.post("/v1/plan", json={"note": "A note."}).headers["Connection"] == "close"
    assert closing.post("/v1/plan", json={"note": "A note."}, headers=stranger).headers["Connection"] == "close"
    assert "Connection" not in connect().get("/healthz").headers
