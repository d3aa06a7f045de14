"""What a resource would create, counted from the resource itself: pods, CPU, memory, GPUs.

Counting the finished resource, not the request, keeps the plan true to what is submitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rollama.cluster.quantity import parse


@dataclass(frozen=True)
class Row:
    """One kind of pod; figures are for all of its pods together."""

    role: str
    pods: int
    cpu: float
    memory: float
    gpus: int
    per_pod_gpus: int


def rows(body: dict[str, Any], gpu_resource: str) -> list[Row]:
    """The pods of a RayJob at its largest, submitter included."""
    spec = body["spec"]
    cluster = spec["rayClusterSpec"]
    found = [_row("submitter", 1, [_container(spec["submitterPodTemplate"])], gpu_resource)]
    head = [_container(cluster["headGroupSpec"]["template"])]
    if cluster.get("enableInTreeAutoscaling"):
        head.append(cluster["autoscalerOptions"])
    found.append(_row("head", 1, head, gpu_resource))
    return found + [
        _row(group["groupName"], group["maxReplicas"], [_container(group["template"])], gpu_resource)
        for group in cluster["workerGroupSpecs"]
    ]


def need(body: dict[str, Any], gpu_resource: str) -> dict[str, float]:
    """The job's total in the words of a ResourceQuota."""
    table = rows(body, gpu_resource)
    memory, cpu = sum(row.memory for row in table), sum(row.cpu for row in table)
    total = {
        "pods": float(sum(row.pods for row in table)),
        "requests.cpu": cpu,
        "requests.memory": memory,
        "limits.memory": memory,
        f"requests.{gpu_resource}": float(sum(row.gpus for row in table)),
    }
    if "cpu" in _container(body["spec"]["submitterPodTemplate"])["resources"]["limits"]:
        total["limits.cpu"] = cpu
    return total


def _container(template: dict[str, Any]) -> dict[str, Any]:
    box: dict[str, Any] = template["spec"]["containers"][0]
    return box


def _row(role: str, pods: int, boxes: list[dict[str, Any]], gpu_resource: str) -> Row:
    requests = [box["resources"]["requests"] for box in boxes]
    gpus = sum(int(request.get(gpu_resource, 0)) for request in requests)
    return Row(
        role=role,
        pods=pods,
        cpu=pods * sum(parse(request["cpu"], "cpu") for request in requests),
        memory=pods * sum(parse(request["memory"], "memory") for request in requests),
        gpus=pods * gpus,
        per_pod_gpus=gpus,
    )
