"""`rollama federation`: one model trained by several hospitals, on Flower; see docs/centres.md.

Runs in an environment of its own (`pip install 'rollama[federated]'`), which has no torch: the training is a command
of the site's.
"""

from __future__ import annotations

import contextlib
import json
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import subprocess
    from multiprocessing.process import BaseProcess

    from rollama.centres.federation.keeper import Keeper
    from rollama.centres.federation.processes import Coordinator

FOLDER = typer.Argument(..., help="The coordinator's folder, with federation.yaml.", exists=True, file_okay=False)
SITE_FILE = typer.Argument(..., help="The site's file, site.yaml.", exists=True, dir_okay=False)
POLL_S, ASK_EVERY_S = 2.0, 20.0
START_S = 180.0
"""Seconds in which a SuperLink has to answer at its start."""
RESTARTS = 3
"""Runs that Flower gave up, and SuperLinks that died, which are begun again; all go on from the last whole round."""

app = typer.Typer(help="One model trained by several hospitals: data stay, weights move.", no_args_is_help=True)


@app.command("key")
def key(
    path: Path = typer.Argument(..., help="Where the private key goes; the public one beside it, with .pub."),
) -> None:
    """Make a site's key pair. Send the .pub file to the coordinator, by a way that tells who sent it."""
    from rollama.centres.federation.keys import make_site_key

    typer.echo(str(make_site_key(path)))


@app.command("serve")
def serve(
    folder: Path = FOLDER,
    certificate: Path = typer.Option(..., "--cert", help="The coordinator's certificate (PEM), as sites will see it."),
    private: Path = typer.Option(..., "--key", help="Its private key (PEM)."),
    host: str = typer.Option("0.0.0.0", help="Address to listen on."),
    port: int = typer.Option(9443, help="Port to listen on."),
    sites: Path | None = typer.Option(
        None, help="Folder with NAME.pub for each site: registers who is new, turns out who is not in it any more.",
        exists=True, file_okay=False,
    ),
    go_on: bool = typer.Option(
        False, "--go-on", help="Go on with a run that was cut off, as when the coordinator ended or was moved."
    ),
) -> None:  # fmt: skip
    """Run the coordinator: Flower's SuperLink on 127.0.0.1, and before it the door that sites see."""
    from multiprocessing import get_context

    from rollama.centres.federation import gate, members, processes
    from rollama.centres.federation.config import read_federation
    from rollama.centres.federation.keeper import Keeper
    from rollama.centres.federation.state import standing

    federation = read_federation(folder)
    standing(folder, federation)  # a damaged state is told before sites are let in
    if sites is not None:
        members.read_keys(sites)
    where = processes.coordinator(folder)
    inner = f"https://127.0.0.1:{where.port}"
    door = get_context("spawn").Process(
        target=gate.serve, args=(inner, where.authority, host, port, certificate, private), daemon=True
    )
    told: list[int] = []
    _hear(told)
    link = processes.superlink(where)
    if sites is not None:
        _let_in(where, link, sites, told)
    door.start()
    typer.echo(f"{federation.name}: serving sites on {host}:{port}", err=True)
    keeper = Keeper(folder, lambda said: typer.echo(f"{federation.name}: {said}", err=True)) if go_on else None
    try:
        _serve(federation.name, where, link, door, sites, told, keeper)
    finally:
        if keeper is not None:
            keeper.end()


def _serve(
    name: str, where: Coordinator, link: subprocess.Popen[bytes], door: BaseProcess, sites: Path | None,
    told: list[int], keeper: Keeper | None,
) -> None:  # fmt: skip
    """Until a signal: keep SuperLink and door, a SuperLink that died is started again, a run that was cut off too."""
    from rollama.centres.federation import processes
    from rollama.core.errors import ClusterError

    def well(link: subprocess.Popen[bytes]) -> bool:
        if keeper is not None:
            keeper.look()
        return door.is_alive() and not processes.lame(link)

    for left in range(RESTARTS, -1, -1):
        try:
            _until_told(link, lambda link=link: well(link), told)
            break
        except ClusterError as error:
            if not left or not door.is_alive():
                door.terminate()
                raise
            typer.echo(f"{name}: {error}; starting it again", err=True)
            link = processes.superlink(where)
            if sites is not None:  # one that died at its start has not had the list
                _let_in(where, link, sites, told)
    door.terminate()


