"""`rollama monitor drift`: do current cases still look like those that a model was trained on?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from rollama.core.errors import RollamaError
from rollama.data.case import Split

if TYPE_CHECKING:
    from rollama.monitoring.compare import Finding

app = typer.Typer(help="Whether a model meets the cases that it was trained for.", no_args_is_help=True)


class Drifted(RollamaError):
    """At least one feature has drifted."""

    exit_code = 3


class TooFew(RollamaError):
    """Nothing could be judged."""

    exit_code = 4


@app.callback()
def monitor() -> None:
    """Whether a model meets the cases that it was trained for."""


@app.command("drift")
def drift(
    models: str = typer.Argument(..., help="Folder of a trained model, or that with s/, p/ and seg/; or a reference."),
    dataset: str | None = typer.Option(None, "--dataset", help="Current cases as a data set: folder or reference."),
    metrics: list[str] = typer.Option(
        [], "--metrics", help="Current cases as the endpoint counted them: a file with metrics, or the address of a "
        "Ray node's metrics port, such as http://10.0.0.7:8080/metrics. Repeatable, one a node.",
    ),
    before: list[str] = typer.Option(
        [], "--before", help="Metrics of an earlier time: only what came since is judged. Repeatable."
    ),
    split: list[Split] = typer.Option(
        [], "--split", help="Of the data set. Default: all; of the training data itself, those held out. Repeatable."
    ),
    reference: str | None = typer.Option(
        None, "--reference", help="Training data, for models that hold no profile of it."
    ),
    threshold: float = typer.Option(
        0.2, "--threshold", min=0.01, max=1, help="Jensen-Shannon distance from which a change is drift."
    ),
    out: Path | None = typer.Option(None, "--out", help="Folder for drift.html, drift.md and drift.json."),
    every: bool = typer.Option(False, "--all", help="Print every feature, not only those with a difference."),
) -> None:  # fmt: skip
    """Compare current inputs and outputs with a model's training, per centre and feature.

    Exit code 0: no drift found; 3: drift; 4: too few cases to judge anything. The distance says how much differs, not
    whether the model errs there: look at cases (docs/monitoring.md).
    """
    from rollama.core.errors import ConfigError
    from rollama.data.store import resolve
    from rollama.monitoring.compare import compare
    from rollama.monitoring.report import write_report
    from rollama.monitoring.sources import of_dataset, of_metrics, read_profiles

    if (dataset is None) == (not metrics):
        raise ConfigError("name the current cases: either --dataset or --metrics")
    if (before and not metrics) or (split and dataset is None):
        raise ConfigError("--before belongs to --metrics, and --split to --dataset")
    console = Console(stderr=True)
    folder = resolve(models)
    with console.status("counting"):
        trained, data = read_profiles(folder, resolve(reference) if reference else None)
        seen = of_metrics(metrics, before) if dataset is None else of_dataset(resolve(dataset), trained, data, split)
    with console.status("comparing"):
        findings = compare(trained, seen, threshold)
    if not findings:
        raise TooFew("no feature was counted on both sides; nothing can be compared")
    if out is not None:
        for path in write_report(out, findings, folder, _source(dataset, metrics), threshold):
            console.print(f"wrote {path}", highlight=False)
    show(findings, every)


def _source(dataset: str | None, metrics: list[str]) -> str:
    """Names without the folders that they lie in, which are nobody's business."""
    names = [dataset] if dataset is not None else metrics
    return ", ".join(name if name.startswith("http") else name.rstrip("/").rpartition("/")[2] for name in names)


def show(findings: list[Finding], every: bool) -> None:
    """Print the findings and what they come to.

    Raises:
        Drifted, TooFew: see `drift`.
    """
    from rollama.monitoring.compare import Answer, overall
    from rollama.monitoring.sources import titled

    console = Console(soft_wrap=True)
    for item in findings:
        if every or item.answer in (Answer.DRIFT, Answer.SMALL):
            console.print(
                f"{titled(item.centre)}  {item.model}  {item.feature}  {item.answer}  {item.distance:.2f} "
                f"({item.low:.2f} to {item.high:.2f}), {item.n} cases against {item.reference_n} of "
                f"{titled(item.reference)}: {item.moved}",
                highlight=False,
                markup=False,
            )
    for centre in dict.fromkeys(item.centre for item in findings):
        mine = [item.answer for item in findings if item.centre == centre]
        told = ", ".join(f"{mine.count(answer)} {answer}" for answer in Answer if answer in mine)
        console.print(f"{titled(centre)}: {told}", highlight=False, markup=False)
    answer = overall(findings)
    if answer is Answer.DRIFT:
        count = sum(item.answer is Answer.DRIFT for item in findings)
        raise Drifted(f"{count} of {len(findings)} comparisons show drift")
    if answer is Answer.TOO_FEW:
        raise TooFew("too few cases to say anything about any feature; about 40 a centre are needed")
