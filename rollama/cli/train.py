"""`rollama train s|p|seg`: one training job on Ray Train, local or on the cluster in RAY_ADDRESS.

The workspace is a folder or a bucket prefix, the data set a folder or a reference; the steps are the same. In a bucket
a model is content of `<workspace>/store`, and its reference is the one line on standard output.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from rollama.cli.options import PRESET, SET

if TYPE_CHECKING:
    from rollama.core.storage import Location
    from rollama.data.store import Reference


class What(StrEnum):
    """Which model to train."""

    S = "s"
    P = "p"
    SEG = "seg"


def train(
    what: What = typer.Argument(..., help="s: note -> summary. p: summary -> plan. seg: CT + plan -> target."),
    preset: str = PRESET,
    overrides: list[str] = SET,
    workspace: str | None = typer.Option(
        None, help="Folder or s3://bucket/prefix with models/ and train/. Default: runs/<preset>."
    ),
    dataset: str | None = typer.Option(
        None,
        help="Data set folder, or reference as 'rollama push' prints it. Default: <workspace>/cohort, made when it is "
        "missing; for a workspace in a bucket, the preset's cohort in its store.",
    ),
    name: str | None = typer.Option(None, help="Name of the run and the model. Default: s, p or seg."),
    init: str | None = typer.Option(None, help="Start from this trained model's weights: folder or reference."),
) -> None:
    """Train one model. The same command again resumes an interrupted run, and does nothing when the model is there."""
    from rollama.core.storage import locate
    from rollama.presets import load_preset

    chosen = load_preset(preset, overrides)
    place = locate(workspace or Path("runs") / chosen.name)
    model = train_model(what, chosen, dataset or default_dataset(place, chosen), place, name or str(what), init=init)
    if not isinstance(model, Path):
        typer.echo(str(model))


def default_dataset(workspace: Location, preset: Any) -> Location:
    """The preset's cohort: in the workspace's folder, or for a bucket made in the cache and pushed to its store."""
    from rollama.cli.cohort import make_once
    from rollama.cli.store import transfer
    from rollama.core.cache import cache_folder
    from rollama.core.storage import join
    from rollama.data.store import Kind, push

    if isinstance(workspace, Path):
        make_once(workspace / "cohort", preset.cohort, parts=preset.needs_parts)
        return workspace / "cohort"
    folder = cache_folder() / "cohorts" / preset.cohort.digest()[:16]
    make_once(folder, preset.cohort, parts=preset.needs_parts)
    with transfer("pushing the cohort (MiB)") as progress:
        return str(push(folder, Kind.DATASET, join(workspace, "store"), progress))


def train_model(
    what: What,
    preset: Any,
    dataset: Location,
    workspace: Location,
    name: str,
    console: Console | None = None,
    init: Location | None = None,
    config: Any = None,
) -> Path | Reference:
    """Train (or resume, or reuse) one model; return its artefact folder, or its reference when it is in a bucket.

    `config` stands for the preset's own section of this model; `init` is a model whose weights training starts from.

    The run's folder carries the hash of configuration and data, so a changed configuration starts a new run instead of
    continuing an old one with other settings.
    """
    from ray_jobs.remote import finished, starting
    from ray_jobs.train_segmentation import train_segmentation
    from ray_jobs.train_text import train_text
    from rollama.cli.progress import bar
    from rollama.cli.store import transfer
    from rollama.core.errors import ClusterError
    from rollama.core.registry import Task
    from rollama.core.storage import join
    from rollama.data.store import resolve
    from rollama.lineage.record import record_training

    console = console or Console(stderr=True)
    config = config or model_config(what, preset)
    _check_mode(what, config)
    if init is not None:
        config = starting(config, init)
    with transfer("pulling the data set (MiB)", console) as progress:
        folder = resolve(dataset, progress)
    key = config_key(what, config, folder)
    out = join(workspace, "models", name)
    if done := finished(out, key):
        record_training(workspace, done, what.value, folder)  # if the command ended before it had been written down
        console.print(f"{out}: already trained with this configuration and data", highlight=False, soft_wrap=True)
        return done
    run = join(workspace, "train", run_name(name, key))
    with bar(f"training {name} ({config.method})", config.steps, console) as update:

        def on_step(row: dict[str, Any]) -> None:
            last = what is What.SEG and config.measure and row["step"] == config.steps  # minutes still without a step
            update(row["step"], note="measuring threshold and calibration" if last else f"loss {row['loss']:.3f}")

        if what is What.SEG:
            train_segmentation(config, dataset, run, out, on_step, init=init)
        else:
            train_text(config, Task(what.value), dataset, run, out, on_step, init=init)
    console.print(f"{out}: trained; curve in {join(run, 'metrics.jsonl')}", highlight=False, soft_wrap=True)
    done = out if isinstance(out, Path) else finished(out, key)
    if done is not None:
        record_training(workspace, done, what.value, folder)
        return done
    raise ClusterError(f"{out}.json: training ended, but another run has replaced the model; train again")


def model_config(what: What, preset: Any) -> Any:
    """The section of the preset that configures this model."""
    from rollama.core.registry import Task

    return preset.segmentation if what is What.SEG else preset.text(Task(what.value))


def _check_mode(what: What, config: Any) -> None:
    """One training uses pooled data; the other ways are several trainings."""
    from rollama.core.errors import ConfigError
    from rollama.training.config import CentresMode

    verbs = {
        CentresMode.LEAVE_ONE_OUT: f"rollama centres train {what}",
        CentresMode.FEDERATED: "rollama federation serve, join and run (docs/centres.md)",
    }
    if verb := verbs.get(config.centres.mode):
        raise ConfigError(f"centres.mode: {config.centres.mode} is more than one training; use {verb}")


def run_key(what: What, preset: Any, dataset: Path) -> str:
    """Identity of the run: configuration, task and data; checks the data set on the way."""
    return config_key(what, model_config(what, preset), dataset)


def config_key(what: What, config: Any, dataset: Path) -> str:
    """The same of a configuration that is no preset's own."""
    from rollama.data.dataset import open_dataset, open_texts
    from rollama.training.runs import run_hash

    info = open_dataset(dataset).info if what is What.SEG else open_texts(dataset).info
    return run_hash(config, what.value, info.content_hash)


def run_name(name: str, key: str) -> str:
    """Name of the folder of a run's checkpoints and metrics."""
    return f"{name}-{key[:8]}"


def run_folder(what: What, preset: Any, dataset: Path, workspace: Path, name: str) -> Path:
    """Folder of the run's checkpoints and metrics in a local workspace."""
    return workspace / "train" / run_name(name, run_key(what, preset, dataset))
