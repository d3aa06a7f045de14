"""`python -m infra.cluster build|up|down|status`."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from infra.cluster import addons, binaries, needs, network, teardown
from infra.cluster.credentials import write_credentials
from infra.cluster.images import load, tools_archive
from infra.cluster.layout import KUBECONFIG, LOGS, STATE
from infra.cluster.node import PKI, api_ready, start_containerd, start_control_plane, start_node
from infra.cluster.processes import recorded

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
say = Console(stderr=True)
PARTS = 7
READY, LOCK = STATE / "ready", STATE.with_name("lock")


@app.command()
def build() -> None:
    """Build the programs that are not in the cache yet (about 15 minutes the first time)."""
    _check_needs()
    begin = time.monotonic()
    try:
        binaries.build_missing(
            lambda program, index, count: say.print(
                f"  [{index + 1}/{count}] building {program.name} ({time.monotonic() - begin:.0f} s so far)"
            )
        )
    except binaries.BuildError as error:
        say.print(str(error), markup=False)
        raise typer.Exit(1) from error


@app.command()
def up() -> None:
    """Bring the cluster up; does nothing when it is up. Prints the path of its kubeconfig."""
    _check_needs()
    with alone():
        _up()


def _up() -> None:
    if READY.is_file() and len(recorded()) == PARTS and api_ready():
        say.print("the test cluster is up")
        print(KUBECONFIG)
        return
    build()
    if STATE.exists():
        say.print("removing what a former cluster left")
        teardown.run()
    if network.foreign_chains():
        say.print(
            "this machine's firewall has chains of another Kubernetes; set ROLLAMA_KUBECONFIG to use that cluster, "
            "or remove it first"
        )
        raise typer.Exit(2)
    begin = time.monotonic()
    archive = tools_archive()
    shutil.rmtree(LOGS, ignore_errors=True)
    STATE.mkdir(parents=True, mode=0o755)
    try:
        write_credentials(PKI)
        shutil.copyfile(PKI / "admin.kubeconfig", KUBECONFIG)
        KUBECONFIG.chmod(0o600)
        network.make_bridge()
        teardown.remember_namespaces()
        start_containerd()
        load(archive)
        start_control_plane()
        start_node()
        addons.install()
        READY.touch()
    except BaseException:
        say.print(f"bringing the cluster up failed after {time.monotonic() - begin:.0f} s; logs are in {LOGS}")
        if not os.environ.get("ROLLAMA_CLUSTER_KEEP"):
            teardown.run()
        raise
    say.print(f"the test cluster is up ({time.monotonic() - begin:.0f} s)")
    print(KUBECONFIG)


@app.command()
def down() -> None:
    """Remove the cluster: processes, mounts, interfaces, firewall chains, state. Built programs stay."""
    with alone():
        teardown.run()
        left = teardown.leftovers()
    for line in left:
        say.print(f"left over: {line}")
    raise typer.Exit(1 if left else 0)


@app.command()
def status() -> None:
    """Say what runs; exit code 1 when the cluster is not up."""
    running = recorded()
    if not running:
        say.print("the test cluster is down")
        raise typer.Exit(1)
    for name, pid in running.items():
        say.print(f"  {name:25} pid {pid}")
    if not api_ready():
        say.print("the API server does not answer")
        raise typer.Exit(1)
    print(addons.kubectl("get", "pods", "-A"))


@contextmanager
def alone() -> Iterator[None]:
    """One `up` or `down` at a time: a second one waits instead of tearing down what the first is making."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say.print("waiting for another 'up' or 'down' of the test cluster")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _check_needs() -> None:
    if lines := needs.lacking():
        say.print("the test cluster cannot be made here; missing:")
        for line in lines:
            say.print(f"  - {line}")
        raise typer.Exit(2)


if __name__ == "__main__":
    app()
