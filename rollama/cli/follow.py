"""Following a job from the command line: its log, its end as an exit code, and what an interruption does to it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from rollama.cluster.client import Cluster
    from rollama.cluster.watch import Patience, Result

CODES = (
    "Exit codes: 0 success, 2 refused before anything was created, 10 the job failed, 11 the infrastructure failed, "
    "12 a deadline passed, 13 cancelled or stopped, 14 the cluster could not be reached, 130 interrupted (the job "
    "goes on)."
)
NAMESPACE = typer.Option(None, "--namespace", "-n", help="Default: the site's, else that of the kubeconfig's context.")
PATIENCE = typer.Option(
    300.0, min=1, help="Seconds to wait for room or quota; what can never be satisfied is given up after 30 to 45 s."
)

say: Callable[[str], None] = Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print


class Interruptible:
    """Ctrl-C and SIGTERM end the waiting, not the job, unless asked; either way it is said what became of the job."""

    def __init__(self, api: Cluster, cancel: bool) -> None:
        self.api, self.cancel, self.name = api, cancel, ""
        self._old: Any = None

    def __enter__(self) -> Interruptible:
        self._old = signal.signal(signal.SIGTERM, _interrupt)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._old)
        if kind is None or not issubclass(kind, KeyboardInterrupt) or not self.name:
            return
        if self.cancel:
            self.api.delete_job(self.name)
            say(f"{self.name}: cancelled; its checkpoints stay in the workspace")
            raise typer.Exit(13)
        say(
            f"{self.name}: the job goes on. Attach with 'rollama logs {self.name} --namespace {self.api.namespace} "
            f"--follow' or the same submit command; end it with 'rollama cancel {self.name}'"
        )


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def follow(api: Cluster, job: dict[str, Any], patience: Patience) -> Result:
    """Show the log and wait for the end."""
    from rollama.cluster.logs import JobLog
    from rollama.cluster.watch import Follower

    log = JobLog(api, job, typer.echo)
    log.start()

    def tail() -> list[str]:
        log.finish()
        return log.tail()

    result = None
    try:
        result = Follower(api, job, say, patience, tail).run()
    finally:
        log.finish(20.0 if result and not result.stuck else 2.0)
    if log.note and not log.last_lines:
        say(log.note)
    return result


def end(result: Result) -> None:
    """Say how the job ended and leave with its exit code."""
    say(f"{'done' if result.exit == 0 else 'ended'}: {result.sentence}")
    raise typer.Exit(int(result.exit))
