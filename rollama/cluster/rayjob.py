"""A training run as a RayJob: head, one pod a Ray Train worker, and a submitter whose log outlives the cluster.

The submission mode is K8sJobMode: the submitter pod stays after the RayCluster is gone, so its log can still be read,
and when it is replaced the new one re-attaches to the job by its id instead of starting a second. The head offers no
CPU, so training runs on workers only; losing a worker is Ray Train's business, losing the head restarts the command,
which resumes from the last checkpoint because workspace and run name are the same.
"""

from __future__ import annotations

import re
import shlex
from typing import Any, Literal

from pydantic import Field

from rollama.cluster import names, pods, quantity, rules
from rollama.cluster.config import PodSize, SiteConfig
from rollama.cluster.shell import entrypoint
from rollama.core.config import StrictModel
from rollama.core.errors import ConfigError

API_VERSION = "ray.io/v1"
GROUP = "workers"
PORTS = {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "metrics": 8080}
START_TIMEOUT_S = 600
"""Ray Train's patience for its workers; its own 60 s are too short where pods are still being scheduled."""

_DATASET = re.compile(r"[a-z][a-z0-9+.-]*://\S+@sha256:([0-9a-f]{64})")
_WORKSPACE = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w.=+-]+)*/?", re.ASCII)


class Job(StrictModel):
    """What to run: the training of one model, or the evaluation of all, on one data set, in one workspace."""

    task: Literal["s", "p", "seg", "evaluate"]
    run: str = Field(description="name of run and model; the same name and workspace resume")
    preset: str = Field("", description="of a training")
    overrides: list[str] = Field(default_factory=list)
    options: list[str] = Field(default_factory=list, description="more of the command line")
    dataset: str = Field(description="store reference ending in @sha256:<64 hex digits>")
    workspace: str = Field(description="s3://bucket/prefix")
    config_digest: str = Field(description="hash of the resolved configuration of this model")
    workers: int = Field(ge=1)
    cpus_per_worker: int = Field(1, ge=1)
    gpus_per_worker: float = Field(0, ge=0)
    memory_gib_per_worker: float | None = Field(None, gt=0)
    deadline_s: int | None = Field(None, ge=60, le=2**31 - 1, description="instead of the site's")

    def command(self) -> list[str]:
        """The command that runs on the head."""
        places = ["--dataset", self.dataset, "--workspace", self.workspace]
        if self.task == "evaluate":
            return ["rollama", "evaluate", *places, *self.options]
        settings = [part for override in self.overrides for part in ("--set", override)]
        return [
            "rollama", "train", self.task, "--preset", self.preset, *settings, *places, "--name", self.run,
            *self.options,
        ]  # fmt: skip

    def base_name(self, site: SiteConfig) -> str:
        """Name of the RayJob, a function of everything that decides the result."""
        digest = self.dataset.rpartition("@sha256:")[2]
        identity = {
            "config": self.config_digest,
            "dataset": digest,
            "workspace": self.workspace.rstrip("/"),
            "image": site.image,
        }
        return names.base_name(self.task, self.run, identity)


def build_rayjob(job: Job, site: SiteConfig, namespace: str, attempt: int = 1) -> dict[str, Any]:
    """The custom resource.

    Raises:
        ConfigError: whatever KubeRay, Kubernetes or the command on the cluster would refuse later, by key.
    """
    _check(job, site)
    base = job.base_name(site)
    labels = names.labels(base, attempt, job.task, job.run)
    if site.queue:
        labels["kueue.x-k8s.io/queue-name"] = site.queue
    spec: dict[str, Any] = {
        "submissionMode": "K8sJobMode",
        "entrypoint": entrypoint(job.command()),
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": site.ttl_s,
        "activeDeadlineSeconds": job.deadline_s or site.deadline_s,
        "preRunningDeadlineSeconds": min(site.pre_running_deadline_s, job.deadline_s or site.deadline_s),
        "backoffLimit": site.retries,
        "submitterConfig": {"backoffLimit": site.submitter_retries},
        "submitterPodTemplate": _submitter(site, labels),
        "rayClusterSpec": _cluster(job, site, labels),
    }
    labels[names.LABEL_HASH] = names.spec_hash(spec)
    body = {
        "apiVersion": API_VERSION,
        "kind": "RayJob",
        "metadata": {
            "name": names.attempt_name(base, attempt),
            "namespace": namespace,
            "labels": labels,
            "annotations": {names.COMMAND: shlex.join(job.command())},
        },
        "spec": spec,
    }
    rules.check_rayjob(body)
    return body


