"""Settings of the endpoint, strict and printable: the key itself is never among them."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from rollama.core.config import StrictModel


class ServeConfig(StrictModel):
    """What the endpoint serves, where, and its limits."""

    models: Path = Field(description="folder with the artefacts s/, p/ and seg/")
    data_folder: Path = Field(description="the only folder from which CTs are read")
    results_folder: Path = Field(description="one folder a request is written here")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    api_key_env: str = Field(default="ROLLAMA_API_KEY", description="environment variable that holds the bearer key")
    api_key_file: Path | None = Field(default=None, description="file that holds the key; goes before the variable")
    deadline_s: float = Field(default=600.0, gt=0, description="longest time for one request, queueing included")
    ready_timeout_s: float = Field(default=2.0, gt=0)
    max_body_bytes: int = Field(default=2 << 20, gt=0)
    max_ongoing_requests: int = Field(default=4, ge=1, description="requests in work at once")
    max_queued_requests: int = Field(default=16, ge=0, description="requests that may wait; further ones get 503")
    text_cpus: float = Field(default=1.0, ge=0)
    text_gpus: float = Field(default=0.0, ge=0)
    segmentation_cpus: float = Field(default=1.0, ge=0)
    segmentation_gpus: float = Field(default=0.0, ge=0)
