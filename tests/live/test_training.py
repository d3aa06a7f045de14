"""Training jobs submitted by the account of CI: they end like the local run, once, and only for who has the token."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from rollama.core.storage import open_storage
from rollama.data.store import parse_reference, pull
from rollama.training.artefact import load_artefact
from rollama.training.metrics_log import read_metrics
from tests.live.kube import Kube, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
RAY_LOGS = "cat /tmp/ray/session_latest/logs/*.* 2>/dev/null"
REFUSED = {"list jobs": 401, "submit a job": 401, "list nodes": 401, "version": 401, "a wrong token": 403}
"""What Ray answers without its token, or with another."""
ASK = """
import json, os, urllib.error, urllib.request
def ask(path, data=None, token=None):
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = "Bearer " + token
    try:
        request = urllib.request.Request("http://localhost:8265" + path, data=data, headers=headers)
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        return error.code
job = json.dumps({"entrypoint": "true"}).encode()
print(json.dumps({
    "list jobs": ask("/api/jobs/"), "submit a job": ask("/api/jobs/", job), "list nodes": ask("/nodes?view=summary"),
    "version": ask("/api/version"), "a wrong token": ask("/api/jobs/", token="0" * 48),
    "with the token": ask("/api/jobs/", token=os.environ["RAY_AUTH_TOKEN"]),
}))
"""
TOLERANCE = 1e-5
"""Between a run in pods and one on this machine: fp32, the same processor, other processes."""


@pytest.mark.parametrize("what", ["p", "seg"])
def test_a_job_ends_like_the_local_run(
    what: str, ci: Kube, dataset: str, workspace: str, cohort: Path, tmp_path: Path
) -> None:
    submitted = ci.rollama("submit", "train", what, "--preset", "tiny", "--dataset", dataset, "--wait")
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    storage = open_storage(workspace)
    pointer = json.loads(storage.read_text(f"models/{what}.json") or "{}")
    assert pointer["reference"] in submitted.stdout
    here = pull(parse_reference(pointer["reference"]), tmp_path / "model")
    local = ci.rollama(
        "train", what, "--preset", "tiny", "--dataset", str(cohort), "--workspace", str(tmp_path / "local")
    )
    assert local.returncode == 0, local.stderr
    there, _ = load_artefact(here)
    wanted, _ = load_artefact(tmp_path / "local" / "models" / what)
    assert set(there) == set(wanted)
    for name, tensor in wanted.items():
        assert (there[name] - tensor).abs().max() <= TOLERANCE, name
    (run,) = {name.split("/")[1] for name in storage.names("train") if name.startswith(f"train/{what}-")}
    (tmp_path / "metrics.jsonl").write_text(storage.read_text(f"train/{run}/metrics.jsonl") or "")
    rows = read_metrics(tmp_path / "metrics.jsonl")
    expected = read_metrics(next((tmp_path / "local" / "train").glob(f"{what}-*")) / "metrics.jsonl")
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    for row, wanted_row in zip(rows, expected, strict=True):
        assert row["loss"] == pytest.approx(wanted_row["loss"], abs=TOLERANCE)


def test_two_submissions_at_once_are_one_job(ci: Kube, site: Kube, dataset: str) -> None:
    words = ("submit", "train", "p", "--preset", "tiny", "--name", "twice", "--dataset", dataset, "--wait")
    both = [ci.start(*words) for _ in range(2)]
    outputs = [process.communicate(timeout=600)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert len(site.get("rayjobs", "-l", "rollama.io/run=twice")["items"]) == 1
    again = ci.rollama(*words)
    assert again.returncode == 0
    assert "succeeded already" in again.stderr


def test_the_dashboard_wants_the_token_and_no_secret_shows(
    ci: Kube, site: Kube, dataset: str, image: str, bucket: object
) -> None:
    job = ci.rollama("submit", "train", "p", "--preset", "tiny", "--name", "guarded", "--dataset", dataset)
    assert job.returncode == 0, job.stderr
    name = site.get("rayjobs", "-l", "rollama.io/run=guarded")["items"][0]["metadata"]["name"]
    head = until(
        lambda: [
            pod
            for pod in site.get("pods", "-l", f"rollama.io/job={name},rollama.io/role=head")["items"]
            if any(item["type"] == "Ready" and item["status"] == "True" for item in pod["status"].get("conditions", []))
        ],
        180,
        "the head is ready",
    )[0]["metadata"]["name"]
    answers = json.loads(site.run("exec", head, "-c", "ray-head", "--", "python", "-c", ASK).splitlines()[-1])
    assert answers == {**REFUSED, "with the token": 200}
    followed = ci.rollama("logs", name, "--follow")
    assert followed.returncode == 0, followed.stdout + followed.stderr
    pods = [pod["metadata"]["name"] for pod in site.get("pods", "-l", f"rollama.io/job={name}")["items"]]
    assert len(pods) == 4, "head, two workers and the submitter are still there"
    places = {
        "objects": json.dumps(site.get("pods,rayjobs,rayclusters,jobs,configmaps,events")),
        "the job's log": followed.stdout,
        "Ray's own logs": site.run("exec", head, "-c", "ray-head", "--", "sh", "-c", RAY_LOGS, timeout=60),
        **{pod: site.run("logs", pod, "--all-containers", "--prefix") for pod in pods},
    }  # fmt: skip
    plain = [*bucket.keys.values(), token(site)]  # type: ignore[attr-defined]
    secrets = [*plain, *(base64.b64encode(value.encode()).decode() for value in plain)]
    shown = [where for where, text in places.items() if any(value in text for value in secrets)]
    assert shown == []


def token(site: Kube) -> str:
    return base64.b64decode(site.get("secret", "rollama-ray-token")["data"]["auth_token"]).decode()
