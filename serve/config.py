"""Settings of the endpoint, strict and printable: the key itself is never among them."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from rollama.core.config import StrictModel

VARIABLE = "ROLLAMA_API_KEY"


class ServeConfig(StrictModel):
    """What the endpoint serves, where, and its limits."""

    models: Path = Field(description="folder with the artefacts s/, p/ and seg/")
    data_folder: Path = Field(description="the only folder from which CTs are read")
    store: str = Field(description="folder or s3://bucket/prefix for jobs and their results; holds patients' data")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    api_key_env: str = Field(default=VARIABLE, description="environment variable that holds the bearer key")
    api_key_file: Path | None = Field(default=None, description="file that holds the key; goes before the variable")
    deadline_s: float = Field(default=600.0, gt=0, description="longest time for one request or job, waiting included")
    ready_timeout_s: float = Field(default=2.0, gt=0)
    max_body_bytes: int = Field(default=2 << 20, gt=0, description="of a request without an upload")
    max_upload_bytes: int = Field(default=512 << 20, gt=0)
    max_ct_bytes: int = Field(default=2 << 30, gt=0, description="of an uploaded CT once it is unpacked")
    max_ct_voxels: int = Field(default=300_000_000, gt=0)
    keep_s: float = Field(default=24 * 3600.0, gt=0, description="jobs and results are deleted so long after a request")
    lease_s: float = Field(default=30.0, gt=0, description="a job whose server is silent so long is begun again")
    drain_s: float = Field(default=60.0, ge=0, description="time that running jobs get when the server stops")
    max_ongoing_requests: int = Field(default=4, ge=1, description="jobs in work at once in one ingress replica")
    max_queued_requests: int = Field(default=16, ge=0, description="jobs that may wait there; further ones get 503")
    text_cpus: float = Field(default=1.0, ge=0)
    text_gpus: float = Field(default=0.0, ge=0)
    segmentation_cpus: float = Field(default=1.0, ge=0)
    segmentation_gpus: float = Field(default=0.0, ge=0)
