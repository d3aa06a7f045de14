"""`rollama serve`: the inference endpoint on this machine, the same application that a cluster serves."""

from __future__ import annotations

from pathlib import Path

import typer


def serve(
    models: Path = typer.Option(Path("runs/demo/models"), "--models", help="Folder with the models s/, p/ and seg/."),
    data: Path = typer.Option(..., "--data", help="Folder that requests may name CT files in; nothing outside is read."),
    results: Path = typer.Option(Path("runs/serve"), "--results", help="Folder for the results of requests."),
    key_file: Path = typer.Option(None, "--key-file", help="File with the bearer key. Default: the variable ROLLAMA_API_KEY."),
    host: str = typer.Option("127.0.0.1", help="Address to listen on. The default answers this machine only."),
    port: int = typer.Option(8000, min=1, max=65535),
) -> None:
    """Serve note + CT -> summary + plan + target over HTTP, with a bearer key. Stop with Ctrl-C."""
    from serve.app import run_local
    from serve.config import ServeConfig

    config = ServeConfig(models=models, data=data, results=results, key_file=key_file)
    run_local(config, host, port)
