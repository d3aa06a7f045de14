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
    workspace: Path = WORKSPACE,
    dataset: Path = typer.Option(None, help="Data set folder. Default: <workspace>/cohort, made when it is missing."),
    name: str = typer.Option(None, help="Name of the run and the model. Default: s, p or seg."),
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


def train_model(what: What, preset: Any, dataset: Path, workspace: Path, name: str, console: Console | None = None) -> Path:
    """Train (or resume, or reuse) one model; return its artefact folder.

    The run's folder carries the hash of configuration and data, so a changed configuration starts a new run instead of
    continuing an old one with other settings.
    """
    from ray_jobs.train_segmentation import train_segmentation
    from ray_jobs.train_text import train_text
    from rollama.cli.progress import bar
    from rollama.core.registry import Task
    from rollama.data.dataset import open_dataset
    from rollama.training.runs import is_trained, run_hash

    console = console or Console(stderr=True)
    config = preset.segmentation if what is What.SEG else preset.text(Task(what.value))
    content = open_dataset(dataset, check_volumes=what is What.SEG).info.content_hash
    key = run_hash(config, "seg" if what is What.SEG else what.value, content)
    out = workspace / "models" / name
    if is_trained(out, key):
        console.print(f"{out}: already trained with this configuration and data", highlight=False)
        return out
    run = workspace / "train" / f"{name}-{key[:8]}"
    with bar(f"training {name} ({config.method})", config.steps, console) as update:

        def on_step(row: dict[str, Any]) -> None:
            update(row["step"], f"loss {row['loss']:.3f}")

        if what is What.SEG:
            train_segmentation(config, dataset, run, out, on_step)
        else:
            train_text(config, Task(what.value), dataset, run, out, on_step)
    console.print(f"{out}: trained; curve in {run / 'metrics.jsonl'}", highlight=False)
    return out
