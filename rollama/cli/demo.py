"""`rollama demo`: everything once, small, from nothing to a report page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from rollama import RESEARCH_ONLY
from rollama.cli.options import SET

ZERO_SHOT = 12
"""External cases on which the untrained base is measured for comparison."""


def demo(
    preset: str = typer.Option("demo", "--preset", help="Bundled preset or a .yaml file."),
    overrides: list[str] = SET,
    workspace: Path | None = typer.Option(None, "--workspace", help="Folder for everything. Default: runs/<preset>."),
) -> None:
    """Make a cohort, train S, P and SEG++ on local Ray, evaluate them, and write one report.html.

    20 to 40 minutes on two cores. A second run reuses what is valid; an interrupted one goes on where it was.
    """
    from rollama.presets import load_preset

    chosen = load_preset(preset, overrides)
    console = Console(stderr=True)
    console.print(f"[bold]rollama demo[/] - synthetic patients. {RESEARCH_ONLY}.", highlight=False)
    started = time.monotonic()
    root = workspace or Path("runs") / chosen.name
    if chosen.s.dtype == chosen.p.dtype == "bfloat16" and not chosen.s.scale.gpus_per_worker:
        chosen = load_preset(preset, [*_arithmetic(root, console), *overrides])
    report = run_demo(chosen, root, console)
    console.print(f"done in {(time.monotonic() - started) / 60:.1f} minutes; open [bold]{report}[/]", highlight=False)


def _arithmetic(root: Path, console: Console) -> list[str]:
    """Overrides for a processor whose bfloat16 is the slower; the user's own come after them and win."""
    from rollama.language.speed import faster_dtype

    if faster_dtype(root / "arithmetic.json") == "bfloat16":
        return []
    console.print("this processor multiplies faster in float32 than in bfloat16: training in float32")
    return ["text.dtype=float32", "segmentation.encoder_dtype=float32", "segmentation.amp=none"]


def run_demo(preset: Any, root: Path, console: Console) -> Path:
    """The demo's phases in order; returns the report's path."""
    from rollama.cli.cohort import make_once
    from rollama.cli.evaluate import evaluate_models, print_results
    from rollama.cli.progress import Itinerary, bar
    from rollama.cli.train import What, run_folder, train_model
    from rollama.data.dataset import open_dataset
    from rollama.evaluation.examples import Folders, build_report, predict_examples
    from rollama.language.base import base_folder

    folders = Folders(root)
    expected = {key: float(value) for key, value in preset.expected_seconds.items()}
    trip = Itinerary({name: expected.get(name, 30.0) for name in PHASES}, console)
    trip.announce()
    with trip.phase("base language model"):
        for base in {preset.s.base, preset.p.base, preset.segmentation.encoder}:
            base_folder(base)
    with trip.phase("cohort"):
        make_once(folders.cohort, preset.cohort, parts=preset.needs_parts)
        open_dataset(folders.cohort)
    for what in What:
        with trip.phase(f"train {what}"):
            train_model(what, preset, folders.cohort, root, str(what), console)
    with trip.phase("evaluation"):
        results = evaluate_models(root, folders.cohort, folders.evaluation, None, ZERO_SHOT, console)
    with trip.phase("chain on held-out patients"), bar("predicting", 1, console) as update:
        examples = predict_examples(folders, update, lambda text: console.print(f"look: {text}", highlight=False))
    runs = {str(what): run_folder(what, preset, folders.cohort, root, str(what)) for what in What}
    with trip.phase("report"):
        report = build_report(folders, preset, runs, examples, trip.spent)
    print_results(results, Console())
    return report


PHASES = (
    "base language model",
    "cohort",
    "train s",
    "train p",
    "train seg",
    "evaluation",
    "chain on held-out patients",
    "report",
)
