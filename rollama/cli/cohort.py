"""`rollama cohort make|regions|describe|gallery|proof|export|score`: the synthetic multi-centre cohort."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from rollama.cli import cohort_export, cohort_proof, cohort_score
from rollama.cli.options import SET, TELL
from rollama.core.registry import CohortSize, Site

FIRST_FIGURES = 7
"""Two tables of about this many figures fit a terminal of 80 columns; one of all does not."""
MANY_VOXELS = 5e7
"""From so many voxels on, all cores pay for starting Ray."""

app = typer.Typer(help="Make, look at, check, export and score a synthetic multi-centre cohort.", no_args_is_help=True)


@app.command("make")
def make(
    out: Path = typer.Argument(..., help="Folder of the new data set; must not exist or hold a data set."),
    preset: str = typer.Option("local", help="Preset whose cohort is made; --size or --site replaces it."),
    size: CohortSize | None = typer.Option(
        None, help="xs: tests. s: the demo's. m: a study's. full: the study at 512x512 with slices of 2 to 5 mm."
    ),
    site: Site = typer.Option(Site.BREAST, help="prostate is a small second site with free-text plans."),
    workers: int = typer.Option(0, min=0, help="Processes; 0: one a core, 1: no Ray."),
    overrides: list[str] = SET,
    workspace: str | None = TELL,
) -> None:
    """Generate a cohort: notes, summaries, plans, CT phantoms and targets. Deterministic by seed.

    An interrupted run keeps what is finished; the same command goes on with the rest.
    """
    from rollama.cli.import_text import tell
    from rollama.presets import load_preset

    parts = False
    if size is not None or site is not Site.BREAST:
        from rollama.cohort.config import CohortConfig
        from rollama.core.config import apply_overrides, build

        given = {"cohort": {"site": str(site)} | ({"size": str(size)} if size else {"size": "xs"})}
        config = build(CohortConfig, apply_overrides(given, overrides)["cohort"], "cohort")
    else:
        chosen = load_preset(preset, overrides)
        config, parts = chosen.cohort, chosen.needs_parts
    make_once(out, config, workers, parts)
    tell(workspace, out)


def make_once(out: Path, config: object, workers: int = 0, parts: bool = False) -> None:
    """Generate the cohort unless `out` already holds the one that `config` describes; with `parts`, those too."""
    from rollama.cohort.regions import half_placed

    if half_placed(out):
        draw_parts(out)
    _make_once(out, config, workers)
    if parts:
        draw_parts(out)


def draw_parts(root: Path) -> None:
    """Draw what is missing of every part of a cohort's training cases, with a bar."""
    from rollama.cli.progress import bar
    from rollama.cohort.regions import write_regions

    console = Console(stderr=True)
    with bar("drawing every part", 1, console) as update:
        made = write_regions(root, lambda done, total: update(done, total=total))
    console.print(f"{root}: parts of {made} case(s) drawn" if made else f"{root}: all parts are there", highlight=False)


def _make_once(out: Path, config: object, workers: int) -> None:
    from rollama.cli.progress import bar
    from rollama.cohort.config import CohortConfig
    from rollama.cohort.make import Runner, is_made, make_cohort, run_here, unfinished
    from rollama.core.errors import DataError

    assert isinstance(config, CohortConfig)
    console = Console(stderr=True)
    if is_made(out, config):
        console.print(f"{out}: already holds this cohort", highlight=False)
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (out / "dataset.json").is_file():
        raise DataError(f"{out}: holds something else; choose an empty folder")
    x, y, z = config.grid
    run: Runner = run_here
    if workers > 1 or (workers == 0 and (os.cpu_count() or 1) > 1 and config.cases * x * y * z > MANY_VOXELS):
        from ray_jobs.make_cohort import run_on_ray

        run = partial(run_on_ray, workers=workers)
    staging = unfinished(out, config)
    if staging.exists():
        console.print(f"{out}: going on with what an earlier run finished", highlight=False)
    for other in sorted(set(staging.parent.glob(f".{out.resolve().name}.*.unfinished")) - {staging}):
        console.print(
            f"{other}: unfinished cases of another configuration; remove it if you need the space",
            highlight=False,
            soft_wrap=True,
        )
    with bar("making the cohort", config.cases, console) as update:
        made = make_cohort(out, config, update, run)
    console.print(f"{out}: {config.cases} synthetic cases, content hash {made.content_hash[:16]}", highlight=False)


@app.command("regions")
def regions(
    root: Path = typer.Argument(..., help="Folder of a breast cohort that 'rollama cohort make' made."),
) -> None:
    """Draw every part of the training cases (breast, chest wall, all levels by both guidelines), whatever plans ask.

    Training can then show one CT with other plans: rollama train seg --set segmentation.plan_edits=0.5
    """
    draw_parts(root)


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


@app.command("gallery")
def gallery(out: Path = typer.Argument(..., help="New folder for the pictures and their index.html.")) -> None:
    """Draw the cohort: every target on three planes, every centre's look, twins, readers. About a minute."""
    from rollama.cli.progress import bar
    from rollama.cohort.gallery import PICTURES, write_gallery

    console = Console(stderr=True)
    with bar("drawing", len(PICTURES), console) as update:
        page = write_gallery(out, update)
    console.print(f"open [bold]{page}[/]", highlight=False)


app.command("proof")(cohort_proof.proof)
app.command("export")(cohort_export.export)
app.command("score")(cohort_score.score)
