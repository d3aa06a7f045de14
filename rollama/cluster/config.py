"""Where jobs go: the namespace, image, Secrets and limits of one site, as a strict YAML file or ConfigMap.

A hospital's administrator writes this once (the Helm chart does, as ConfigMap `rollama-site`, key `site.yaml`), so that
whoever submits names only what to train. Secrets appear by name, never by value.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from rollama.cluster import quantity
from rollama.core.config import StrictModel, build, parse_yaml, read_yaml
from rollama.core.errors import ConfigError

CONFIG_MAP, CONFIG_KEY, SITE_VARIABLE = "rollama-site", "site.yaml", "ROLLAMA_SITE"
_SECRET_WORDS = re.compile(r"SECRET|PASSWORD|PASSWD|TOKEN|ACCESS_KEY|API_KEY|CREDENTIAL", re.IGNORECASE)
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _checked(check: Any, value: str, key: str) -> float:
    """Run a check of ours inside pydantic, which collects ValueError."""
    try:
        return float(check(value, key))
    except ConfigError as error:
        raise ValueError(str(error).partition(": ")[2]) from None


class PodSize(StrictModel):
    """CPU and memory of a pod; memory is request and limit, CPU is requested."""

    cpu: str | None = Field(None, description="requested cores; default: what the preset gives a worker")
    memory: str = "2Gi"

    @field_validator("cpu", "memory", mode="before")
    @classmethod
    def _number_is_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value

    @field_validator("cpu")
    @classmethod
    def _is_cpu(cls, value: str | None) -> str | None:
        if value is not None and _checked(quantity.parse, value, "cpu") <= 0:
            raise ValueError("accepted is more than 0")
        return value

    @field_validator("memory")
    @classmethod
    def _is_memory(cls, value: str) -> str:
        _checked(quantity.memory, value, "memory")
        return value


class Toleration(StrictModel):
    """A node taint that job pods tolerate."""

    key: str | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class SiteConfig(StrictModel):
    """Where jobs go and what they may use."""

    namespace: str | None = Field(None, description="default: that of the kubeconfig's context")
    image: str = Field(min_length=1, description="image with rollama and ray; give a digest in production")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: list[str] = Field(default_factory=list)
    service_account: str | None = Field(None, description="account of job pods; its token is not mounted")
    autoscaler_service_account: str | None = Field(
        None, description="account of the head under autoscaling; default: KubeRay makes one with the rights it needs"
    )
    token_secret: str = Field(description="Secret whose key auth_token is Ray's token")
    storage_secret: str | None = Field(None, description="Secret whose keys become variables, AWS_ACCESS_KEY_ID ...")
    storage_env: dict[str, str] = Field(
        default_factory=dict, description="variables that are no secret: AWS_ENDPOINT_URL, AWS_REGION"
    )
    hub_token_secret: str | None = Field(None, description="Secret with key token; with it, hub downloads are allowed")
    workspace: str | None = Field(None, description="s3://bucket/prefix for checkpoints, metrics and models")
    dataset: str | None = Field(None, description="reference of the data set that is meant when none is given")
    ray_version: str = "2.60.0"
    head: PodSize = PodSize(cpu="1", memory="4Gi")
    worker: PodSize = PodSize(memory="4Gi")
    submitter: PodSize = PodSize(cpu="100m", memory="512Mi")
    autoscaler: PodSize = PodSize(cpu="250m", memory="512Mi")
    cpu_limits: bool = Field(False, description="limit CPU to the request too; needed where a quota counts limits.cpu")
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[Toleration] = Field(default_factory=list)
    runtime_class: str | None = None
    gpu_resource: str = "nvidia.com/gpu"
    max_gpus: int | None = Field(None, ge=0, description="declared capacity; a job that needs more is refused")
    nodes_scale: bool = Field(False, description="the cluster adds nodes by itself: a missing GPU is waited for")
    priority_class: str | None = None
    queue: str | None = Field(None, description="Kueue local queue; the job then starts suspended until admitted")
    autoscaling: bool = Field(False, description="workers scale from zero for the job and back (Ray autoscaler v2)")
    idle_timeout_s: int = Field(60, ge=1, description="seconds until an idle worker pod goes, under autoscaling")
    deadline_s: int = Field(86_400, ge=60, le=2**31 - 1, description="longest life of a job, start to end")
    pre_running_deadline_s: int = Field(3_600, ge=1, le=2**31 - 1, description="longest wait until it runs")
    retries: int = Field(
        0, ge=0, le=20, description="fresh clusters KubeRay tries after any failure, the code's own included"
    )
    submitter_retries: int = Field(4, ge=0, le=20, description="new submitter pods; each re-attaches to the job")
    ttl_s: int = Field(300, ge=0, le=2**31 - 1, description="seconds the pods stay after the end, for the cause")

    @field_validator("namespace")
    @classmethod
    def _is_namespace(cls, value: str | None) -> str | None:
        if value is not None and not _DNS_LABEL.fullmatch(value):
            raise ValueError("accepted are at most 63 lower-case letters, digits and '-'")
        return value

    @field_validator("image")
    @classmethod
    def _is_image(cls, value: str) -> str:
        if re.search(r"\s", value) or "@" in value.split("/")[0]:
            raise ValueError("accepted is a reference such as registry/path/rollama@sha256:<hex>, without credentials")
        return value

    @field_validator(
        "token_secret", "storage_secret", "hub_token_secret", "service_account", "autoscaler_service_account",
        "priority_class", "runtime_class", "queue",
    )  # fmt: skip
    @classmethod
    def _is_object_name(cls, value: str | None) -> str | None:
        if value is not None and not _DNS_NAME.fullmatch(value):
            raise ValueError("accepted is the name of a Kubernetes object: lower-case letters, digits, '-' and '.'")
        return value

    @model_validator(mode="after")
    def _no_secrets(self) -> Self:
        """For the whole site, as an error of one field would repeat the field's value, here the secret."""
        for name, text in self.storage_env.items():
            if not _ENV_NAME.fullmatch(name):
                raise ValueError(f"storage_env: {name!r} is no variable name")
            if _SECRET_WORDS.search(name) or re.search(r"//[^/@\s]+@", text):
                raise ValueError(
                    f"storage_env: {name} looks like a secret; put it into the Secret that storage_secret names"
                )
        return self


def read_site(path: Path) -> SiteConfig:
    """Read a site from a YAML file.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown or not accepted.
    """
    return build(SiteConfig, read_yaml(path), str(path))


def parse_site(text: str, source: str) -> SiteConfig:
    """Read a site from the text of a ConfigMap.

    Raises:
        ConfigError: not a YAML mapping, or a key is unknown or not accepted.
    """
    return build(SiteConfig, parse_yaml(text, source), source)
