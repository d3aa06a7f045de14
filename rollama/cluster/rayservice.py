"""The endpoint as a RayService: `serve.app:build_app` behind KubeRay.

What Ray Serve itself is told, and why unknown keys are refused, is in `serveconfig`.
"""

from __future__ import annotations

from typing import Any, Literal

import yaml
from pydantic import Field

from rollama.cluster import names, pods, rules
from rollama.cluster.config import PodSize, SiteConfig
from rollama.cluster.rayjob import API_VERSION, autoscaling, head
from rollama.cluster.serveconfig import Deployment, make_serve
from rollama.core.config import StrictModel


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
    workers: int = Field(1, ge=1)
    cpus_per_worker: int = Field(2, ge=1)
    gpus_per_worker: int = Field(0, ge=0)
    upgrade: Literal["NewCluster", "None"] = Field("None", description="NewCluster needs room for two clusters")
    initializing_timeout_s: int = Field(1800, ge=60)


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
    # Without a name: KubeRay gives one to the pods, and its Service of the head finds them by that alone.
    unnamed = {key: value for key, value in labels.items() if key != "app.kubernetes.io/name"}
    floor = 0 if site.autoscaling else job.workers
    cluster: dict[str, Any] = {
        "rayVersion": site.ray_version,
        "authOptions": {"mode": "token", "secretName": site.token_secret},
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0"},
            "template": _serving(head(site, unnamed), job),
        },
        "workerGroupSpecs": [
            {
                "groupName": "replicas",
                "replicas": floor,
                "minReplicas": floor,
                "maxReplicas": job.workers,
                "rayStartParams": {"num-cpus": str(job.cpus_per_worker)},
                "template": _serving(_worker(job, site, unnamed), job),
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
            "serveConfigV2": yaml.safe_dump(make_serve(job.args, job.deployments).plain(), sort_keys=False),
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
