"""`rollama submit job NAME`: a job that the site's administrator wrote down under a name (the chart's jobs.presets)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from rollama.cli.follow import NAMESPACE, PATIENCE
from rollama.cli.submit import (
    BUCKET,
    CANCEL,
    DATASET,
    DRY_RUN,
    KEEP,
    PLAN,
    RETRIES,
    SITE,
    TIMEOUT,
    WAIT,
    Submission,
    evaluation,
    training,
)  # fmt: skip
from rollama.cli.train import What

PRESETS = typer.Option(None, "--presets", help="File with jobs. Default: key presets.yaml of ConfigMap rollama-site.")
REUSE = typer.Option(False, "--reuse", help="An evaluation that succeeded already is not repeated.")


def submit_job(
    job: str = typer.Argument(..., help="Name of the job in the site's presets."),
    presets: Path | None = PRESETS,
    dataset: str | None = DATASET,
    workspace: str | None = BUCKET,
    site: Path | None = SITE,
    namespace: str | None = NAMESPACE,
    wait: bool = WAIT,
    dry_run: bool = DRY_RUN,
    plan: bool = PLAN,
    reuse: bool = REUSE,
    retries: int = RETRIES,
    timeout: int | None = TIMEOUT,
    patience: float = PATIENCE,
    keep_stuck: bool = KEEP,
    cancel_on_interrupt: bool = CANCEL,
) -> None:
    """Submit a job by its name. The same command again attaches to the running job or resumes a failed one."""
    Submission(site, namespace, wait, dry_run, plan, retries, patience, keep_stuck, cancel_on_interrupt, reuse).run(
        _values(job, presets, namespace), dataset, workspace, timeout
    )


def _values(job: str, presets: Path | None, namespace: str | None) -> dict[str, Any]:
    from rollama.cluster.presets import choose, parse_presets
    from rollama.core.config import build
    from rollama.evaluation.thresholds import Thresholds

    text, source = presets_text(presets, namespace)
    found = choose(parse_presets(text, source), job, source)
    if found.task == "evaluate":
        rules = build(Thresholds, {"rules": found.thresholds}, f"{source}: {job}") if found.thresholds else None
        return evaluation(found.name or job, rules, found.limit, 0, found.gpus)
    return training(What(found.task), found.preset, found.set, found.name)


def presets_text(presets: Path | None, namespace: str | None) -> tuple[str, str]:
    """Jobs as YAML and where they are from: a file, else the site's ConfigMap in a namespace.

    Raises:
        ConfigError: the file cannot be read, or there is no such ConfigMap.
    """
    from rollama.cluster.client import Cluster
    from rollama.cluster.config import CONFIG_MAP
    from rollama.cluster.presets import PRESETS_KEY
    from rollama.core.errors import ConfigError

    if presets is not None:
        try:
            return presets.read_text(encoding="utf-8"), str(presets)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{presets}: cannot read it; give a readable YAML file") from error
    cluster = Cluster(namespace)
    source = f"ConfigMap {CONFIG_MAP} in namespace {cluster.namespace}, key {PRESETS_KEY}"
    text = cluster.site_text(PRESETS_KEY)
    if text is None:
        raise ConfigError(f"{source}: not found; have the chart write it (jobs.presets), or give --presets FILE")
    return text, source
