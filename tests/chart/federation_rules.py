"""What must hold of a federation's two sides as the chart renders them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from rollama.centres.federation.config import Federation, Site
from rollama.core.config import build, parse_yaml
from tests.chart.pods import Pod, pods_of

Objects = Any
DOOR = 9443
WANTED = {"coordinator": {"tls", "folder", "sites", "tmp"}, "site": {"site", "identity", "state", "tmp", "shm"}}
"""Volumes without which the program does not start."""

HASHED = {"coordinator": {"settings", "sites", "tls"}, "site": {"site", "identity"}}
"""Of what a pod reads once: a change makes a new one."""


def side_rules(objects: Objects) -> Iterator[str]:
    """Sentences that do not hold, for both sides."""
    for item in objects:
        if item["kind"] == "Deployment":
            (pod,) = pods_of([item])
            if pod.name.split("/")[0] in WANTED:
                yield from (f"{pod.name}: {sentence}" for sentence in _side(item, pod, objects))
        if item["kind"] == "Service" and item["metadata"]["name"] == "rollama-coordinator":
            spec = item["spec"]
            if [(port["targetPort"], "door") for port in spec["ports"]] != [("door", "door")]:
                yield "coordinator: a way in beside the door"
            if spec["type"] != "ClusterIP" and spec.get("externalTrafficPolicy") != "Local":
                yield "coordinator: sites come with a node's address"
            labels = next(pod.labels for pod in pods_of(objects) if pod.name == "coordinator")
            if not spec.get("selector") or spec["selector"].items() - labels.items():
                yield "coordinator: the Service does not find the pod"


def _side(item: dict[str, Any], pod: Pod, objects: Objects) -> Iterator[str]:
    spec, box = item["spec"], pod.spec["containers"][0]
    kind = pod.name.split("/")[0]
    if spec["replicas"] != 1 or spec["strategy"] != {"type": "Recreate"}:
        yield "two at once on one record"
    if (
        spec["selector"]["matchLabels"].items() - pod.labels.items()
        or pod.labels.get("app.kubernetes.io/part-of") is None
    ):
        yield "the Deployment does not find its pods"
    if spec["selector"]["matchLabels"].get("app.kubernetes.io/component") != kind:
        yield "pods of something else as well"
    mounts = {mount["mountPath"]: mount for mount in box["volumeMounts"]}
    if lacking := WANTED[kind] - {mount["name"] for mount in mounts.values()}:
        yield f"lacks {sorted(lacking)}"
    if {key.removeprefix("checksum/") for key in pod.annotations} != HASHED[kind]:
        yield "goes on with old settings"
    if kind == "coordinator":
        words = box["command"][1:] + box["args"]
        settings = _file(objects, "rollama-coordinator", "federation.yaml")
        federation = build(Federation, parse_yaml(settings, "federation.yaml"), "federation.yaml")
        start = PurePosixPath("/federation") / federation.start
        if (
            pod.spec["initContainers"][0]["name"] == "start"
            and str(start) not in pod.spec["initContainers"][0]["command"][2]
        ):
            yield "the start model is fetched to another place"
        if words != [
            "federation", "serve", "/federation", "--cert", "/secrets/tls/tls.crt", "--key", "/secrets/tls/tls.key",
            "--sites", "/sites", "--go-on",
        ]:  # fmt: skip
            yield "serves without TLS or without its list of sites"
        if [port["containerPort"] for port in box["ports"]] != [DOOR]:
            yield "another port than the door's"
        if not all(
            box[f"{probe}Probe"]["tcpSocket"]["port"] == "door" for probe in ("startup", "readiness", "liveness")
        ):
            yield "nobody looks whether it is there"
    else:
        site = build(Site, parse_yaml(_file(objects, "rollama-federated-site", "site.yaml"), "site.yaml"), "site.yaml")
        if {str(PurePosixPath("/site") / site.key), str(PurePosixPath("/site") / site.ca)} - set(mounts):
            yield "no key, or no authority"
        if {mounts[path].get("subPath") for path in ("/site/site.yaml", "/site/site.key", "/site/ca.pem")} != {
            "site.yaml", "site.key", "ca.pem",
        }:  # fmt: skip
            yield "files change below a running site"
        if str(PurePosixPath("/site") / site.state) not in mounts:
            yield "the record is lost with the pod"
        start = PurePosixPath("/site") / site.start
        fetched = "".join(first["command"][2] for first in pod.spec.get("initContainers", ()))
        if str(start) not in fetched and not str(start).startswith("/data/"):
            yield "the start model is nowhere"
        if bool(box.get("envFrom")) is not ("@sha256:" in " ".join(site.training.command)):
            yield "keys of the object store that it has no use for, or none where it needs them"


def _file(objects: Objects, name: str, key: str) -> str:
    (item,) = [item for item in objects if item["kind"] == "ConfigMap" and item["metadata"]["name"] == name]
    return str(item["data"][key])
