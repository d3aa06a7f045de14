"""Numbers with bounded tags and logs as JSON, without anything of a patient, a caller or a path."""

from __future__ import annotations

import json
import logging
import time

import pytest
from fastapi.testclient import TestClient

from serve.telemetry import COUNTERS, LEVELS, LOGGER, TIMERS, RayMeter, log_as_json
from tests.serve.conftest import Recorder

WAIT = {"Prefer": "wait=30"}


def test_every_request_and_job_is_counted_under_names_that_exist(client: TestClient, meter: Recorder) -> None:
    client.post("/v1/pipeline", json={"note": "CANARY", "ct_path": "ct.nii.gz"}, headers=WAIT)
    for number in range(5):
        client.get(f"/CANARY-{number}")
        client.request(f"CANARY{number}", "/v1/summary")
        client.get(f"/v1/jobs/CANARY-{number}")
    client.post("/v1/summary", json={"note": "CANARY"}, headers={"Authorization": "CANARY"})
    assert ("rollama_jobs", {"state": "done"}) in meter.counts
    asked = [tags for name, tags in meter.counts if name == "rollama_requests"]
    assert {"method": "POST", "route": "/v1/pipeline", "status": "200"} in asked
    assert {"method": "POST", "route": "none", "status": "401"} in asked
    assert {"method": "GET", "route": "/v1/jobs/{job_id}", "status": "404"} in asked
    assert len({json.dumps(tags) for tags in asked}) <= 6  # a stranger's paths and methods add no series
    assert {tags["stage"] for name, tags in meter.times if name == "rollama_stage_seconds"} == {
        "summary",
        "plan",
        "target",
    }
    assert "CANARY" not in repr((meter.counts, meter.times))
    for name, tags in meter.counts:
        assert set(tags) == set(COUNTERS[name][1])
    for name, tags in meter.times:
        assert set(tags) == set(TIMERS[name][1])
    assert meter.levels["rollama_jobs_running"] == 0 and set(meter.levels) <= set(LEVELS)


def test_logs_are_json_lines(client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger(LOGGER)
    before = logger.handlers[:], logger.level, logger.propagate
    try:
        log_as_json()
        log_as_json()  # once is enough
        answer = client.post("/v1/pipeline", json={"note": "CANARY", "ct_path": "ct.nii.gz"}, headers=WAIT)
        client.get("/v1/jobs/CANARY")
    finally:
        logger.handlers, logger.level, logger.propagate = before
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    told = next(line for line in lines if line["message"] == "request" and line["status"] == 200)
    assert told["request"] == answer.json()["request_id"] and told["route"] == "/v1/pipeline"
    assert told["level"] == "INFO" and told["time"] and told["seconds"] >= 0
    assert [line for line in lines if line["message"] == "job" and line["job"] == answer.json()["job_id"]]
    assert "CANARY" not in json.dumps(lines)


def test_levels_are_said_again_as_ray_forgets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = pytest.importorskip("ray.serve.metrics")
    said: list[tuple[str, float]] = []

    class Gauge:
        """A fake of Ray's gauge that keeps what it is told."""

        def __init__(self, name: str, description: str, tag_keys: tuple[str, ...] = ()) -> None:
            self.name, self.tag_keys = name, tag_keys

        def set(self, value: float, tags: dict[str, str] | None = None) -> None:
            assert set(tags or {}) == set(self.tag_keys)
            said.append((self.name, value))

    monkeypatch.setattr(metrics, "Gauge", Gauge)
    meter = RayMeter(again_s=0.01)
    meter.level("rollama_jobs_waiting", 3)
    said.clear()
    deadline = time.monotonic() + 10
    while said.count(("rollama_jobs_waiting", 3)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert said.count(("rollama_jobs_waiting", 3)) >= 3
    assert {name for name, _ in said} == set(LEVELS)
    tags = {"model": "p", "centre": "north", "feature": "plan_side", "bin": "left"}
    meter.level("rollama_profile_reference", 40, tags)
    said.clear()
    while ("rollama_profile_reference", 40) not in said and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ("rollama_profile_reference", 40) in said
    meter.forget("rollama_profile_reference")
    time.sleep(0.05)
    said.clear()
    time.sleep(0.05)
    assert {name for name, _ in said} == set(LEVELS), "a level that is forgotten is said no more"