@app.command("register")
def register(
    folder: Path = FOLDER,
    public: Path = typer.Argument(..., help="The site's public key.", exists=True, dir_okay=False),
    name: str = typer.Option(..., help="The site's name."),
) -> None:
    """Let a site in: only registered keys are served."""
    from rollama.centres.federation import members, processes

    typer.echo(f"{name}: registered as node {members.register(processes.coordinator(folder), public, name)}")


@app.command("join")
def join(file: Path = SITE_FILE) -> None:
    """Run a site: Flower's SuperNode, which starts the site's own training when the coordinator asks."""
    from rollama.centres.federation import processes
    from rollama.centres.federation.config import read_site
    from rollama.centres.federation.weights import read_artefact

    site = read_site(file)
    read_artefact(site.start)
    node = processes.supernode(site, file)
    typer.echo(f"{site.name}: joined {site.coordinator}; record in {site.state / 'record.jsonl'}", err=True)
    _until_told(node)


@app.command("run")
def run(
    folder: Path = FOLDER,
    wait: bool = typer.Option(True, "--wait/--no-wait", help="Wait for the last round."),
) -> None:
    """Run the federation's rounds, from where it stands; the same command goes on after an interruption.

    While a run is going on, that one is followed.
    """
    from rollama.centres.federation import processes, record
    from rollama.centres.federation.config import read_federation
    from rollama.centres.federation.state import MODEL, RECORD
    from rollama.core import lock
    from rollama.core.errors import ClusterError

    federation = read_federation(folder)
    path = folder / RECORD
    seen, left = len(record.read(path)), RESTARTS
    where = processes.coordinator(folder)
    number = "" if lock.held(folder) else processes.start_run(where)
    what = f"Flower's run {number}" if number else "a run is going on already" + ("; following it" if wait else "")
    typer.echo(f"{federation.name}: {what}", err=True)
    last = time.monotonic()
    while wait:
        time.sleep(POLL_S)
        lines = record.read(path)
        for line in lines[seen:]:
            typer.echo(_told(line), err=True)
            if line["event"] == "model":
                typer.echo(str(folder / MODEL))
                return
            if line["event"] == "stopped":
                raise ClusterError(f"{federation.name}: stopped: {line['reason']}")
        if len(lines) > seen or time.monotonic() - last < ASK_EVERY_S:
            seen, last = len(lines), last if len(lines) == seen else time.monotonic()
            continue
        last, state = time.monotonic(), ""
        if lock.held(folder):
            continue
        with contextlib.suppress(ClusterError):  # the SuperLink is away or busy; it is asked again
            answer = processes.flwr(where, "list", processes.CONNECTION, *(("--run-id", number) if number else ()))
            state = _run_state(answer) if number else "finished"
        if not state.startswith("finished") or len(record.read(path)) > seen:
            continue
        # Flower gave the run up (a machine too busy to start it in half a minute, a SuperLink that was killed).
        if left == 0:
            raise ClusterError(f"{federation.name}: its run {number} ended without a model ({state})")
        left, number = left - 1, processes.start_run(where)
        typer.echo(f"{federation.name}: Flower ended its run ({state}); going on as run {number}", err=True)


@app.command("stop")
def stop(folder: Path = FOLDER) -> None:
    """Stop the run that is going on. Whole rounds stay; 'run' goes on from them, and nothing does so by itself."""
    from rollama.centres.federation import processes, record
    from rollama.centres.federation.config import read_federation
    from rollama.centres.federation.state import RECORD

    federation = read_federation(folder)
    if record.unfinished(folder / RECORD):
        record.append(folder / RECORD, "stopped", reason="a person stopped it")
    where = processes.coordinator(folder)
    runs = processes.flwr(where, "list", processes.CONNECTION).get("runs") or []
    going = [str(run["run-id"]) for run in runs if not str(run.get("status", "")).startswith("finished")]
    for number in going:
        processes.flwr(where, "stop", number, processes.CONNECTION)
    typer.echo(f"{federation.name}: {'stopped run ' + ', '.join(going) if going else 'no run is going on'}")


