"""Settings of the endpoint, strict and printable: the key itself is never among them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from rollama.cluster.serveconfig import Autoscaling
from rollama.core.config import StrictModel
from rollama.core.registry import Decoding, EngineName

VARIABLE = "ROLLAMA_API_KEY"
CENTRE = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"


class OidcConfig(StrictModel):
    """Tokens of an identity provider. Keys come from a file, or from the provider's address, which is then asked."""

    issuer: str
    audience: str
    jwks_file: Path | None = None
    jwks_url: str | None = Field(default=None, pattern=r"^https://")
    algorithms: tuple[Literal["RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "EdDSA"], ...] = ("RS256", "ES256")
    scope_claim: str = "scope"
    scope_prefix: str = Field(default="rollama.", description="rollama.texts, rollama.targets")
    leeway_s: float = Field(default=30.0, ge=0, le=300)
    cache_s: int = Field(default=3600, ge=60, description="how long the provider's keys are kept")
    per_minute: int = Field(default=0, ge=0, description="requests a minute of one caller in one server; 0: no limit")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.jwks_file is None) == (self.jwks_url is None):
            raise ValueError("give jwks_file or jwks_url")
        return self


class ServeConfig(StrictModel):
    """What the endpoint serves, where, and its limits."""

    models: Path | None = Field(
        default=None,
        description="folder with the artefacts s/, p/ and seg/; without it the deployments' user_config names them",
    )
    data_folder: Path = Field(description="the only folder from which CTs are read")
    store: str = Field(description="folder or s3://bucket/prefix for jobs and their results; holds patients' data")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    api_key_env: str = Field(default=VARIABLE, description="environment variable that holds the bearer key")
    api_key_file: Path | None = Field(default=None, description="file that holds the key; goes before the variable")
    keys_file: Path | None = Field(default=None, description="YAML list of keys with names, scopes, ends and rates")
    oidc: OidcConfig | None = None
    centre: str = Field(
        default="unknown", pattern=CENTRE, description="of all callers whose key names none; a tag of the drift counts"
    )
    audit: str | None = Field(default=None, description="folder or s3://... for the audit trail; default: the store")
    audit_heads: str | None = Field(
        default=None, description="folder or s3://... elsewhere, for signed heads of the trail"
    )
    audit_key_file: Path | None = Field(default=None, description="Ed25519 private key in PEM that signs the heads")
    audit_head_every_s: float = Field(default=60.0, gt=0)
    deadline_s: float = Field(default=600.0, gt=0, description="longest time for one request or job, waiting included")
    ready_timeout_s: float = Field(default=2.0, gt=0, description="for the models to say that they are there")
    ready_grace_s: float = Field(
        default=10.0, ge=0, description="models that answered so recently, and are silent now, are still sent requests"
    )
    max_body_bytes: int = Field(default=2 << 20, gt=0, description="of a request without an upload")
    max_upload_bytes: int = Field(default=512 << 20, gt=0)
    max_ct_bytes: int = Field(default=2 << 30, gt=0, description="of an uploaded CT once it is unpacked")
    max_ct_voxels: int = Field(default=300_000_000, gt=0)
    keep_s: float = Field(default=24 * 3600.0, gt=0, description="jobs and results are deleted so long after a request")
    lease_s: float = Field(default=30.0, gt=0, description="a job whose server is silent so long is begun again")
    drain_s: float = Field(default=60.0, ge=0, description="time that running jobs get when the server stops")
    close_connections: bool = Field(
        default=False, description="after each answer: clients then follow a Service that leads to another cluster"
    )
    max_http_requests: int = Field(
        default=100, ge=1, description="open requests of one ingress replica; as many may wait"
    )
    max_ongoing_requests: int = Field(default=8, ge=1, description="jobs in work at once in one ingress replica")
    max_queued_requests: int = Field(default=16, ge=0, description="jobs that may wait there; further ones get 503")
    text_scaling: Autoscaling = Autoscaling(max_replicas=1)
    segmentation_scaling: Autoscaling = Autoscaling(max_replicas=1)
    plan_decoding: Decoding = Field(
        default=Decoding.FREE, description="constrained: hold P to the plan's form, so that every plan it ends parses"
    )
    text_engine: EngineName = Field(
        default=EngineName.BATCH, description="what writes texts; vllm: on a GPU, in an image with vLLM"
    )
    text_batch_tokens: int = Field(
        default=16_384, ge=1, description="rows times the longest that a row may become, in the running text batch"
    )
    segmentation_voxels: int = Field(
        default=200_000_000, ge=1, description="of the CTs in work at once in one replica; a single one always is"
    )
    segmentation_batch_voxels: int = Field(
        default=0, ge=0, description="of several patients' windows in one pass of the network (GPU); 0: take turns"
    )
    text_cpus: float = Field(default=1.0, ge=0)
    text_gpus: float = Field(default=0.0, ge=0)
    segmentation_cpus: float = Field(default=1.0, ge=0)
    segmentation_gpus: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _kept(self) -> Self:
        if self.keep_s <= self.deadline_s:
            raise ValueError("accepted is keep_s > deadline_s: a job must not be deleted while it runs")
        return self

    @model_validator(mode="after")
    def _signed(self) -> Self:
        if (self.audit_heads is None) != (self.audit_key_file is None):
            raise ValueError("audit_heads and audit_key_file belong together: give both or none")
        return self
