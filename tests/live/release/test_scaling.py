"""Replicas and worker pods follow the load of the endpoint, and segmentation goes to zero."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.live.kube import until
from tests.live.release.parts import ENDPOINT, NOTE, PLAN, Endpoint, Release, over
from tests.load import steady

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
MANY = [f"{NOTE} Age {50 + index}." for index in range(8)]


@pytest.mark.matrix  # CI sees the same on a local Serve (tests/serve/test_app.py)
def test_replicas_follow_the_load_and_segmentation_goes_to_zero(endpoint: Endpoint, release: Release) -> None:
    until(lambda: counts(release) == (1, 0), 120, "one replica of the text models and none of the segmentation")
    most = [0, 0]

    def seen() -> list[int]:
        most[:] = map(max, most, counts(release))
        return most

    with endpoint.client() as client:
        with steady(lambda note: client.post("/v1/plan", json={"note": note}), MANY) as answers:
            begin = time.monotonic()
            job = client.post("/v1/segment", json={"plan": PLAN, "ct_path": "ct.nii.gz"}).json()["job_id"]
            until(lambda: seen() == [2, 1], 240, f"two replicas of the text models and one of the segmentation: {most}")
            print(f"both were up {time.monotonic() - begin:.0f} s after the load began")
            found = until(lambda: over(client, job), 120, "the segmentation is over")
        quiet = time.monotonic()
        until(lambda: counts(release) == (1, 0), 240, "back to one and none")
    print(f"down {time.monotonic() - quiet:.0f} s after it ended, {len(answers)} answers")
    assert found["state"] == "done"
    assert {answer.status_code for _, answer in answers} == {200}


@pytest.mark.matrix
def test_worker_pods_come_with_the_load_and_one_is_lost(endpoint: Endpoint, release: Release) -> None:
    """`serve.autoscaling`: the second text replica has no room in the head pod; a pod comes for it, and goes."""
    scaling = {"enabled": True, "maxWorkers": 1, "idleSeconds": 15}
    release.upgrade(autoscaling=scaling, textCpus=0.6, segmentationCpus=0.3)

    def workers() -> list[str]:
        found = release.kube.get("pods", "-l", f"ray.io/node-type=worker,{ENDPOINT}")["items"]
        ready = [
            pod
            for pod in found
            if all(box["ready"] for box in pod["status"].get("containerStatuses", [{"ready": False}]))
        ]
        return [pod["metadata"]["name"] for pod in ready if "deletionTimestamp" not in pod["metadata"]]

    begin = time.monotonic()
    until(lambda: "autoscaler" in containers(release), 500, "the new cluster, with an autoscaler, has taken over")
    until(lambda: not workers() and counts(release)[0] == 1, 120, "no worker without load")
    print(f"cluster with an autoscaler after {time.monotonic() - begin:.0f} s")
    client = endpoint.client()

    def ask(note: str) -> int:
        try:
            return client.post("/v1/plan", json={"note": note}).status_code
        except httpx.TransportError:
            return 0

    with client:
        with steady(ask, MANY) as answers:
            begin = time.monotonic()
            until(lambda: counts(release)[0] == 2 and workers(), 300, "a worker pod with the second replica")
            print(f"worker pod with a replica {time.monotonic() - begin:.0f} s after the load began")
            (first,) = workers()
            killed, before = time.monotonic(), len(answers)
            release.kube.run("delete", "pod", first, "--grace-period=0", "--force", "--wait=false")
            until(lambda: workers() and workers() != [first] and counts(release)[0] == 2, 300, "another one")
            print(f"a worker pod lost: another one with its replica after {time.monotonic() - killed:.0f} s")
        quiet = time.monotonic()
        until(lambda: not workers(), 300, "the worker pod is gone")
    failed = [status for _, status in answers if status != 200]
    print(f"gone {time.monotonic() - quiet:.0f} s after it; {len(failed)} of {len(answers) - before} requests failed")
    assert set(failed) <= {0, 503}
    release.upgrade(autoscaling={"enabled": False}, textCpus=0.3)
    until(lambda: "autoscaler" not in containers(release), 500, "the cluster of before has taken over")


def counts(release: Release) -> tuple[int, int]:
    """Running replicas of the text models and of the segmentation."""
    found = release.replicas()
    return found["text"], found["segmentation"]


def containers(release: Release) -> set[str]:
    """Names of the containers of the head that serves."""
    return {box["name"] for box in release.kube.get("pod", release.head())["spec"]["containers"]}
