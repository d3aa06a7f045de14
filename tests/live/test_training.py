"""A training job submitted by the account of CI: once, for who has the token, no secret in what it shows."""

from __future__ import annotations

import base64
import json

import pytest

from tests.live.kube import Kube, until
from tests.live.setting import Bucket

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


def test_two_submissions_at_once_are_one_job_that_shows_no_secret(
    ci: Kube, site: Kube, dataset: str, bucket: Bucket
) -> None:
    """One job; while it runs its dashboard wants the token; what it leaves names no secret."""
    words = ("submit", "train", "p", "--preset", "tiny", "--name", "guarded", "--dataset", dataset, "--wait")
    both = [ci.start(*words) for _ in range(2)]
    head = until(lambda: ready_heads(site), 240, "the head is ready")[0]
    answers = json.loads(site.run("exec", head, "-c", "ray-head", "--", "python", "-c", ASK).splitlines()[-1])
    assert answers == {**REFUSED, "with the token": 200}
    outputs = [process.communicate(timeout=600)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    (job,) = site.get("rayjobs", "-l", "rollama.io/run=guarded")["items"]
    pods = [
        pod["metadata"]["name"] for pod in site.get("pods", "-l", f"rollama.io/job={job['metadata']['name']}")["items"]
    ]
    assert len(pods) == 4, "head, two workers and the submitter are still there"
    places = {
        "objects": json.dumps(site.get("pods,rayjobs,rayclusters,jobs,configmaps,events")),
        "the commands": "".join(outputs),
        "the job's log": ci.rollama("logs", job["metadata"]["name"]).stdout,
        "Ray's own logs": site.run("exec", head, "-c", "ray-head", "--", "sh", "-c", RAY_LOGS, timeout=60),
        **{pod: site.run("logs", pod, "--all-containers", "--prefix") for pod in pods},
    }  # fmt: skip
    assert all(len(text) > 200 for text in places.values())
    plain = [*bucket.keys.values(), token(site)]
    secrets = [*plain, *(base64.b64encode(value.encode()).decode() for value in plain)]
    shown = [where for where, text in places.items() if any(value in text for value in secrets)]
    assert shown == []
    again = ci.rollama(*words)
    assert again.returncode == 0
    assert "succeeded already" in again.stderr


def ready_heads(site: Kube) -> list[str]:
    """Head pods of the job that are ready."""
    found = site.get("pods", "-l", "rollama.io/run=guarded,rollama.io/role=head")["items"]
    wanted = {"type": "Ready", "status": "True"}.items()
    return [
        pod["metadata"]["name"]
        for pod in found
        if any(wanted <= item.items() for item in pod["status"].get("conditions", []))
    ]


def token(site: Kube) -> str:
    return base64.b64decode(site.get("secret", "rollama-ray-token")["data"]["auth_token"]).decode()
