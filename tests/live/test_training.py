"""Training jobs submitted by the account of CI: they end like the local run, once, and only for who has the token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rollama.core.storage import open_storage
from rollama.data.store import parse_reference, pull
from rollama.training.artefact import load_artefact
from rollama.training.metrics_log import read_metrics
from tests.live.kube import Kube, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
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
    code = (
        "import urllib.request, urllib.error, os\n"
        "def ask(headers):\n"
        "    try:\n"
        "        return urllib.request.urlopen(urllib.request.Request('http://localhost:8265/api/jobs/',"
        " headers=headers)).status\n"
        "    except urllib.error.HTTPError as error:\n"
        "        return error.code\n"
        "print(ask({}), ask({'Authorization': 'Bearer ' + os.environ['RAY_AUTH_TOKEN']}))\n"
    )
    assert site.run("exec", head, "-c", "ray-head", "--", "python", "-c", code).split() == ["401", "200"]
    followed = ci.rollama("logs", name, "--follow")
    assert followed.returncode == 0, followed.stdout + followed.stderr
    secrets = [*bucket.keys.values(), token(site)]  # type: ignore[attr-defined]
    shown = json.dumps(site.get("pods,rayjobs,rayclusters,jobs,configmaps,events")) + followed.stdout
    assert not [value for value in secrets if value in shown]


def token(site: Kube) -> str:
    import base64

    return base64.b64decode(site.get("secret", "rollama-ray-token")["data"]["auth_token"]).decode()
