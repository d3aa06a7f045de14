"""`rollama train s|p|seg`: one training job on Ray Train, local or on the cluster in RAY_ADDRESS."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from rollama.cli.options import PRESET, SET, WORKSPACE


class What(StrEnum):
    """Which model to train."""

    S = "s"
    P = "p"
    SEG = "seg"


def train(
    what: What = typer.Argument(..., help="s: note -> summary. p: summary -> plan. seg: CT + plan -> target."),
    preset: str = PRESET,
    overrides: list[str] = SET,
    workspace: Path | None = WORKSPACE,
    dataset: Path | None = typer.Option(
        None, help="Data set folder. Default: <workspace>/cohort, made when it is missing."
    ),
    name: str | None = typer.Option(None, help="Name of the run and the model. Default: s, p or seg."),
) -> None:
    """Train one model. The same command again resumes an interrupted run, and does nothing when the model is there."""
    from rollama.cli.cohort import make_once
    from rollama.presets import load_preset

    chosen = load_preset(preset, overrides)
    workspace = workspace or Path("runs") / chosen.name
    if dataset is None:
        dataset = workspace / "cohort"
        make_once(dataset, chosen.cohort)
    train_model(what, chosen, dataset, workspace, name or str(what))


def train_model(
    what: What, preset: Any, dataset: Path, workspace: Path, name: str, console: Console | None = None
) -> Path:
    """Train (or resume, or reuse) one model; return its artefact folder.

    The run's folder carries the hash of configuration and data, so a changed configuration starts a new run instead of
    continuing an old one with other settings.
    """
    from ray_jobs.train_segmentation import train_segmentation
    from ray_jobs.train_text import train_text
    from rollama.cli.progress import bar
    from rollama.core.registry import Task
    from rollama.training.runs import is_trained

    console = console or Console(stderr=True)
    config = model_config(what, preset)
    key = run_key(what, preset, dataset)
    out = workspace / "models" / name
    if is_trained(out, key):
        console.print(f"{out}: already trained with this configuration and data", highlight=False)
        return out
    run = run_folder(what, preset, dataset, workspace, name)
    with bar(f"training {name} ({config.method})", config.steps, console) as update:

        def on_step(row: dict[str, Any]) -> None:
            update(row["step"], note=f"loss {row['loss']:.3f}")

        if what is What.SEG:
            train_segmentation(config, dataset, run, out, on_step)
        else:
            train_text(config, Task(what.value), dataset, run, out, on_step)
    console.print(f"{out}: trained; curve in {run / 'metrics.jsonl'}", highlight=False)
    return out


def model_config(what: What, preset: Any) -> Any:
    """The section of the preset that configures this model."""
    from rollama.core.registry import Task

    return preset.segmentation if what is What.SEG else preset.text(Task(what.value))


def run_key(what: What, preset: Any, dataset: Path) -> str:
    """Identity of the run: configuration, task and data; checks the data set on the way."""
    from rollama.data.dataset import open_dataset
    from rollama.training.runs import run_hash

    content = open_dataset(dataset, check_volumes=what is What.SEG).info.content_hash
    return run_hash(model_config(what, preset), what.value, content)


def run_folder(what: What, preset: Any, dataset: Path, workspace: Path, name: str) -> Path:
    """Folder of the run's checkpoints and metrics."""
    return workspace / "train" / f"{name}-{run_key(what, preset, dataset)[:8]}"
