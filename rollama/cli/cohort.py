"""`rollama cohort make|describe`: the synthetic multi-centre cohort."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from rollama.cli.options import PRESET, SET

FIRST_FIGURES = 7
"""Two tables of about this many figures fit a terminal of 80 columns; one of all does not."""

app = typer.Typer(help="Make and describe a synthetic multi-centre cohort.", no_args_is_help=True)


@app.command("make")
def make(
    out: Path = typer.Argument(..., help="Folder of the new data set; must not exist or hold the same cohort."),
    preset: str = PRESET,
    overrides: list[str] = SET,
) -> None:
    """Generate a cohort: notes, summaries, plans, CT phantoms and targets. Deterministic by seed."""
    from rollama.presets import load_preset

    config = load_preset(preset, overrides).cohort
    make_once(out, config)


def make_once(out: Path, config: object) -> None:
    """Generate the cohort unless `out` already holds the one that `config` describes."""
    from rollama.cli.progress import bar
    from rollama.cohort.config import CohortConfig
    from rollama.cohort.make import is_made, make_cohort
    from rollama.core.errors import DataError

    assert isinstance(config, CohortConfig)
    console = Console(stderr=True)
    if is_made(out, config):
        console.print(f"{out}: already holds this cohort", highlight=False)
        return
    if out.exists() and any(out.iterdir()):
        raise DataError(f"{out}: holds something else; choose an empty folder")
    with bar("making the cohort", config.cases, console) as update:
        made = make_cohort(out, config, update)
    console.print(f"{out}: {config.cases} synthetic cases, content hash {made.content_hash[:16]}", highlight=False)


@app.command("describe")
def describe(root: Path = typer.Argument(..., help="Folder of a data set.")) -> None:
    """Print counts, plans, note lengths and target volumes of a data set, after checking all of it."""
    from rollama.cohort.describe import describe_cohort
    from rollama.data.dataset import open_dataset

    dataset = open_dataset(root)
    console = Console()
    kind = "synthetic" if dataset.info.synthetic else "clinical"
    console.print(
        f"{dataset.info.name} {dataset.info.version}: {len(dataset.cases)} {kind} cases, label {dataset.info.label}"
    )
    if free := sum(case.plan is None for case in dataset.cases):
        console.print(f"{free} plan(s) do not parse: kept as free text, their fields are not known")
    rows = describe_cohort(dataset)
    keys, figures = list(rows[0])[:2], list(rows[0])[2:]
    for some in (figures[:FIRST_FIGURES], figures[FIRST_FIGURES:]):
        table = Table(box=None, padding=(0, 1), pad_edge=False)
        for name in (*keys, *some):
            table.add_column(name, no_wrap=name in keys)
        for row in rows:
            table.add_row(*(row[name] for name in (*keys, *some)))
        console.print(table)
        console.print()
