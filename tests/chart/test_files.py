"""The chart's files that need no helm: derived ones are current, programs do what they say, numbers exist."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from infra.chart import CHART, readme, rows, schema
from rollama.cli.submit import _HOW
from serve.telemetry import COUNTERS, LEVELS, TAGGED_LEVELS, TIMERS

DIGEST = "e" * 64
OURS = {
    *(f"ray_{name}_total" for name in COUNTERS),
    *(f"ray_{name}_bucket" for name in TIMERS),
    *(f"ray_{name}" for name in (*LEVELS, *TAGGED_LEVELS)),
}


def all_rules() -> list[dict]:
    """Alerts, and what is recorded for them."""
    return [rule for name in ("alerts", "drift") for rule in yaml.safe_load((CHART / f"files/{name}.yaml").read_text())]


def test_schema_and_readme_are_current() -> None:
    assert (CHART / "values.schema.json").read_text() == schema(), "run python -m infra.chart"
    assert (CHART / "README.md").read_text() == readme(), "run python -m infra.chart"


def test_every_value_is_in_the_schema_and_explained() -> None:
    whole = json.loads((CHART / "values.schema.json").read_text())
    for name, _, said in rows():
        node = whole
        for part in name.split("."):
            node = node["properties"][part]
        assert said, name


def test_every_object_of_the_schema_refuses_unknown_keys() -> None:
    def loose(node: object, path: str) -> Iterator[str]:
        if isinstance(node, dict):
            if "properties" in node and node.get("additionalProperties") is not False and path != "$":
                yield path
            for key, value in node.items():
                yield from loose(value, f"{path}.{key}")
        elif isinstance(node, list):
            for item in node:
                yield from loose(item, path)

    assert list(loose(json.loads((CHART / "values.schema.json").read_text()), "")) == []


def test_dashboard_and_alerts_ask_for_numbers_that_exist() -> None:
    ray = Path(pytest.importorskip("ray").__file__).parent
    known = "".join(path.read_text() for path in (ray / "dashboard/modules/metrics/dashboards").glob("*panels.py"))
    known += "".join(f"ray_{path.read_text()}" for path in (ray / "serve/_private").glob("*.py"))
    panels = json.loads((CHART / "files/dashboard.json").read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    rules = all_rules()
    assert all("namespace=" in text for text in [*asked, *(rule["expr"] for rule in rules)])
    names = set(re.findall(r"ray_\w+", " ".join([*asked, *(rule["expr"] for rule in rules)])))
    for name in names:
        assert name in OURS or name in known or name.removeprefix("ray_").removesuffix("_total") in known, name
    assert {"ray_rollama_audit_pending", "ray_rollama_jobs_waiting", "ray_rollama_stage_seconds_bucket"} <= names
    assert OURS - names == set(), "a number of the endpoint that no panel and no alert shows"


def test_panels_do_not_lie_on_each_other() -> None:
    panels = json.loads((CHART / "files/dashboard.json").read_text())["panels"]
    places = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(places) == len(set(places)) and all(x < 24 for x, _ in places)
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_alerts_say_what_to_do() -> None:
    rules = all_rules()
    rules = [rule for rule in rules if "alert" in rule]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"] and rule["annotations"]["description"]


class Answers(BaseHTTPRequestHandler):
    """A fake endpoint and dashboard: 401 without the key, unless `open` paths say otherwise."""

    key, open_, wrong = "k" * 32, {"/readyz"}, 401

    def do_GET(self) -> None:
        given = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        fine = given == self.key or self.path in self.open_
        self.send_response(200 if fine else self.wrong if given else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def answering(**changes: object) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Answers,), changes))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def checked(endpoint: str, dashboard: str, secrets: Path) -> tuple[int, str]:
    command = [sys.executable, str(CHART / "files/check_endpoint.py"), endpoint, dashboard, str(secrets)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    for name, text in (("token/auth_token", "t" * 32), ("api-key/api-key", "k" * 32)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_test_pod_is_content_with_a_closed_endpoint(secrets: Path) -> None:
    with answering() as endpoint, answering(key="t" * 32, wrong=403) as dashboard:
        code, said = checked(endpoint, dashboard, secrets)
        assert code == 0 and said.count("ok ") == 7, said
        (secrets / "api-key/api-key").unlink()
        assert checked(endpoint, dashboard, secrets)[0] == 0, "without the one key the others are still asked"


@pytest.mark.parametrize(
    ("endpoint", "dashboard", "what"),
    [
        ({"open_": {"/readyz", "/openapi.json"}}, {}, "the endpoint without a key"),
        ({}, {"open_": {"/api/version"}}, "the dashboard without the token"),
        ({"wrong": 200}, {}, "the endpoint with a wrong key"),
        ({"key": "other"}, {}, "the endpoint with its key"),
        ({}, {"key": "other"}, "the dashboard with the token"),
    ],
)
def test_the_test_pod_sees_what_is_open(secrets: Path, endpoint: dict, dashboard: dict, what: str) -> None:
    with answering(**endpoint) as first, answering(**{"key": "t" * 32, **dashboard}) as second:
        code, said = checked(first, second, secrets)
    assert code == 1 and f"FAIL {what}" in said
    assert "k" * 32 not in said and "t" * 32 not in said


def retrained(tmp_path: Path, script: str) -> tuple[int, list[str]]:
    """Run the schedule's script with a fake `rollama`; exit code and the fake's calls."""
    fake = tmp_path / "rollama"
    fake.write_text(f'#!/usr/bin/env bash\necho "$*" >>"{tmp_path}/calls"\n{script}\n')
    fake.chmod(0o755)
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "DATASET": f"s3://b/store@sha256:{DIGEST}",
        "WORKSPACE": "s3://b/work/", "TMPDIR": str(tmp_path),
    }  # fmt: skip
    command = ["bash", str(CHART / "files/retrain.sh"), "s", "proof"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    return done.returncode, (tmp_path / "calls").read_text().splitlines()


def test_the_schedule_trains_in_a_workspace_of_the_data_set(tmp_path: Path) -> None:
    code, calls = retrained(tmp_path, "echo created")
    place = f"--dataset s3://b/store@sha256:{DIGEST} --workspace s3://b/work/retrain-{'e' * 12} --wait --retries 2"
    assert code == 0
    assert calls == [f"submit job s {place} --reuse", f"submit job proof {place}"], "trained: evaluated anew"


def test_the_schedule_does_nothing_twice(tmp_path: Path) -> None:
    code, calls = retrained(tmp_path, f'echo "x: {_HOW["finished"]}"')
    assert code == 0 and all(call.endswith("--reuse") for call in calls) and len(calls) == 2


def test_the_schedule_ends_at_the_first_failure(tmp_path: Path) -> None:
    code, calls = retrained(tmp_path, "exit 10")
    assert code == 10 and len(calls) == 1