def _check(job: Job, site: SiteConfig) -> None:
    names.check_run_name(job.run)
    if not _DATASET.fullmatch(job.dataset):
        raise ConfigError(
            f"--dataset: found {job.dataset!r}; a cluster job accepts <store-uri>@sha256:<64 hex digits>, "
            "as 'rollama push dataset' prints it"
        )
    if not _WORKSPACE.fullmatch(job.workspace):
        raise ConfigError(f"--workspace: found {job.workspace!r}; a cluster job accepts s3://bucket/prefix")
    if job.preset.endswith((".yaml", ".yml")):
        raise ConfigError(
            f"--preset: found the file {job.preset!r}, which is not in the image; give a bundled preset and --set"
        )
    if job.gpus_per_worker not in (0, 1):
        raise ConfigError(
            f"scale.gpus_per_worker: found {job.gpus_per_worker:g}; on a cluster 0 or 1 is accepted, "
            "as a pod gets whole GPUs"
        )
    rules.check_no_credentials([*job.command()])
    rules.check_site(site)
    rules.check_declared_gpus(int(job.workers * job.gpus_per_worker), site)


def _submitter(site: SiteConfig, labels: dict[str, str]) -> dict[str, Any]:
    box = pods.container("ray-job-submitter", site, pods.resources(site.submitter, site), pods.environment({}))
    return pods.template(box, site, _pod_labels(labels, "submitter"), restart="Never")


def _cluster(job: Job, site: SiteConfig, labels: dict[str, str]) -> dict[str, Any]:
    floor = 0 if site.autoscaling else job.workers
    spec: dict[str, Any] = {
        "rayVersion": site.ray_version,
        "authOptions": {"mode": "token", "secretName": site.token_secret},
        "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": head(site, labels)},
        "workerGroupSpecs": [
            {
                "groupName": GROUP,
                "replicas": floor,
                "minReplicas": floor,
                "maxReplicas": job.workers,
                "rayStartParams": {"num-cpus": str(job.cpus_per_worker)},
                "template": _worker(job, site, labels),
            }
        ],
    }
    if site.autoscaling:
        spec |= autoscaling(site)
    return spec


def head(site: SiteConfig, labels: dict[str, str]) -> dict[str, Any]:
    """The head's template: driver, control store, dashboard; under autoscaling its side-car calls the API server."""
    env = with_hub(pods.environment({"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(START_TIMEOUT_S)}), site)
    box = pods.with_storage(pods.container("ray-head", site, pods.resources(site.head, site), env), site)
    box["ports"] = [{"name": name, "containerPort": port} for name, port in PORTS.items()]
    return pods.template(
        box,
        site,
        _pod_labels(labels, "head"),
        token=site.autoscaling,
        account=site.autoscaler_service_account if site.autoscaling else None,
        restart="Never" if site.autoscaling else None,
    )


def autoscaling(site: SiteConfig) -> dict[str, Any]:
    """The autoscaler v2 beside the head, as restricted as every other container."""
    return {
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "idleTimeoutSeconds": site.idle_timeout_s,
            "imagePullPolicy": site.image_pull_policy,
            "resources": pods.resources(site.autoscaler, site),
            "securityContext": pods.SECURITY,
            "env": pods.environment({}),
            "volumeMounts": [pods.TMP, pods.ACCOUNT],
        },
    }


def _worker(job: Job, site: SiteConfig, labels: dict[str, str]) -> dict[str, Any]:
    size = worker_size(job, site)
    env = with_hub(pods.environment({"OMP_NUM_THREADS": str(job.cpus_per_worker)}), site)
    needs = pods.resources(size, site, str(job.cpus_per_worker), int(job.gpus_per_worker))
    box = pods.with_storage(pods.container("ray-worker", site, needs, env), site)
    return pods.template(box, site, _pod_labels(labels, "worker"), restart="Never" if site.autoscaling else None)


def with_hub(env: list[dict[str, Any]], site: SiteConfig) -> list[dict[str, Any]]:
    """Lets a pod use the hub where the site has a token for it: the head, which looks first, and the workers."""
    if not site.hub_token_secret:
        return env
    kept = [item for item in env if item["name"] != "HF_HUB_OFFLINE"]
    token = pods.secret_value("HF_TOKEN", site.hub_token_secret, "token")
    return [*kept, {"name": "HF_HUB_OFFLINE", "value": "0"}, token]


def worker_size(job: Job, site: SiteConfig) -> PodSize:
    """The site's worker size, with more memory where the preset asks for it."""
    wanted = (job.memory_gib_per_worker or 0) * 2**30
    if wanted <= quantity.parse(site.worker.memory, "worker.memory"):
        return site.worker
    return PodSize(cpu=site.worker.cpu, memory=quantity.gib(wanted))


def _pod_labels(labels: dict[str, str], role: str) -> dict[str, str]:
    kept = {key: value for key, value in labels.items() if key.startswith(("app.kubernetes.io/", "rollama.io/"))}
    return {**kept, names.LABEL_ROLE: role}
