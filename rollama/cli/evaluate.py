"""`rollama evaluate`: measure the models of a workspace on its held-out cases, with confidence intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from rollama.cli.options import PRESET, WORKSPACE


def evaluate(
    preset: str = PRESET,
    workspace: Path | None = WORKSPACE,
    dataset: Path | None = typer.Option(None, help="Data set folder. Default: <workspace>/cohort."),
    out: Path | None = typer.Option(None, help="Folder for the results. Default: <workspace>/evaluation."),
    limit: int | None = typer.Option(None, min=1, help="At most this many cases a centre and split."),
    zero_shot: int = typer.Option(60, min=0, help="Compare with the untrained base on so many external cases."),
) -> None:
    """Evaluate S, P and SEG on the internal test split and the unseen centre; resumes an interrupted evaluation."""
    workspace = workspace or Path("runs") / preset
    console = Console(stderr=True)
    results = evaluate_models(
        workspace, dataset or workspace / "cohort", out or workspace / "evaluation", limit, zero_shot, console
    )
    print_results(results, Console())


def evaluate_models(
    workspace: Path, dataset: Path, out: Path, limit: int | None, zero_shot: int, console: Console
) -> dict[str, Any]:
    """Run the evaluation job with a progress bar."""
    from ray_jobs.evaluate import evaluate as run_evaluation
    from rollama.cli.progress import bar

    with bar("evaluating (%)", 100, console) as update:

        def share_done(share: float, note: str) -> None:
            update(round(100 * share), note=note)

        return run_evaluation(workspace / "models", dataset, out, limit=limit, zero_shot=zero_shot, progress=share_done)


def print_results(results: dict[str, Any], console: Console) -> None:
    """Print the headline table of an evaluation."""
    from rollama.evaluation.report import headline_rows

    table = Table(title="Held-out cases: mean [95 % CI]", title_justify="left")
    rows = headline_rows(results)
    if not rows:
        console.print("nothing was scored: the data set has no held-out case")
        return
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
