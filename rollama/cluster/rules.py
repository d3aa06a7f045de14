"""What KubeRay and Kubernetes would refuse or silently misread later, refused before anything is created.

The operator reports a bad RayJob minutes after it was accepted, in a status nobody waits for; the API server prunes
what it does not know; the scheduler waits for ever for a GPU that no node has. The rules for the resource itself follow
KubeRay's `validation.go` (v1.6.2), key by key; those for capacity use what the account may read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from rollama.cluster import names
from rollama.cluster.config import SiteConfig
from rollama.cluster.exits import Refused
from rollama.cluster.quantity import gib, parse
from rollama.core.errors import ConfigError

MIN_RAY = (2, 52)
"""The first Ray with token authentication."""
MIN_MEMORY = 512 * 2**20

_MODES = ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_CREDENTIALS = re.compile(r"://[^/@\s]*:[^/@\s]*@|(?i:(secret|password|token|api_?key)=\S)")
_START_RESOURCES = ("num-cpus", "num-gpus", "memory", "resources")


def refuse(key: str, found: Any, accepted: str) -> ConfigError:
    """The error of this module: key, what was found, what is accepted."""
    return ConfigError(f"{key}: found {found!r}; accepted: {accepted}")


def check_no_credentials(arguments: Iterable[str]) -> None:
    """A command is readable by everybody who may list jobs.

    Raises:
        ConfigError: an argument carries a password or token; the message does not repeat it.
    """
    for argument in arguments:
        if _CREDENTIALS.search(argument):
            raise ConfigError(
                "a command-line argument carries a password or token, which the job's metadata would show to "
                "everybody; put it into the Secret that the site's storage_secret or hub_token_secret names"
            )


def check_site(site: SiteConfig) -> None:
    """Combinations of site settings.

    Raises:
        ConfigError: Kueue and autoscaling together, a Ray without token authentication, or a pod in which Ray cannot
            start: its object store takes three tenths of the memory, and at least 75 MiB of it.
    """
    for key, size in (("head", site.head), ("worker", site.worker)):
        if parse(size.memory, f"{key}.memory") < MIN_MEMORY:
            raise refuse(f"{key}.memory", size.memory, f"at least {gib(MIN_MEMORY)}; with less Ray does not start")
    if site.queue and site.autoscaling:
        raise refuse("queue with autoscaling", site.queue, "one of the two; Kueue does not admit autoscaled RayJobs")
    check_ray_version(site.ray_version, "ray_version")


def check_ray_version(version: str, key: str) -> None:
    """KubeRay wants to know a Ray with token authentication.

    Raises:
        ConfigError: no version, or one before 2.52.
    """
    match = re.match(r"(\d+)\.(\d+)(\.\d+)?", version)
    if match is None or (int(match[1]), int(match[2])) < MIN_RAY:
        raise refuse(key, version, "2.52.0 or later, the first Ray whose token authentication KubeRay can set up")


def check_declared_gpus(needed: int, site: SiteConfig) -> None:
    """The capacity the site declares.

    Raises:
        ConfigError: the job needs more GPUs.
    """
    if site.max_gpus is not None and needed > site.max_gpus:
        raise refuse("GPUs of the job", needed, f"at most {site.max_gpus} (max_gpus of this site); lower scale.workers")


def check_rayjob(body: dict[str, Any]) -> None:
    """KubeRay's ValidateRayJobMetadata and ValidateRayJobSpec.

    Raises:
        ConfigError: by key.
    """
    _check_metadata(body["metadata"])
    spec = body["spec"]
    shutdown, mode = spec.get("shutdownAfterJobFinishes", False), spec.get("submissionMode", "K8sJobMode")
    if mode not in _MODES:
        raise refuse("spec.submissionMode", mode, ", ".join(_MODES))
    if spec.get("suspend") and not shutdown:
        raise refuse("spec.suspend", True, "only with shutdownAfterJobFinishes: true")
    if spec.get("ttlSecondsAfterFinished", 0) < 0:
        raise refuse("spec.ttlSecondsAfterFinished", spec["ttlSecondsAfterFinished"], "0 or more")
    if spec.get("ttlSecondsAfterFinished", 0) and not shutdown:
        raise refuse(
            "spec.ttlSecondsAfterFinished", spec["ttlSecondsAfterFinished"], "only with shutdownAfterJobFinishes"
        )
    if "deletionStrategy" in spec and shutdown:
        raise refuse("spec.deletionStrategy", "set", "only without shutdownAfterJobFinishes")
    for key in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if key in spec and spec[key] <= 0:
            raise refuse(f"spec.{key}", spec[key], "more than 0")
    backoff = spec.get("backoffLimit", 0)
    if backoff < 0:
        raise refuse("spec.backoffLimit", backoff, "0 or more")
    selector, cluster = spec.get("clusterSelector"), spec.get("rayClusterSpec")
    if selector and (spec.get("suspend") or backoff or mode == "SidecarMode"):
        raise refuse("spec.clusterSelector", selector, "only without suspend, backoffLimit and SidecarMode")
    if not selector and cluster is None:
        raise refuse("spec.rayClusterSpec", None, "a RayCluster, or clusterSelector")
    if mode == "InteractiveMode" and backoff:
        raise refuse("spec.backoffLimit", backoff, "0 in InteractiveMode")
    if mode == "SidecarMode" and ("submitterPodTemplate" in spec or "submitterConfig" in spec):
        raise refuse("spec.submitterPodTemplate or submitterConfig", "set", "neither in SidecarMode")
    if "submitterPodTemplate" in spec:
        _check_template("spec.submitterPodTemplate", spec["submitterPodTemplate"])
    if cluster is not None:
        check_cluster("spec.rayClusterSpec", cluster)


def check_rayservice(body: dict[str, Any]) -> None:
    """KubeRay's ValidateRayServiceMetadata and ValidateRayServiceSpec.

    Raises:
        ConfigError: by key.
    """
    _check_metadata(body["metadata"])
    spec = body["spec"]
    kind = spec.get("upgradeStrategy", {}).get("type", "NewCluster")
    if kind not in ("NewCluster", "None"):
        raise refuse("spec.upgradeStrategy.type", kind, "NewCluster (needs room for two clusters) or None (in place)")
    if spec.get("rayClusterDeletionDelaySeconds", 0) < 0:
        raise refuse("spec.rayClusterDeletionDelaySeconds", spec["rayClusterDeletionDelaySeconds"], "0 or more")
    if "headService" in spec["rayClusterConfig"]["headGroupSpec"]:
        raise refuse("spec.rayClusterConfig.headGroupSpec.headService", "set", "nothing: KubeRay names it")
    check_cluster("spec.rayClusterConfig", spec["rayClusterConfig"])


def check_cluster(key: str, spec: dict[str, Any]) -> None:
    """KubeRay's ValidateRayClusterSpec, and our own: token authentication always.

    Raises:
        ConfigError: by key.
    """
    auth = spec.get("authOptions") or {}
    if auth.get("mode") != "token" or not auth.get("secretName") or auth.get("enableK8sTokenAuth"):
        raise refuse(f"{key}.authOptions", auth, "mode: token with the secretName of Ray's token, nothing else")
    check_ray_version(str(spec.get("rayVersion", "")), f"{key}.rayVersion")
    if "upgradeStrategy" in spec:
        raise refuse(f"{key}.upgradeStrategy", "set", "nothing inside a RayJob or RayService")
    scaled = bool(spec.get("enableInTreeAutoscaling"))
    groups = [("headGroupSpec", spec["headGroupSpec"])]
    groups += [(f"workerGroupSpecs[{index}]", group) for index, group in enumerate(spec.get("workerGroupSpecs", []))]
    for name, group in groups:
        where, start = f"{key}.{name}", group.get("rayStartParams", {})
        if "labels" in start:
            raise refuse(f"{where}.rayStartParams.labels", start["labels"], "nothing; use the group's labels")
        if group.get("resources") and any(item in start for item in _START_RESOURCES):
            raise refuse(f"{where}.resources", group["resources"], "nothing beside rayStartParams")
        for item, value in start.items():
            if not isinstance(value, str):
                raise refuse(f"{where}.rayStartParams.{item}", value, "text; quote the number")
        _check_template(f"{where}.template", group["template"])
        restart = group["template"]["spec"].get("restartPolicy")
        if scaled and restart not in (None, "Never"):
            raise refuse(f"{where}.template.spec.restartPolicy", restart, "Never under autoscaler v2")
    for name, group in groups[1:]:
        low, high = group.get("minReplicas"), group.get("maxReplicas")
        if low is None or high is None or not 0 <= low <= high:
            raise refuse(f"{key}.{name}.minReplicas/maxReplicas", (low, high), "0 <= minReplicas <= maxReplicas")


def _check_metadata(metadata: dict[str, Any]) -> None:
    names.check_resource_name(metadata["name"], "metadata.name")
    for key, value in metadata.get("labels", {}).items():
        if not _LABEL_VALUE.fullmatch(value):
            raise refuse(f"metadata.labels[{key}]", value, "at most 63 letters, digits, '-', '_' and '.'")


def _check_template(key: str, template: dict[str, Any]) -> None:
    boxes = template["spec"].get("containers", [])
    if not boxes:
        raise refuse(f"{key}.spec.containers", [], "at least one container")
    for box in boxes:
        seen: set[str] = set()
        for variable in box.get("env", []):
            if variable["name"] in seen:
                raise refuse(f"{key}: variable {variable['name']}", "twice", "once")
            seen.add(variable["name"])
            if variable["name"] in ("RAY_enable_autoscaler_v2", "RAY_REDIS_ADDRESS", "RAY_AUTH_TOKEN"):
                raise refuse(f"{key}: variable {variable['name']}", "set", "nothing; KubeRay sets it")


def check_nodes(gpus_per_pod: int, pods: int, nodes: Sequence[dict[str, Any]] | None, site: SiteConfig) -> None:
    """Whether the nodes that exist could ever hold the pods' GPUs. `None` (not allowed to look) passes.

    Raises:
        Refused: no node has a pod's GPUs, or all nodes together have fewer than the job needs.
    """
    if nodes is None or site.nodes_scale or not gpus_per_pod:
        return
    there = [int(float(node.get("status", {}).get("allocatable", {}).get(site.gpu_resource, 0))) for node in nodes]
    room = sum(count // gpus_per_pod for count in there)
    if room < pods:
        raise Refused(
            f"GPUs of the job: found {pods} pods with {gpus_per_pod} {site.gpu_resource} each; the {len(there)} nodes "
            f"of this cluster have {sum(there)}; lower scale.workers, choose another preset, or set "
            "nodes_scale: true in the site if nodes are added on demand"
        )


def check_quotas(need: dict[str, float], quotas: Sequence[dict[str, Any]] | None) -> None:
    """Whether the job fits the namespace's quotas when they are empty. `None` (not allowed to look) passes.

    Raises:
        Refused: a hard limit is below the job's need.
    """
    for quota in quotas or ():
        if quota.get("spec", {}).get("scopes") or quota.get("spec", {}).get("scopeSelector"):
            continue
        name = quota["metadata"]["name"]
        for item, limit in quota.get("spec", {}).get("hard", {}).items():
            wanted = need.get(item, need.get(f"requests.{item}", 0.0))
            if wanted > parse(limit, f"ResourceQuota {name}, {item}"):
                raise Refused(
                    f"ResourceQuota {name}: the job needs {wanted:g} of {item}, the quota allows {limit}; "
                    "lower scale.workers or the pod sizes, or ask for more"
                )
