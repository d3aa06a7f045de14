"""Every pod that a release leads to: the chart's own, KubeRay's with what it puts into them, and those of a job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rollama.cluster.config import parse_site
from rollama.cluster.rayjob import Job, build_rayjob

DIGEST = "d" * 64
JOB = Job(
    task="p", run="p", preset="tiny", dataset=f"s3://bucket/store@sha256:{DIGEST}", workspace="s3://bucket/work",
    config_digest="c" * 64, workers=1,
)  # fmt: skip


@dataclass(frozen=True)
class Pod:
    """A pod by what it is for: endpoint/head, jobs/submitter, test, ..."""

    name: str
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: dict[str, Any]

    @property
    def boxes(self) -> list[dict[str, Any]]:
        """All its containers."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


def pods_of(objects: Any) -> list[Pod]:
    """All pods of the objects, and those of a job submitted to the site that is among them."""
    return [pod for item in objects for pod in _pods(item)]


def _pods(item: dict[str, Any]) -> Iterator[Pod]:
    kind, spec = item["kind"], item.get("spec", {})
    if kind == "Pod":
        yield _pod("test", item)
    elif kind == "Deployment":
        yield _pod(_program(item), spec["template"])
    elif kind == "Job":
        yield _pod("preflight", spec["template"])
    elif kind == "CronJob":
        template = spec["jobTemplate"]["spec"]["template"]
        yield _pod("gate" if item["metadata"]["name"].endswith("-gate") else "retrain", template)
    elif kind == "RayService":
        yield from _ray("endpoint", spec["rayClusterConfig"])
    elif kind == "RayCluster":
        yield from _ray("cluster", spec)
    elif kind == "ConfigMap" and item["metadata"]["name"] == "rollama-site":
        site = parse_site(item["data"]["site.yaml"], "the chart's site")
        body = build_rayjob(JOB, site, "team")
        yield _pod("jobs/submitter", body["spec"]["submitterPodTemplate"])
        yield from _ray("jobs", body["spec"]["rayClusterSpec"])


def _program(item: dict[str, Any]) -> str:
    """Which of the chart's programs a Deployment runs, by its command; a site that submits rounds is `site/jobs`."""
    (box,) = item["spec"]["template"]["spec"]["containers"]
    if box["command"][0] == "mlflow":
        return "mlflow"
    name = {"serve": "coordinator", "join": "site"}[box["command"][2]]
    return f"{name}/jobs" if any("federated_round.sh" in mount["mountPath"] for mount in box["volumeMounts"]) else name


def _pod(name: str, template: dict[str, Any], **labels: str) -> Pod:
    meta = template.get("metadata", {})
    return Pod(
        name, {**meta.get("labels", {}), **labels}, meta.get("annotations") or {}, template["spec"]
    )  # fmt: skip


def _ray(name: str, cluster: dict[str, Any]) -> Iterator[Pod]:
    """As KubeRay makes them: its labels, and the autoscaler's container in the head."""
    head = cluster["headGroupSpec"]["template"]
    if cluster.get("enableInTreeAutoscaling"):
        options = cluster["autoscalerOptions"]
        box = {
            "name": "autoscaler", "image": head["spec"]["containers"][0]["image"],
            **{key: options[key] for key in ("resources", "securityContext", "volumeMounts", "env") if key in options},
        }  # fmt: skip
        head = {**head, "spec": {**head["spec"], "containers": [*head["spec"]["containers"], box]}}
    yield _pod(f"{name}/head", head, **{"ray.io/node-type": "head"})
    for group in cluster.get("workerGroupSpecs", []):
        yield _pod(f"{name}/worker", group["template"], **{"ray.io/node-type": "worker"})
