"""Ray's autoscaler v2 in a namespace with Pod Security `restricted`: workers come for a job and go after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.kube import Kube, until, with_site
from tests.live.rights import AUTOSCALER, allowed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def test_workers_come_from_zero_and_go_again(ci: Kube, site: Kube, dataset: str, tmp_path: Path) -> None:
    place = with_site(site, tmp_path, autoscaling=True, idle_timeout_s=5, ttl_s=180)
    words = ("submit", "train", "p", "--preset", "tiny", "--name", "scaled", "--dataset", dataset, "--site", place)
    done = ci.rollama(*words, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    (job,) = site.get("rayjobs", "-l", "rollama.io/run=scaled")["items"]
    group = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (0, 0, 2)
    cluster = job["status"]["rayClusterName"]

    def workers() -> int:
        found = site.get("pods", "-l", f"ray.io/cluster={cluster},ray.io/node-type=worker")["items"]
        return sum("deletionTimestamp" not in pod["metadata"] for pod in found)

    head = site.get("pods", "-l", f"ray.io/cluster={cluster},ray.io/node-type=head")["items"]
    boxes = head[0]["spec"]["containers"]
    assert [box["name"] for box in boxes] == ["ray-head", "autoscaler"]
    # KubeRay made an account for this cluster. Only the autoscaler can act in the namespace, not what a training runs.
    mounts = [[mount["mountPath"] for mount in box["volumeMounts"]] for box in boxes]
    assert ["/var/run/secrets/kubernetes.io/serviceaccount" in paths for paths in mounts] == [False, True]
    assert allowed(site, head[0]["spec"]["serviceAccountName"]) == AUTOSCALER
    until(lambda: workers() == 0, 120, "the workers are gone")
    # They went one by one, not with their cluster.
    assert site.get("raycluster", cluster)["spec"]["workerGroupSpecs"][0]["replicas"] == 0
    site.run("delete", "rayjob", job["metadata"]["name"], "--wait=false")
