"""`rollama release evaluate|promote|rollback|history|settle`: the gate between training and the endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from rollama.cli import release_cycle, release_gate, release_keys
from rollama.cli.release_keys import CONFIG, KEY

if TYPE_CHECKING:
    from rollama.release.promotion import Desk
    from rollama.release.site import Site

CODES = (
    "Exit codes: 0 passed or done; 3 refused by the gate; 4 under-powered; 5 another release was first; "
    "6 released, but registry or endpoint did not follow yet; 7 (gate) passed, waiting for approval; 2 a setting; "
    "1 anything else."
)
app = typer.Typer(
    help="Compare a candidate with the released model under a signed protocol; promote it, or take it back.",
    epilog="Start with 'rollama release init releases'; docs/releases.md goes through all of it.",
    no_args_is_help=True,
)
for verb in (release_keys.init, release_keys.keygen, release_keys.keys, release_keys.approve):
    app.command(verb.__name__)(verb)
app.command("cycle", epilog=CODES)(release_cycle.cycle)
app.command("gate", epilog=CODES)(release_gate.gate)
app.command("fetch")(release_gate.fetch)
app.command("values")(release_gate.values)
app.command("retire-key")(release_keys.retire_key)
app.command("sign-protocol")(release_keys.sign_protocol)


@app.command("evaluate", epilog=CODES)
def evaluate(
    candidate: Path | None = typer.Argument(
        None, help="Folder with s/, p/ and seg/; models that it lacks stay the released ones."
    ),
    dataset: str = typer.Option(
        ..., "--dataset", help="Data set to judge on, folder or reference; its held-out cases count."
    ),
    model: list[str] = typer.Option(
        [], "--model", metavar="NAME=REFERENCE", help="A model by reference or folder, such as seg=s3://...@sha256:..."
    ),
    trained_on: list[str] = typer.Option(
        [], "--trained-on", help="Data set that the candidate was trained on, if it is another one. Repeatable."
    ),
    key: Path | None = typer.Option(
        None, "--key", help="Release key that signs the verdict; without it nothing can be promoted."
    ),
    out: Path | None = typer.Option(None, help="Folder for the verdict. Default: below 'work' of the site's file."),
    limit: int | None = typer.Option(None, min=1, help="To try it out: so many cases a centre and split; not signed."),
    scores: Path | None = typer.Option(None, help="The candidate's evaluation, made elsewhere (rollama evaluate)."),
    released_scores: Path | None = typer.Option(None, help="The released model's, made elsewhere."),
    gpus: int = typer.Option(0, min=0, max=1, help="Run the models on a GPU instead of the CPU."),
    config: Path | None = CONFIG,
) -> None:
    """Judge a candidate: score it and the released model on the same cases, compare under the signed protocol.

    Prints what stands against it, rule by rule and centre by centre, and writes verdict.html. Exit code 0: it may be
    promoted. What was scored before is not scored again; an interrupted evaluation goes on where it stopped.
    """
    from rollama.cli.release_evaluate import judge
    from rollama.release.site import read_site
    from rollama.release.verdict import demand

    site, _ = read_site(config)
    given = {name: place for name, _, place in (part.partition("=") for part in model)}
    found, place = judge(site, candidate, given, dataset, trained_on, key, out, limit, scores, released_scores, gpus)
    assert found is not None, "the released model itself is an error here"
    show(found, place)
    demand(found)


@app.command("promote", epilog=CODES)
def promote(
    verdict: str = typer.Argument(..., help="Folder that 'rollama release evaluate' or 'gate' wrote; also s3://..."),
    key: Path = KEY,
    again: bool = typer.Option(False, "--again", help="Release a candidate that was rolled back before."),
    despite_clock: bool = typer.Option(False, "--despite-clock", help="Go on although clocks disagree."),
    config: Path | None = CONFIG,
) -> None:
    """Release a candidate whose verdict is 'passed': history, registry and endpoint, in place and by digest.

    Killed at any moment, the same command finishes what was begun; 'rollama release rollback' undoes it. Model card,
    bill of materials, data hashes, verdict and protocol are kept with the signed record.
    """
    from rollama.cli.release_evaluate import release
    from rollama.release.reports import at_hand
    from rollama.release.site import read_site

    site, folder = read_site(config)
    with at_hand(verdict) as place:
        record = release(desk_of(site, folder), place, key, again, despite_clock)
    say_released(record)


@app.command("rollback", epilog=CODES)
def rollback(
    key: Path = KEY,
    to: int | None = typer.Option(
        None, "--to", help="Number of the record to go back to. Default: the release before."
    ),
    remark: str = typer.Option("", help="Why; it goes into the history and is shown when somebody promotes it again."),
    config: Path | None = CONFIG,
) -> None:
    """Take the released model back: the one before is served again. One command, no gate, no lost request."""
    from rollama.release.ancestry import tell_lineage
    from rollama.release.keys import load_private
    from rollama.release.promotion import rollback as undo
    from rollama.release.site import read_site

    site, folder = read_site(config)
    console = Console(stderr=True)
    with console.status("rolling back"):
        record = undo(desk_of(site, folder), load_private(key), to, remark)
        tell_lineage(site, record)
    say_released(record)


@app.command("settle", epilog=CODES)
def settle(config: Path | None = CONFIG) -> None:
    """Bring endpoint and registry to what the history says, after something kept them from following."""
    from rollama.release.promotion import settle as follow
    from rollama.release.site import read_site

    site, folder = read_site(config)
    console = Console(stderr=True)
    with console.status("settling"):
        done = follow(desk_of(site, folder))
    console.print("endpoint and registry follow the history" + ("" if done else " already"), highlight=False)


@app.command("history")
def history(
    documents: bool = typer.Option(False, "--documents", help="Also check every document of every record by its hash."),
    config: Path | None = CONFIG,
) -> None:
    """Show what was released when, by whom and with what answer, after checking every signature and hash.

    Exit code 1 when a record was changed, added or removed, or the registry knows of records that are not there.
    """
    import time

    from rollama.core.errors import ClusterError, DataError
    from rollama.release.history import check_documents
    from rollama.release.promotion import check_length, is_settled
    from rollama.release.site import read_site

    site, folder = read_site(config)
    desk = desk_of(site, folder)
    found = desk.history()
    console = Console(width=None if Console().is_terminal else 120)
    table = Table("", "record", "time", "what", "release", "verdict", "key", box=None)
    current = found.released()
    for record in found.records:
        entry = record.entry
        mark = "->" if current is not None and entry.number == current.entry.number else ""
        what = entry.kind + (f" to record {entry.back_to}" if entry.back_to else "")
        name = entry.candidate.release[:12] if entry.candidate else ""
        table.add_row(mark, str(entry.number), record.when, what, name, entry.outcome, record.signature.key[:16])
    console.print(table if found.records else "nothing was released yet", highlight=False)
    told = Console(stderr=True)
    for sentence in found.clocks(time.time(), site.clock_tolerance_s):
        told.print(f"clocks disagree: {sentence}; order is by number", highlight=False, soft_wrap=True)
    if not is_settled(desk, found):
        told.print("endpoint or registry have not followed yet: rollama release settle", highlight=False)
    problems = list(found.problems)
    if documents:
        problems += check_documents(desk.storage, found.records)
    try:
        check_length(found, desk.registry.remembered())
    except ClusterError as error:
        told.print(f"not compared with the registry: {error}", highlight=False, soft_wrap=True)
    except DataError as error:
        problems.append(str(error))
    if problems:
        raise DataError("the release history is not whole: " + "; ".join(problems))


def desk_of(site: Site, folder: Path) -> Desk:
    """The desk of a site, with MLflow as the registry."""
    from rollama.release.promotion import Desk
    from rollama.release.registry import MlflowRegistry

    return Desk.open(site, MlflowRegistry(site.registry_uri(folder), site.model))


def show(verdict: Any, place: Path) -> None:
    """Print the answer and where its page is; what stands against it is in the error that `demand` raises."""
    against = verdict.failed()
    kind = "SYNTHETIC data, " if verdict.synthetic else ""
    Console(soft_wrap=True).print(
        f"{verdict.outcome}: {len(against)} of {len(verdict.findings)} findings stand against it "
        f"({kind}research use only)",
        highlight=False,
    )
    Console(stderr=True).print(f"verdict: {place / 'verdict.html'}", highlight=False, soft_wrap=True)


def say_released(record: Any) -> None:
    """Print the release's digest and its record."""
    entry = record.entry
    typer.echo(entry.candidate.release)
    Console(stderr=True).print(
        f"record {entry.number}: {entry.kind}; history, registry and endpoint agree", highlight=False, soft_wrap=True
    )
