"""`rollama cohort proof`: is the text needed, and does nothing else tell the answer?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table


def proof(
    root: Path = typer.Argument(..., help="Folder of a synthetic cohort."),
    out: Path | None = typer.Option(None, "--out", help="Also write proof.json into this folder."),
) -> None:
    """Compute what a model could reach without the text, and check that nothing but the text tells the answer.

    Prints the best Dice that any model seeing only the CT can reach, the simulated readers' agreement (the ceiling),
    what copying reaches for summaries and plans, and the leakage checks. A few minutes.
    """
    from rollama.cli.progress import bar
    from rollama.cohort.bound import bounds
    from rollama.cohort.config import CohortConfig
    from rollama.cohort.leakage import check_leakage
    from rollama.cohort.make import cohort_digest
    from rollama.core.config import build
    from rollama.core.errors import DataError
    from rollama.core.files import write_json
    from rollama.core.registry import Site
    from rollama.data.case import Split
    from rollama.data.dataset import open_dataset
    from rollama.evaluation.readers import reader_ceiling
    from rollama.evaluation.run import evaluate_baselines
    from rollama.evaluation.statistics import estimate

    errors, console = Console(stderr=True), Console()
    dataset = open_dataset(root, check_volumes=False)
    if dataset.info.generator.get("room") != "rollama.cohort":
        raise DataError(f"{root}: not made by 'rollama cohort make', so its generator is not known")
    config = build(CohortConfig, dataset.info.generator["config"], str(root / "dataset.json"))
    if config.site is not Site.BREAST:
        raise DataError(f"{root}: the CT-only bound is known for the breast only, this is a {config.site} cohort")
    if cohort_digest(config) != dataset.info.generator["config_hash"]:
        raise DataError(f"{root}: made by another version of the generator or of {config.rules!r}; make it again")
    splits = (Split.TEST, Split.EXTERNAL)
    cases = [case for case in dataset.cases if case.split in splits]
    found: dict[str, Any] = {"content_hash": dataset.info.content_hash, "cases": len(cases)}

    with bar("CT-only bound", len(cases), errors) as update:
        all_bounds = list(bounds(config, splits, update))
    console.print("Best Dice that any model can reach which sees only the CT", style="bold")
    table = _table("patients", "cases", "bound")
    found["bound"] = {}
    for name, shown in (("all", None), ("nothing to be seen", "none"), ("one side marked", "one side")):
        values = [bound.dice for bound in all_bounds if shown in (None, bound.cues)]
        if values:
            interval = estimate(values)
            found["bound"][name] = {"cases": len(values), **interval.to_dict()}
            table.add_row(name, str(len(values)), str(interval))
    console.print(table)
    console.print()

    with bar("readers", len(cases), errors) as update:
        ceiling = reader_ceiling(cases, update)
    console.print("Simulated readers: the ceiling", style="bold")
    table = _table("agreement", "cases", "Dice")
    found["readers"] = {}
    for key, name in (("dice_reference", "reader with the rules"), ("dice_pairs", "reader with reader")):
        values = [x for r in ceiling.records if (x := r.metrics[key]) == x]
        if values:
            interval = estimate(values)
            found["readers"][key] = {"cases": len(values), **interval.to_dict()}
            table.add_row(name, str(len(values)), str(interval))
    console.print(table)
    console.print()

    records = evaluate_baselines(cases, dataset.select(Split.TRAIN))
    console.print("What copying reaches (note-only baselines)", style="bold")
    table = _table("task", "baseline", "score")
    found["baselines"] = {}
    for task, system, metric, name in (
        ("s", "lead words", "rougeL", "ROUGE-L"),
        ("s", "nearest case", "rougeL", "ROUGE-L"),
        ("p", "most frequent", "fields_mean", "fields right"),
        ("p", "nearest case", "fields_mean", "fields right"),
    ):
        values = [r.metrics[metric] for r in records if r.task == task and r.system == system]
        interval = estimate(values)
        found["baselines"][f"{task}/{system}/{metric}"] = {"cases": len(values), **interval.to_dict()}
        table.add_row(f"{task.upper()} ({name})", system, str(interval))
    console.print(table)
    console.print()

    with bar("leakage checks", len(dataset.cases), errors) as update:
        checks = check_leakage(dataset, update)
    console.print("Can it be guessed without reading?", style="bold")
    table = _table("answer", "from", "cases", "right", "by chance", "p", "verdict")
    for check in checks:
        verdict = "LEAKS" if check.leaks else "ok" if check.must_fail else "known"
        table.add_row(check.answer, check.hint, str(check.cases), f"{check.accuracy:.0%}", f"{check.shuffled:.0%}",
                      f"{check.p:.2f}", verdict)  # fmt: skip
    console.print(table)
    console.print()
    found["leakage"] = [vars(check) | {"leaks": check.leaks} for check in checks]
    if out:
        write_json(out / "proof.json", found)
        errors.print(f"{out / 'proof.json'}: written", highlight=False)
    if leaks := [f"{check.answer} from {check.hint}" for check in checks if check.leaks]:
        raise DataError(f"{root}: the answer can be guessed without reading: {'; '.join(leaks)}")


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number < 2 else "right")
    return table
