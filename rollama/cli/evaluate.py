"""`rollama evaluate`: measure the models of a workspace on its held-out cases, with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from rollama.cli.options import PRESET
from rollama.core.registry import Decoding


class Only(StrEnum):
    """A part of the evaluation (the values of `rollama.evaluation.jobs.Part`, which `--help` need not load)."""

    TEXT = "text"
    SEG = "seg"


def evaluate(
    preset: str = PRESET,
    workspace: str | None = typer.Option(
        None, help="Folder or s3://bucket/prefix with the models. Default: runs/<preset>."
    ),
    dataset: str | None = typer.Option(None, help="Data set folder or reference. Default: <workspace>/cohort."),
    out: Path | None = typer.Option(None, help="Folder for the results. Default: <workspace>/evaluation."),
    limit: int | None = typer.Option(None, min=1, help="At most this many cases a centre and split."),
    zero_shot: int = typer.Option(60, min=0, help="Compare with the untrained base on so many external cases."),
    only: Only | None = typer.Option(
        None, help="text: only S and P. seg: only SEG, on reference plans; S and P need not be trained."
    ),
    counterfactual: bool = typer.Option(
        False,
        "--counterfactual",
        help="Also give every CT some fifteen edited plans: does the mask change where they say?",
    ),
    trust: bool = typer.Option(
        False,
        "--trust",
        help="Also measure whether SEG's probabilities are right and whether it notices wrong anatomy.",
    ),
    corrupted: list[str] = typer.Option(
        [],
        "--corrupted",
        metavar="NAME",
        help="Also score inputs spoilt so: noise, misspelt, ... A wrong name lists all.",
    ),
    plan_decoding: Decoding = typer.Option(
        Decoding.FREE, help="constrained: hold P to the plan's form, so that every plan it ends parses."
    ),
    gpus: int = typer.Option(0, min=0, max=1, help="Run the models on a GPU instead of the CPU."),
    require: str | None = typer.Option(
        None, help="File with required values (see 'rollama check'), or its rules as JSON; exit code 3 if not reached."
    ),
) -> None:
    """Evaluate S, P and SEG on the internal test split and the unseen centre; resumes an interrupted evaluation."""
    from rollama.cli.check import show
    from rollama.core.errors import ConfigError
    from rollama.core.storage import locate
    from rollama.data.store import resolve
    from rollama.evaluation.thresholds import check, parse_thresholds, read_thresholds
    from rollama.presets import load_preset

    if (counterfactual or trust) and only is Only.TEXT:
        raise ConfigError("--counterfactual and --trust are about SEG; they do not go with --only text")
    rules = None
    if require is not None:
        rules = parse_thresholds(require) if require.lstrip().startswith("{") else read_thresholds(Path(require))
    place = locate(workspace or Path("runs") / load_preset(preset).name)
    console = Console(stderr=True)
    if isinstance(place, Path):
        data = resolve(dataset) if dataset else place / "cohort"
        results = evaluate_models(
            place, data, out or place / "evaluation", limit, zero_shot, console, only, gpus, counterfactual, trust,
            plan_decoding, corrupted,
        )  # fmt: skip
    elif (
        dataset is None or out is not None or only is not None or counterfactual or trust
        or plan_decoding is not Decoding.FREE or corrupted
    ):  # fmt: skip
        raise ConfigError(
            "a workspace in a bucket needs --dataset REFERENCE and takes none of --out, --only, --counterfactual, "
            "--trust, --corrupted and --plan-decoding; see 'rollama push'"
        )
    else:
        results = evaluate_bucket(place, dataset, limit, zero_shot, console, gpus)
    print_results(results, Console())
    if rules is not None:
        show(check(results, rules))


def evaluate_bucket(
    workspace: str, dataset: str, limit: int | None, zero_shot: int, console: Console, gpus: int = 0
) -> dict[str, Any]:
    """Run the evaluation on a worker of the cluster with a progress bar, and print the report as Markdown."""
    from ray_jobs.evaluate_remote import evaluate_remote
    from rollama.cli.progress import bar
    from rollama.evaluation.report import headline_markdown
    from rollama.lineage.record import record_evaluation

    with bar("evaluating (%)", 100, console) as update:

        def share_done(share: float, note: str) -> None:
            update(round(100 * share), note=note)

        results = evaluate_remote(workspace, dataset, limit, share_done, zero_shot, gpus)
    record_evaluation(workspace, results)
    typer.echo(headline_markdown(results))
    return results


def evaluate_models(
    workspace: Path,
    dataset: Path,
    out: Path,
    limit: int | None,
    zero_shot: int,
    console: Console,
    only: str | None = None,
    gpus: int = 0,
    counterfactual: bool = False,
    trust: bool = False,
    plan_decoding: Decoding = Decoding.FREE,
    corrupted: Sequence[str] = (),
) -> dict[str, Any]:
    """Run the evaluation job with a progress bar."""
    from ray_jobs.evaluate import evaluate as run_evaluation
    from rollama.cli.progress import bar
    from rollama.evaluation.jobs import Part
    from rollama.lineage.record import record_evaluation

    with bar("evaluating (%)", 100, console) as update:

        def share_done(share: float, note: str) -> None:
            update(round(100 * share), note=note)

        results = run_evaluation(
            workspace / "models", dataset, out, limit=limit, zero_shot=zero_shot, progress=share_done,
            only=Part(only) if only else None, gpus=gpus, counterfactual=counterfactual, trust=trust,
            plan_decoding=plan_decoding, corrupted=corrupted,
        )  # fmt: skip
    record_evaluation(workspace, results)
    return results


def print_results(results: dict[str, Any], console: Console) -> None:
    """Print the headline figures: a table for each task and metric, systems down, groups of cases across."""
    from itertools import groupby

    from rollama.evaluation.report import headline_rows

    rows = headline_rows(results)
    if not rows:
        console.print("nothing was scored: the data set has no held-out case")
        return
    console.print("Held-out cases: mean [95 % CI], number of cases")
    for (task, metric), found in groupby(rows, lambda row: (row["Task"], row["Metric"])):
        mine = list(found)
        groups = list(dict.fromkeys(row["Cases"] for row in mine))
        table = Table("system", "input", *groups, title=f"{task}: {metric}", title_justify="left", box=SIMPLE_HEAD)
        for system, source in dict.fromkeys((row["System"], row["Input"]) for row in mine):
            cells = {
                row["Cases"]: f"{row['Mean [95 % CI]']}, {row['n']}"
                for row in mine
                if (row["System"], row["Input"]) == (system, source)
            }
            table.add_row(system, source, *(cells.get(group, "") for group in groups))
        console.print(table)
