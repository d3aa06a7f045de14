"""`rollama check`: an evaluation against a threshold file; the exit code says whether it holds."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

BELOW = 3


def check(
    evaluation: Path = typer.Argument(..., help="evaluation.json, or the folder that holds it."),
    thresholds: Path = typer.Argument(..., help="YAML file with rules; see infra/ci/thresholds.yaml."),
) -> None:
    """Check an evaluation against required values. Exit code 0: all hold; 3: at least one does not."""
    from rollama.evaluation.thresholds import check as judge
    from rollama.evaluation.thresholds import read_thresholds

    rules = read_thresholds(thresholds)
    path = evaluation / "evaluation.json" if evaluation.is_dir() else evaluation
    findings = judge(path, rules)
    table = Table("holds", "what", "required", "found", "cases", "remark")
    for item in findings:
        rule = item.rule
        required = f"at least {rule.at_least}" if rule.at_least is not None else f"at most {rule.at_most}"
        what = f"{rule.task} {rule.metric}, {rule.split} ({rule.centre}), {rule.source} input, {rule.chosen_system}"
        value = "-" if item.value is None else f"{rule.judged} {item.value:.3f}"
        table.add_row("yes" if item.held else "NO", what, required, value, str(item.cases), item.remark)
    Console().print(table)
    failed = sum(not item.held for item in findings)
    Console(stderr=True).print(f"{len(findings) - failed} of {len(findings)} rules hold", highlight=False)
    if failed:
        raise typer.Exit(BELOW)
