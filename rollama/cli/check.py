"""`rollama check`: an evaluation against a threshold file; the exit code says whether it holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from rollama.core.errors import ReleaseError

if TYPE_CHECKING:
    from rollama.evaluation.thresholds import Finding


class NotMet(ReleaseError):
    """A required value was not reached."""

    exit_code = 3


def check(
    evaluation: Path = typer.Argument(..., help="evaluation.json, or the folder that holds it."),
    thresholds: Path = typer.Argument(..., help="YAML file with rules; see infra/ci/thresholds.yaml."),
) -> None:
    """Check an evaluation against required values. Exit code 0: all hold; 3: at least one does not."""
    from rollama.core.files import read_json
    from rollama.evaluation.thresholds import check as judge
    from rollama.evaluation.thresholds import read_thresholds

    rules = read_thresholds(thresholds)
    path = evaluation / "evaluation.json" if evaluation.is_dir() else evaluation
    show(judge(read_json(path), rules, str(path)))


def show(findings: list[Finding]) -> None:
    """Print what became of each rule.

    Raises:
        NotMet: at least one does not hold.
    """
    table = Table("holds", "what", "required", "found", "cases", "remark")
    for item in findings:
        rule = item.rule
        required = f"at least {rule.at_least}" if rule.at_least is not None else f"at most {rule.at_most}"
        what = f"{rule.task} {rule.metric}, {rule.split} ({rule.centre}), {rule.source} input, {rule.chosen_system}"
        value = "-" if item.value is None else f"{rule.judged} {item.value:.3f}"
        table.add_row("yes" if item.held else "NO", what, required, value, str(item.cases), item.remark)
    Console().print(table)
    if failed := [item.rule for item in findings if not item.held]:
        names = ", ".join(f"{rule.task} {rule.metric}" for rule in failed)
        raise NotMet(f"{len(failed)} of {len(findings)} required values are not reached: {names}")
    Console(stderr=True).print(f"all {len(findings)} required values are reached", highlight=False)
