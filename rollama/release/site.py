"""Where a hospital's releases live: one small file that every verb of `rollama release` reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from rollama.core.config import StrictModel, build, read_yaml
from rollama.core.errors import ConfigError

FILE, VARIABLE = "releases.yaml", "ROLLAMA_RELEASES"


class EndpointConfig(StrictModel):
    """The running endpoint. All parts are optional: without any, releases are recorded and nothing is changed."""

    values: Path | None = Field(None, description="file to write: helm values with serve.models")
    command: tuple[str, ...] = Field(
        (), description="run after that; {values} stands for the file, such as helm upgrade ... --values {values}"
    )
    command_timeout_s: float = Field(1800, gt=0)
    url: str | None = Field(None, description="asked until it answers with the new models")
    key_env: str = Field("ROLLAMA_API_KEY", description="variable with the endpoint's bearer key")
    wait_s: float = Field(900, gt=0)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.command and self.values is None:
            raise ValueError("command needs values, the file that it is to apply")
        if self.url is not None and self.values is None:
            raise ValueError("url needs values: something has to bring the models there")
        return self


class Site(StrictModel):
    """`releases.yaml`. Paths in it are relative to the file."""

    history: str = Field(description="folder or s3://bucket/prefix: records, verdicts, documents; nothing is deleted")
    store: str = Field(description="folder or s3://bucket/prefix: models by content (rollama push)")
    keys: Path = Field(description="folder of trusted public keys")
    protocol: Path = Field(description="signed protocol file")
    registry: str | None = Field(
        None, description="MLflow: sqlite:///file, or a server; default MLFLOW_TRACKING_URI, else mlflow.db here"
    )
    model: str = Field("rollama", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="name in the registry")
    work: Path = Field(Path("evaluations"), description="folder for evaluations and their cached predictions")
    endpoint: EndpointConfig = EndpointConfig()
    lineage: str | None = Field(
        None, description="workspace (folder or s3://...) whose lineage is asked for withdrawn subjects, and told"
    )
    clock_tolerance_s: float = Field(300, ge=0, description="how far clocks may disagree before it is told")

    def registry_uri(self, folder: Path) -> str:
        """Where MLflow is."""
        return self.registry or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"


def read_site(path: Path | None) -> tuple[Site, Path]:
    """The site file and its folder; paths come back absolute.

    Args:
        path: the file; default: the variable ROLLAMA_RELEASES, else releases.yaml here.

    Raises:
        ConfigError: there is none, or a key is unknown or not accepted.
    """
    chosen = path or Path(os.environ.get(VARIABLE) or FILE)
    if not chosen.is_file():
        raise ConfigError(
            f"{chosen}: no such file; 'rollama release init FOLDER' writes one to begin with, --config names another"
        )
    folder = chosen.absolute().parent
    site = build(Site, read_yaml(chosen), str(chosen))
    endpoint = site.endpoint
    if endpoint.values is not None:
        endpoint = endpoint.updated(values=folder / endpoint.values)
    found = {
        "history": _place(site.history, folder),
        "store": _place(site.store, folder),
        "lineage": None if site.lineage is None else _place(site.lineage, folder),
        "keys": folder / site.keys,
        "protocol": folder / site.protocol,
        "work": folder / site.work,
        "endpoint": endpoint,
    }
    return site.updated(**found), folder


def _place(text: str, folder: Path) -> str:
    return text if "://" in text else str(folder / text)


EXAMPLE = """\
# Where this site's releases live. Paths are relative to this file. See docs/releases.md.
history: history            # folder or s3://bucket/prefix: records, verdicts, documents; nothing in it is ever deleted
store: store                # folder or s3://bucket/prefix: models by content; the endpoint's nodes must reach it
keys: keys                  # trusted public keys: keys/protocol, keys/release, keys/approval
protocol: protocol.yaml     # what a new model must show; signed by 'rollama release sign-protocol'
# lineage: ../runs/local    # workspace: models that saw a withdrawn subject are refused, releases are written there
# registry: http://mlflow:5000    # default: the variable MLFLOW_TRACKING_URI, else mlflow.db beside this file
endpoint:
  values: serve-models.yaml       # written at every release: helm values with serve.models
  # command: [helm, upgrade, rollama, ./helm/rollama, --namespace, radiotherapy, --reuse-values, --values, "{values}"]
  # url: https://rollama.hospital.example    # asked until it answers with the new models; key in ROLLAMA_API_KEY
"""
