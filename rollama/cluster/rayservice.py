"""The endpoint as a RayService: `serve.app:build_app` behind KubeRay.

Ray Serve silently ignores unknown keys of its configuration; a `max_ongoing_requests` one level too deep leaves the
endpoint without a limit and without a word. The models here know every key we use and refuse the others.
"""

from __future__ import annotations

from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from rollama.cluster import names, pods, rules
from rollama.cluster.config import PodSize, SiteConfig
from rollama.cluster.rayjob import API_VERSION, autoscaling, head
from rollama.core.config import StrictModel

IMPORT_PATH = "serve.app:build_app"


class Autoscaling(StrictModel):
    """Replicas of one deployment; Ray's own default for max_replicas is 1, so it must be said."""

    min_replicas: int = Field(1, ge=0)
    initial_replicas: int | None = Field(None, ge=0)
    max_replicas: int = Field(ge=1)
    target_ongoing_requests: float = Field(2, gt=0)
    look_back_period_s: float = Field(30, gt=0)
    upscale_delay_s: float = Field(30, ge=0)
    downscale_delay_s: float = Field(600, ge=0)

    @model_validator(mode="after")
    def _steady(self) -> Autoscaling:
        if self.min_replicas > self.max_replicas:
            raise ValueError("accepted is min_replicas <= max_replicas")
        if min(self.upscale_delay_s, self.downscale_delay_s) < self.look_back_period_s:
            raise ValueError("accepted are delays >= look_back_period_s; shorter ones make the replicas oscillate")
        return self


class ActorOptions(StrictModel):
    """What a replica reserves."""

    num_cpus: float | None = Field(None, ge=0)
    num_gpus: float | None = Field(None, ge=0)
    memory: float | None = Field(None, gt=0)


class Deployment(StrictModel):
    """Overrides of one deployment of our application."""

    name: Literal["pipeline", "text", "segmentation"]
    num_replicas: int | None = Field(None, ge=1)
    max_ongoing_requests: int | None = Field(None, ge=1)
    max_queued_requests: int | None = Field(None, ge=-1)
    max_replicas_per_node: int | None = Field(None, ge=1, le=100)
    graceful_shutdown_timeout_s: float | None = Field(None, gt=0)
    health_check_period_s: float | None = Field(None, gt=0)
    health_check_timeout_s: float | None = Field(None, gt=0)
    ray_actor_options: ActorOptions | None = None
    autoscaling_config: Autoscaling | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Deployment:
        if self.num_replicas is not None and self.autoscaling_config is not None:
            raise ValueError("accepted is num_replicas or autoscaling_config")
        limit, auto = self.max_ongoing_requests, self.autoscaling_config
        if limit is not None and auto is not None and auto.target_ongoing_requests >= limit:
            raise ValueError("accepted is target_ongoing_requests < max_ongoing_requests")
        return self


class Claim(StrictModel):
    """A persistent volume claim in every Ray pod."""

    name: str
    mount: str = Field(pattern=r"^/[\w./-]+$")
    read_only: bool = True


class ServiceJob(StrictModel):
    """What to serve."""

    name: str
    args: dict[str, Any] = Field(description="keys of serve.config.ServeConfig, which the application checks")
    api_key_secret: str = Field(description="Secret whose key api_key is the endpoint's bearer key")
    claims: list[Claim] = Field(default_factory=list)
    deployments: list[Deployment] = Field(default_factory=list)
    request_timeout_s: float = Field(630, gt=0)
    workers: int = Field(1, ge=1)
    cpus_per_worker: int = Field(2, ge=1)
    gpus_per_worker: int = Field(0, ge=0)
    upgrade: Literal["NewCluster", "None"] = Field("None", description="NewCluster needs room for two clusters")
    initializing_timeout_s: int = Field(1800, ge=60)


