"""Every account of the release against the written table of what it may do; and what no pod may be."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from tests.chart.pods import pods_of
from tests.live.release.parts import Release
from tests.live.rights import CI, NOTHING, allowed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
ACCOUNTS = {"rollama-ci": CI, "rollama-job": NOTHING, "rollama-serve": NOTHING, "default": NOTHING}


def test_every_account_of_the_release_is_written_down(release: Release) -> None:
    assert {item["metadata"]["name"] for item in release.kube.get("serviceaccounts")["items"]} == set(ACCOUNTS)
    used = {pod["spec"]["serviceAccountName"] for pod in release.kube.get("pods")["items"]}
    assert used <= set(ACCOUNTS)
    assert not any(
        item.get("automountServiceAccountToken", True)
        for item in release.kube.get("serviceaccounts")["items"]
        if item["metadata"]["name"] != "default"
    )


@pytest.mark.parametrize("account", ACCOUNTS)
def test_what_an_account_may_do(release: Release, account: str) -> None:
    assert allowed(release.kube, account) == ACCOUNTS[account]


VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "privileged": ({}, {"privileged": True, "allowPrivilegeEscalation": True}),
    "root": ({"runAsNonRoot": False, "runAsUser": 0}, {"runAsNonRoot": False, "runAsUser": 0}),
    "escalating": ({}, {"allowPrivilegeEscalation": True}),
    "capability": ({}, {"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}}),
    "without-seccomp": ({"seccompProfile": {"type": "Unconfined"}}, {"seccompProfile": {"type": "Unconfined"}}),
}
"""What is changed in the pod's and in the container's security context."""
PLACES: dict[str, dict[str, Any]] = {
    "host-path": {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]},
    "host-network": {"hostNetwork": True},
    "host-processes": {"hostPID": True},
    "host-memory": {"hostIPC": True},
}
"""What is changed in the pod's specification."""


def test_a_pod_that_is_more_than_ours_is_refused(release: Release) -> None:
    """The chart's own pods in variants: the namespace demands `restricted`, and admission answers."""
    shown = [item for item in yaml.safe_load_all(release.kube.helm("get", "manifest", "rollama")) if item]
    (head,) = [pod for pod in pods_of(shown) if pod.name == "endpoint/head"]

    def pod(name: str, changes: dict[str, Any], context: dict[str, Any], box: dict[str, Any]) -> dict[str, Any]:
        spec = copy.deepcopy(head.spec) | changes
        spec.pop("priorityClassName")
        spec["securityContext"] |= context
        spec["containers"][0]["securityContext"] |= box
        if "volumes" in changes:
            spec["volumes"] = head.spec["volumes"] + changes["volumes"]
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}

    def refused(*wanted: dict[str, Any]) -> list[str]:
        text = yaml.safe_dump_all(wanted)
        said = release.kube.run("create", "--dry-run=server", "--validate=strict", "-f", "-", text=text, check=False)
        return [line for line in said.splitlines() if "violates PodSecurity" in line]

    assert refused(pod("ours", {}, {}, {})) == []
    variants = [pod(name, {}, *both) for name, both in VARIANTS.items()]
    variants += [pod(name, changes, {}, {}) for name, changes in PLACES.items()]
    said = refused(*variants)
    assert len(said) == len(variants), said
    assert all(f'"{item["metadata"]["name"]}"' in line for item, line in zip(variants, said, strict=True))