@app.command("status")
def status(folder: Path = FOLDER) -> None:
    """Rounds, and what became of every site's updates."""
    from rollama.centres.federation.config import read_federation
    from rollama.centres.federation.state import FACTS, ROUNDS
    from rollama.core.files import read_json

    federation = read_federation(folder)
    table = Table("round", "averaged", "refused", "weights")
    for place in sorted((folder / ROUNDS).glob("[0-9]*")):
        facts = read_json(place / FACTS)
        good = [update for update in facts["updates"] if update["refusal"] is None]
        bad = [f"{update['site']}: {update['refusal']}" for update in facts["updates"] if update["refusal"]]
        names = ", ".join(f"{update['site']} ({update['norm']:.3g})" for update in good)
        kept = names if facts["changed"] else f"none; {names or 'nobody'} is fewer than {federation.min_sites}"
        table.add_row(str(facts["round"]), kept, "; ".join(bad), facts["weights"][:12])
    Console(width=None if Console().is_terminal else 160).print(table)


@app.command("record")
def show_record(
    path: Path = typer.Argument(..., help="record.jsonl of a site or of the coordinator.", exists=True, dir_okay=False),
    head: str | None = typer.Option(
        None, help="Hash that must be in it, noted before; finds lines cut off at the end."
    ),
) -> None:
    """Check a record and sum up what left and what came; exit code 1 when it is not whole."""
    from rollama.centres.federation import record
    from rollama.core.chain import FIRST
    from rollama.core.errors import DataError

    problems = record.verify(path, head)
    if problems:
        raise DataError(f"{path}: " + "; ".join(problems[:10]))
    lines = record.read(path)
    for line in lines:
        typer.echo(f"{line['time']} {_told(line)}")
    typer.echo(f"{len(lines)} lines, whole; head {lines[-1]['hash'] if lines else FIRST}")


def _told(line: dict[str, Any]) -> str:
    """A line of a record for people."""
    left_out = {"number", "time", "event", "previous", "hash", "tensors", "nonce", "config"}
    facts = {key: value for key, value in line.items() if key not in left_out}
    tensors = line.get("tensors")
    if isinstance(tensors, list):
        facts["tensors"] = len(tensors)
    shown = " ".join(
        f"{key}={value[:12] if isinstance(value, str) and len(value) == 64 else value}"
        for key, value in facts.items()
        if value is not None
    )
    return f"{line['event']:9} {shown}"


def _run_state(answer: dict[str, Any]) -> str:
    runs = answer.get("runs") or [{}]
    return str(runs[0].get("status", "")) or json.dumps(runs[0])[:200]


def _let_in(where: Coordinator, link: subprocess.Popen[bytes], sites: Path, told: list[int]) -> None:
    """Wait for the SuperLink and make its nodes those of the folder `sites`; nothing when a signal came meanwhile."""
    from rollama.centres.federation import members
    from rollama.core.errors import ClusterError

    deadline = time.monotonic() + START_S
    while not told and link.poll() is None:
        try:
            for sentence in members.keep(where, sites):
                typer.echo(sentence, err=True)
            return
        except ClusterError:
            if time.monotonic() > deadline:
                link.terminate()
                raise
            time.sleep(0.5)


def _hear(told: list[int]) -> None:
    """Collect SIGINT and SIGTERM in `told` from now on."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda found, _frame: told.append(found))


def _until_told(process: subprocess.Popen[bytes], also: Any = lambda: True, told: list[int] | None = None) -> None:
    """Wait for SIGINT or SIGTERM, then end the process; raise when it ends by itself, or when `also` says no more.

    `told` collects the signals, for a caller that waits for one process after another.
    """
    from rollama.core.errors import ClusterError

    told = [] if told is None else told
    _hear(told)
    while not told and process.poll() is None and also():
        time.sleep(0.3)
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except Exception:  # a SuperNode with a training below it may not end by itself
            process.kill()
            process.wait()
    if not told:
        raise ClusterError(f"Flower's {Path(str(process.args[0])).name} ended with exit code {process.returncode}")  # type: ignore[index]