def serve_config(job: ServiceJob) -> dict[str, Any]:
    """The content of `serveConfigV2`."""
    application: dict[str, Any] = {
        "name": "rollama",
        "route_prefix": "/",
        "import_path": IMPORT_PATH,
        "args": job.args,
    }
    if job.deployments:
        application["deployments"] = [item.model_dump(exclude_none=True) for item in job.deployments]
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": 8000, "request_timeout_s": job.request_timeout_s},
        "applications": [application],
    }


def build_rayservice(job: ServiceJob, site: SiteConfig, namespace: str) -> dict[str, Any]:
    """The custom resource.

    Raises:
        ConfigError: whatever KubeRay or Kubernetes would refuse later, by key.
    """
    names.check_resource_name(job.name, "name")
    rules.check_site(site)
    rules.check_no_credentials([str(value) for value in job.args.values()])
    rules.check_declared_gpus(job.workers * job.gpus_per_worker, site)
    labels = {
        "app.kubernetes.io/name": "rollama",
        "app.kubernetes.io/component": "serve",
        "app.kubernetes.io/managed-by": "rollama",
        names.LABEL_JOB: job.name,
    }
    floor = 0 if site.autoscaling else job.workers
    cluster: dict[str, Any] = {
        "rayVersion": site.ray_version,
        "authOptions": {"mode": "token", "secretName": site.token_secret},
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0"},
            "template": _serving(head(site, labels), job),
        },
        "workerGroupSpecs": [
            {
                "groupName": "replicas",
                "replicas": floor,
                "minReplicas": floor,
                "maxReplicas": job.workers,
                "rayStartParams": {"num-cpus": str(job.cpus_per_worker)},
                "template": _serving(_worker(job, site, labels), job),
            }
        ],
    }
    if site.autoscaling:
        cluster |= autoscaling(site)
    body = {
        "apiVersion": API_VERSION,
        "kind": "RayService",
        "metadata": {
            "name": job.name,
            "namespace": namespace,
            "labels": labels,
            "annotations": {"ray.io/initializing-timeout": f"{job.initializing_timeout_s}s"},
        },
        "spec": {
            "serveConfigV2": yaml.safe_dump(serve_config(job), sort_keys=False),
            "upgradeStrategy": {"type": job.upgrade},
            "rayClusterConfig": cluster,
        },
    }
    rules.check_rayservice(body)
    return body


def _worker(job: ServiceJob, site: SiteConfig, labels: dict[str, str]) -> dict[str, Any]:
    size = PodSize(cpu=site.worker.cpu, memory=site.worker.memory)
    needs = pods.resources(size, site, str(job.cpus_per_worker), job.gpus_per_worker)
    env = pods.environment({"OMP_NUM_THREADS": str(job.cpus_per_worker)})
    box = pods.with_storage(pods.container("ray-worker", site, needs, env), site)
    box["ports"] = [{"name": "serve", "containerPort": 8000}]
    restart = "Never" if site.autoscaling else None
    return pods.template(box, site, {**labels, names.LABEL_ROLE: "worker"}, restart=restart)


def _serving(template: dict[str, Any], job: ServiceJob) -> dict[str, Any]:
    """The template with the endpoint's key, its port and the claims."""
    spec = template["spec"]
    box = spec["containers"][0]
    key = pods.secret_value("ROLLAMA_API_KEY", job.api_key_secret, "api_key")
    mounts = [{"name": item.name, "mountPath": item.mount, "readOnly": item.read_only} for item in job.claims]
    volumes = [
        {"name": item.name, "persistentVolumeClaim": {"claimName": item.name, "readOnly": item.read_only}}
        for item in job.claims
    ]
    ports = [port for port in box.get("ports", []) if port["name"] != "serve"]
    box = {
        **box,
        "env": [*box["env"], key],
        "volumeMounts": [*box["volumeMounts"], *mounts],
        "ports": [*ports, {"name": "serve", "containerPort": 8000}],
    }
    return {**template, "spec": {**spec, "containers": [box], "volumes": [*spec["volumes"], *volumes]}}
