"""`rollama serve`: the inference endpoint on this machine, the same application that a cluster serves."""

from __future__ import annotations

import threading
from pathlib import Path

import typer
from rich.console import Console


def serve(
    data: Path = typer.Option(
        ..., "--data", help="Folder that requests may name CT files in; nothing outside is read."
    ),
    models: Path = typer.Option(Path("runs/demo/models"), "--models", help="Folder with the models s/, p/ and seg/."),
    store: str = typer.Option(
        "runs/serve", "--store", help="Folder or s3://bucket/prefix for jobs and results; it holds patients' data."
    ),
    key_file: Path | None = typer.Option(
        None, "--key-file", help="File with the bearer key. Default: variable ROLLAMA_API_KEY."
    ),
    host: str = typer.Option("127.0.0.1", help="Address to listen on. The default answers this machine only."),
    port: int = typer.Option(8000, min=1, max=65535),
) -> None:
    """Serve note + CT -> summary + plan + target over HTTP, with a bearer key. Stop with Ctrl-C.

    POST /v1/pipeline with a JSON body such as {"note": "...", "ct_path": "patient1/ct.nii.gz"} starts a job, and
    GET /v1/jobs/ID says how far it is; docs/serving.md has the rest. /readyz says when the models are loaded.
    """
    from rollama.core.config import build
    from serve.app import start, stop
    from serve.config import ServeConfig

    values = {
        "models": models,
        "data_folder": data,
        "store": store,
        "api_key_file": key_file,
        "host": host,
        "port": port,
    }
    config = build(ServeConfig, values, "serve")
    console = Console(stderr=True)
    with console.status("loading the models"):
        address = start(config)
    console.print(f"serving on {address}; Ctrl-C stops", highlight=False)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        with console.status("stopping"):
            stop()
