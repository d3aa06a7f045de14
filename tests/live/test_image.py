"""DeepSpeed ZeRO-2 and CEFTune in a pod that is not root, cannot write its root and has no compiler."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import rollama
from infra.image.smoke import code_hash
from rollama.cluster import pods
from tests.live.kube import Kube, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_one_training_step_in_a_restricted_pod(site: Kube, image: str) -> None:
    box = {
        "name": "smoke",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "/opt/rollama/smoke.py"],
        "resources": {"limits": {"memory": "4Gi"}},
        "securityContext": pods.SECURITY,
        "volumeMounts": [pods.TMP, pods.SHM],
    }
    volumes = [{"name": "tmp", "emptyDir": {}}, {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}]
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": pods.POD_SECURITY,
        "containers": [box],
        "volumes": volumes,
    }
    site.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "smoke"}, "spec": spec})
    try:
        until(
            lambda: site.get("pod", "smoke")["status"]["phase"] in ("Succeeded", "Failed"), 300, "the smoke pod ended"
        )
        log = site.run("logs", "smoke")
        assert site.get("pod", "smoke")["status"]["phase"] == "Succeeded", log
        found = json.loads(log.splitlines()[-1])
        assert found["training"] == "ok"
        assert (found["user"], found["root_read_only"], found["compilers"]) == (1000, True, [])
        assert found["code"] == code_hash(Path(rollama.__file__).parent), "the image holds other code than the checkout"
        assert found["sbom_components"] > 100 and found["federated"] == "ok"
    finally:
        site.run("delete", "pod", "smoke", "--wait=false")
