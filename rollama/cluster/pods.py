"""Pod templates that pass Pod Security `restricted` with a read-only root file system.

Every container of a job comes from here: head, workers and submitter; the autoscaler takes `SECURITY` as it cannot be
given a template, and KubeRay's own init container copies that of the worker. Ray writes to /tmp and /dev/shm, so both
are volumes in memory or on the node's scratch disk, and HOME lies below /tmp.
"""

from __future__ import annotations

from typing import Any

from rollama.cluster import quantity
from rollama.cluster.config import PodSize, SiteConfig

USER = 1000
SECURITY: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "privileged": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
POD_SECURITY: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
TMP = {"name": "tmp", "mountPath": "/tmp"}
SHM = {"name": "shm", "mountPath": "/dev/shm"}
ACCOUNT = {"name": "account", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True}
ACCOUNT_VOLUME: dict[str, Any] = {
    "name": "account",
    "projected": {
        "defaultMode": 0o440,
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ],
    },
}
"""What Kubernetes would mount into every container of a pod: only the autoscaler, which mounts `ACCOUNT`, gets it."""


def environment(values: dict[str, str]) -> list[dict[str, Any]]:
    """Variables of every container (offline, no telemetry, HOME on the writable volume), then `values`."""
    common = {
        "HOME": "/tmp/home",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
    }
    return [{"name": name, "value": value} for name, value in {**common, **values}.items()]


def secret_value(variable: str, secret: str, key: str) -> dict[str, Any]:
    """A variable whose value stays in a Secret."""
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def resources(size: PodSize, site: SiteConfig, cpu: str = "1", gpus: int = 0) -> dict[str, Any]:
    """Requests and limits: equal for memory and GPUs."""
    requests = {"cpu": size.cpu or cpu, "memory": size.memory}
    limits = {"memory": size.memory}
    if site.cpu_limits:
        limits["cpu"] = requests["cpu"]
    if gpus:
        requests[site.gpu_resource] = limits[site.gpu_resource] = str(gpus)
    return {"requests": requests, "limits": limits}


def container(name: str, site: SiteConfig, needs: dict[str, Any], env: list[dict[str, Any]]) -> dict[str, Any]:
    """A restricted container of the site's image."""
    return {
        "name": name,
        "image": site.image,
        "imagePullPolicy": site.image_pull_policy,
        "resources": needs,
        "env": env,
        "securityContext": SECURITY,
        "volumeMounts": [TMP, SHM],
    }


def with_storage(box: dict[str, Any], site: SiteConfig) -> dict[str, Any]:
    """The container with the access to the object store: plain settings as they are, keys by reference."""
    box = {**box, "env": box["env"] + [{"name": key, "value": value} for key, value in site.storage_env.items()]}
    if site.storage_secret:
        box["envFrom"] = [{"secretRef": {"name": site.storage_secret}}]
    return box


def template(
    box: dict[str, Any],
    site: SiteConfig,
    labels: dict[str, str],
    token: bool = False,
    account: str | None = None,
    restart: str | None = None,
) -> dict[str, Any]:
    """A pod template around one container.

    Args:
        box: the container.
        site: where the pod goes.
        labels: labels of the pod.
        token: whether there is a volume with the service account's token (the autoscaler, beside the head, mounts it).
        account: service account instead of the site's.
        restart: restart policy, where it must be said.
    """
    memory = quantity.parse(box["resources"]["limits"]["memory"], "memory")
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "containers": [box],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": quantity.gib(memory)}},
            *([ACCOUNT_VOLUME] if token else []),
        ],
    }
    optional: dict[str, Any] = {
        "serviceAccountName": account if token else account or site.service_account,
        "restartPolicy": restart,
        "imagePullSecrets": [{"name": name} for name in site.image_pull_secrets],
        "nodeSelector": site.node_selector,
        "tolerations": [item.model_dump(exclude_none=True) for item in site.tolerations],
        "runtimeClassName": site.runtime_class,
        "priorityClassName": site.priority_class,
    }
    spec |= {key: value for key, value in optional.items() if value}
    return {"metadata": {"labels": labels}, "spec": spec}
