"""`helm uninstall` of the release with everything on. The last file: nothing of the release is there after it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.live.kube import Kube, until
from tests.live.release.parts import Endpoint, Release
from tests.live.setting import OWN, helm

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
KEPT = {
    ("Secret", "rollama-ray-token"), ("Secret", "rollama-api-key"), ("PersistentVolumeClaim", "rollama-mlflow"),
}  # fmt: skip
REMOVED = "rayservices,deployments,cronjobs,configmaps,networkpolicies,roles,rolebindings,poddisruptionbudgets"
FOREIGN = "podmonitors,prometheusrules"
OTHERS = {
    # what every namespace has
    ("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default"),
    # what is not the release's: its operator's Secrets and claim
    ("Secret", "s3-keys"), ("Secret", "keys"), ("PersistentVolumeClaim", "cts"),
}  # fmt: skip


def test_uninstall_leaves_what_keep_says(endpoint: Endpoint, release: Release) -> None:
    kube = release.kube
    kept_key = kube.get("secret", "rollama-api-key")["data"]["api-key"]
    kube.run("delete", "rayjobs", "--all")  # trainings belong to who submitted them
    kinds = {
        line.partition("/")[0]
        for line in kube.run("get", REMOVED if OWN else f"{REMOVED},{FOREIGN}", "-o", "name").split()
    }
    assert len(kinds) == len(REMOVED.split(",")) + (0 if OWN else len(FOREIGN.split(","))), (
        "there is something to remove"
    )
    kube.helm("uninstall", "rollama")
    until(lambda: found(kube) == KEPT | OTHERS, 180, f"only what is kept is there, not {found(kube) - KEPT - OTHERS}")
    for kind, name in KEPT:
        assert kube.get(kind, name)["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert of_the_cluster(kube) == []
    # The same release again takes what was kept: clients' keys go on being accepted.
    again = helm(kube, "install", release.values, release.folder, "--dry-run=server")
    assert kept_key in again


def found(kube: Kube) -> set[tuple[str, str]]:
    """Kind and name of every object in the namespace, of every kind there is; without records of what happened."""
    kinds = kube.run("api-resources", "--verbs=list", "--namespaced=true", "-o", "name").split()
    wanted = [kind for kind in kinds if not kind.startswith(("events", "podmetrics"))]
    return {
        (item["kind"], item["metadata"]["name"]) for item in kube.get(",".join(wanted), "--ignore-not-found")["items"]
    }


def of_the_cluster(kube: Kube) -> list[Any]:
    """Objects without a namespace that helm made for this release."""
    kinds = kube.run("api-resources", "--verbs=list", "--namespaced=false", "-o", "name").split()
    items = kube.get(",".join(kind for kind in kinds if kind != "componentstatuses"), "--ignore-not-found")["items"]
    place = "meta.helm.sh/release-namespace"
    return [json.dumps(item) for item in items if item["metadata"].get("annotations", {}).get(place) == kube.namespace]
