"""`rollama serve`: the inference endpoint on this machine, the same application that a cluster serves."""

from __future__ import annotations

import threading
from pathlib import Path

import typer
from rich.console import Console

from rollama.core.registry import Decoding


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
    keys: Path | None = typer.Option(
        None, "--keys", help="YAML list of several keys with names and scopes (see 'rollama serve-key')."
    ),
    plan_decoding: Decoding = typer.Option(
        Decoding.FREE, help="constrained: hold P to the plan's form, so that every plan it ends parses."
    ),
    centre: str = typer.Option(
        "unknown", help="Whose patients these are, for the counts of drift; a key's own centre goes before."
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
        "keys_file": keys,
        "plan_decoding": plan_decoding,
        "centre": centre,
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


def serve_key(
    name: str = typer.Argument(..., help="Who will use it; stands in the audit trail and owns the jobs."),
    scope: list[str] = typer.Option(
        ["texts", "targets"], "--scope", help="texts: summaries and plans. targets: jobs and their files. Repeatable."
    ),
    expires: str | None = typer.Option(None, "--expires", metavar="YYYY-MM-DD", help="Last day on which it works."),
    per_minute: int = typer.Option(0, "--per-minute", min=0, help="Requests a minute; 0: no limit."),
    centre: str | None = typer.Option(None, "--centre", help="Whose patients it asks about, for the counts of drift."),
) -> None:
    """Make a key: shown once here, and its entry for the list that 'rollama serve --keys FILE' reads.

    The list has one line more than the entries: 'keys:' at its top.
    """
    import secrets

    import yaml

    from rollama.core.config import build
    from serve.auth import KeyEntry, digest

    key = secrets.token_urlsafe(32)
    values = {"name": name, "sha256": digest(key).hex(), "scopes": list(scope), "expires": expires}
    entry = build(KeyEntry, {**values, "per_minute": per_minute, "centre": centre}, "serve-key")
    typer.echo(f"key (give it to {name}; it is stored nowhere): {key}", err=True)
    typer.echo(yaml.safe_dump([entry.model_dump(mode="json", exclude_none=True)], sort_keys=False).strip())
