"""`rollama import-text`: a hospital's own notes, summaries and plans as a data set for S and P."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console

from rollama.cli.options import TELL


def import_text(
    source: Path = typer.Argument(..., help="A file of JSON lines, or a folder of text files."),
    out: Path = typer.Argument(..., help="Folder of the data set to make."),
    mapping: list[str] = typer.Option(
        ...,
        "--map",
        metavar="FIELD=WHERE",
        help="note=, summary= or plan= a column, or for a folder a path such as {id}/note.txt. Repeatable.",
    ),
    case_id: str = typer.Option("case_id", "--id", help="Column with the case's id."),
    split: str | None = typer.Option(None, "--split", help="Column with train, validation, test or external."),
    validation: float = typer.Option(0.1, min=0, max=1, help="Share drawn for validation, without --split."),
    test: float = typer.Option(0.1, min=0, max=1, help="Share drawn for test, without --split."),
    centre: str = typer.Option("centre", help="Name of the hospital."),
    synthetic: bool = typer.Option(False, "--synthetic", help="The texts are invented."),
    workspace: str | None = TELL,
) -> None:
    """Make a data set of texts that trains S (note and summary) and P (summary and plan).

    rollama import-text reports.jsonl data --id mrn --map note=REPORT --map summary=IMPRESSION

    rollama import-text letters/ data --map 'note={id}/letter.txt' --map 'summary={id}/summary.txt'
    """
    from rollama.data.texts import Source, import_texts

    pairs = read_mapping(mapping)
    data = import_texts(Source(source, pairs, case_id, split, (validation, test)), out, centre, synthetic=synthetic)
    tell(workspace, out)
    counts: dict[str, int] = {}
    for case in data.cases:
        counts[str(case.split)] = counts.get(str(case.split), 0) + 1
    plans = sum(case.plan is not None for case in data.cases)
    console = Console(stderr=True)
    console.print(f"{out}: {len(data.cases)} cases ({', '.join(f'{n} {name}' for name, n in sorted(counts.items()))})",
                  highlight=False)  # fmt: skip
    if "plan" in pairs:
        console.print(
            f"{plans} of {len(data.cases)} plans have the form that is scored field by field; the others stay text",
            highlight=False,
        )
    if not synthetic:
        console.print("[bold red]The folder holds clinical text: keep it where patients' data may be.[/]")


def tell(workspace: str | None, dataset: Path) -> None:
    """Tell a workspace's lineage, if one is named, of a data set that was just made."""
    from rollama.core.storage import locate
    from rollama.lineage.record import record_data

    if workspace is not None:
        record_data(locate(workspace), dataset)


def read_mapping(items: list[str]) -> dict[str, str]:
    """Field -> where, from the values of `--map`.

    Raises:
        ConfigError: a value without `=`.
    """
    from rollama.core.errors import ConfigError

    pairs: dict[str, str] = {}
    for item in items:
        field, _, where = item.partition("=")
        if not where:
            raise ConfigError(f"--map {item}: has the form FIELD=WHERE, such as note=REPORT")
        pairs[field] = where
    return pairs
