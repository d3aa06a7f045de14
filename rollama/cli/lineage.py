"""`rollama lineage`: which models saw this case, what is this model made of, what made this contour."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Column, Table

if TYPE_CHECKING:
    from rollama.lineage.query import Lineage

app = typer.Typer(
    help="Which models saw this case, what is this model made of, what made this contour.",
    invoke_without_command=True,
    subcommand_metavar="[withdraw ...] [carry ...]",
)
MOST = 12
"""Models that a model began with that are listed; a federation's has each site's update of each round."""
WORKSPACE = typer.Option("runs/local", "--workspace", help="Folder or s3://bucket/prefix whose lineage/ is asked.")


@app.callback()
def lineage(
    context: typer.Context,
    case: str | None = typer.Option(None, "--case", help="Case id: which models saw it?"),
    model: str | None = typer.Option(
        None, "--model", help="Folder of a model, or the beginning of its digest: its data, parents, releases."
    ),
    contour: Path | None = typer.Option(
        None, "--contour", help="File or folder of a prediction: which models made it, from which inputs?"
    ),
    audit: str | None = typer.Option(
        None,
        "--audit",
        help="With --contour: folder or s3://bucket/prefix with the endpoint's audit trail, to ask too.",
    ),
    workspace: str = WORKSPACE,
) -> None:
    """Ask the events that imports, training, evaluation, prediction and release wrote down; alone, list all models.

    A model saw a case if the case was in the training or validation split of its data, or if a model that it began
    with saw it. A contour is known by the hash of its file, wherever the file is now.
    """
    if context.invoked_subcommand is not None:
        return
    from rollama.core.errors import ConfigError
    from rollama.core.storage import locate
    from rollama.lineage.ledger import open_ledger
    from rollama.lineage.query import Lineage

    if sum(item is not None for item in (case, model, contour)) > 1:
        raise ConfigError("ask one thing at a time: --case, --model or --contour")
    if audit is not None and contour is None:
        raise ConfigError("--audit goes with --contour")
    console = Console(soft_wrap=True)
    known = Lineage(open_ledger(locate(workspace)))
    if contour is not None:
        _contour(known, contour, audit, console)
    elif model is not None:
        _model(known, _digest(known, model), console)
    elif case is not None:
        _case(known, case, console)
    else:
        _models(known, known.models(), console, f"{workspace}: no model is recorded")


@app.command("withdraw")
def withdraw(
    case: str = typer.Argument(..., help="Case id of the subject that must not be used any more."),
    workspace: str = WORKSPACE,
) -> None:
    """Record that a subject was withdrawn; models that saw it are marked from now on.

    Files are not deleted: data sets are yours. The models named need retraining without the case.
    """
    from rollama.core.storage import locate
    from rollama.lineage.events import Withdrawn
    from rollama.lineage.ledger import open_ledger
    from rollama.lineage.query import Lineage

    ledger = open_ledger(locate(workspace))
    ledger.record(Withdrawn(case=case))
    known, console = Lineage(ledger), Console(soft_wrap=True)
    console.print(f"{case}: withdrawn", highlight=False)
    _case(known, case, console)


@app.command("carry")
def carry(
    model: str = typer.Argument(..., help="Folder of a model, or the beginning of its digest."),
    workspace: str = WORKSPACE,
    to: str = typer.Option(..., "--to", help="Folder or s3://bucket/prefix whose lineage is to know the model."),
) -> None:
    """Copy what made a model to another workspace's lineage: its training, data, parents, withdrawn subjects.

    For a model that moves: from a federation's coordinator to a hospital, from a bucket to a release's folder.
    ROLLAMA_LINEAGE_KEY and ROLLAMA_LINEAGE_HEADS, if set, are those of the lineage that is written to.
    """
    from rollama.core.errors import DataError
    from rollama.core.storage import locate
    from rollama.lineage.carry import carry_model
    from rollama.lineage.ledger import HEADS, KEY, open_ledger, read_ledger
    from rollama.lineage.query import Lineage

    source, target = read_ledger(locate(workspace)), open_ledger(locate(to))
    try:
        target.require_whole()  # heads of another lineage must not be signed into, and look like a lineage that was cut
    except DataError as error:
        raise DataError(f"{error}; are {KEY} and {HEADS}, if set, those of {to}?") from None
    digest = _digest(Lineage(source), model)
    if not carry_model(source, target, digest):
        raise DataError(f"{workspace}: its lineage knows no model {digest[:16]}; nothing was carried")
    typer.echo(f"{digest}: {to} knows now what made it", err=True)


def _case(known: Lineage, case: str, console: Console) -> None:
    if case in known.withdrawn:
        console.print(f"{case} was withdrawn", highlight=False)
    for content, name, split in known.held(case):
        console.print(f"{name}: {split} in data {content[:12]} ({_origin(known, content)})", highlight=False)
    _models(known, known.who_saw(case), console, f"no recorded model saw {case}")


def _models(known: Lineage, models: Iterable[str], console: Console, nothing: str) -> None:
    table = Table(
        Column("model", min_width=16, no_wrap=True), "task", "data", "contours", "in use",
        Column("saw withdrawn", overflow="fold"), box=None,
        padding=(0, 2), pad_edge=False,
    )  # fmt: skip
    for digest in models:
        life = known.life(digest)
        tasks, data = ({getattr(event, name) for event in life.trained} for name in ("task", "data"))
        table.add_row(
            digest[:16], ", ".join(sorted(tasks)), ", ".join(sorted(item[:12] for item in data)),
            str(len(life.predicted) or ""), "yes" if life.in_use else "", ", ".join(map(_short, life.withdrawn)),
        )  # fmt: skip
    console.print(table if table.row_count else nothing, highlight=False)


def _model(known: Lineage, digest: str, console: Console) -> None:
    life = known.life(digest)
    lines: list[tuple[str, str]] = [("model", digest)]
    for event in life.trained:
        cases = known.ledger.cases(event.data)
        lines += [("task", event.task), ("data", f"{event.data} ({_counted(cases)})")]
        lines += [("data from", _origin(known, event.data)), ("run", event.run)]
        lines += [("base", event.base)] if event.base else []
    lines += [("began with", parent) for parent in life.ancestors[:MOST]]
    lines += [("", f"and {more} more")] if (more := len(life.ancestors) - MOST) > 0 else []
    lines += [("evaluated on", f"{event.data}, figures {event.result[:16]}") for event in life.evaluated]
    lines += [
        ("rolled back to" if event.rolled_back else "released", f"record {event.record[:16]}")
        for event in life.released
    ]
    lines += [
        ("predicted", f"{event.created}, target {event.files.get('target.nii.gz', '')[:16]}")
        for event in life.predicted
    ]
    lines += [("in use", "yes" if life.in_use else "no")]
    lines += [("SAW A WITHDRAWN SUBJECT", case) for case in life.withdrawn]
    _facts(lines, console)


def _contour(known: Lineage, place: Path, audit: str | None, console: Console) -> None:
    from rollama.core.storage import open_storage
    from rollama.lineage.contour import find_making

    recorded = set(known.models())
    for number, making in enumerate(find_making(known, place, open_storage(audit) if audit else None)):
        if number:
            console.print()
        lines = [("made", making.created), ("told by", making.told_by), *making.facts.items()]
        lines += [(f"input {name}", value) for name, value in sorted(making.inputs.items())]
        for name, digest in sorted(making.models.items()):
            seen = known.forbidden(digest) if digest in recorded else ()
            remark = "not recorded in this workspace" if digest not in recorded else ""
            remark = f"saw withdrawn {', '.join(seen)}" if seen else remark
            lines.append((f"model {name}", f"{digest}  {remark}".rstrip()))
        _facts(lines, console)


def _origin(known: Lineage, content: str) -> str:
    """How a data set came to be, in words."""
    steps = []
    for event in known.made(content):
        added = f" {event.case}" + (f" of {event.corrects}" if event.corrects else "") if event.case else ""
        steps.append(f"{event.kind}{added}, rollama {event.version[:18]}")
    return "; then ".join(steps) or "nothing recorded about its making"


def _facts(lines: list[tuple[str, str]], console: Console) -> None:
    """Names and values in two columns; digests are long, and are not cut."""
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        console.print(f"{name:{width}}  {value}", highlight=False, markup=False)


def _short(case: str) -> str:
    """A case id for a table; of a federation's update, which is a hash, the beginning."""
    return case[:12] if re.fullmatch("[0-9a-f]{64}", case) else case


def _digest(known: Lineage, model: str) -> str:
    if not Path(model).is_dir():
        return known.find(model)
    from rollama.core.manifest import artefact_hash

    return artefact_hash(Path(model))


def _counted(cases: list[dict[str, str]]) -> str:
    from collections import Counter

    counts = Counter(case["split"] for case in cases)
    return ", ".join(f"{count} {split}" for split, count in sorted(counts.items()))
