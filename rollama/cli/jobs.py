"""`rollama status|logs|cancel|list`: the jobs of a namespace on a Kubernetes cluster with KubeRay."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.table import Table

from rollama.cli.follow import CODES, NAMESPACE, PATIENCE, Interruptible, end, say
from rollama.cli.follow import follow as follow_job

__all__ = ["CODES", "cancel", "list_jobs", "logs", "status"]
NAME = typer.Argument(..., help="The job's name, or a run's name for its newest job.")


def status(
    name: str | None = typer.Argument(None, help="The job's or run's name. Default: all jobs."),
    namespace: str | None = NAMESPACE,
) -> None:
    """Show a job: its state, its pods, and why it waits or failed. Without a name, all jobs."""
    from rollama.cluster import causes, outcome, watch
    from rollama.cluster import submit as submission
    from rollama.cluster.client import Cluster
    from rollama.cluster.names import COMMAND

    if name is None:
        list_jobs(namespace)
        return
    api = Cluster(namespace)
    job = submission.find(api, name)
    found = causes.Evidence(job["metadata"]["name"], str(job["metadata"].get("creationTimestamp", "")))
    found.add(api.pods(found.name), api.events())
    typer.echo(f"{found.name}: {watch.describe(job, found.current())}")
    typer.echo(f"  command   {job['metadata'].get('annotations', {}).get(COMMAND, '?')}")
    if outcome.is_terminal(job):
        ended = outcome.ending(job)
        result = watch.explained(ended, None if ended.exit == 0 else causes.diagnose(job, found))
        typer.echo(f"  ended     {result.sentence} (exit code {int(result.exit)})")
    elif (waits := causes.waiting(found)) is not None:
        typer.echo(f"  waiting   {waits.sentence}")


def logs(
    name: str = NAME,
    namespace: str | None = NAMESPACE,
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on to the end; the exit code tells how it ended."),
    patience: float = PATIENCE,
) -> None:
    """Print a job's log, also when its pods are gone, as far as this machine has followed it."""
    from rollama.cluster import logs as log
    from rollama.cluster import submit as submission
    from rollama.cluster.client import Cluster
    from rollama.cluster.exits import Refused
    from rollama.cluster.watch import Patience

    api = Cluster(namespace)
    try:
        job = submission.find(api, name)
    except Refused:
        kept = list(log.kept_lines(api.namespace, name))
        if not kept:
            raise
        for line in kept:
            typer.echo(line)
        return
    if follow:
        with Interruptible(api, cancel=False) as guard:
            guard.name = job["metadata"]["name"]
            result = follow_job(api, job, Patience(general=patience))
        end(result)
        return
    reader = log.JobLog(api, job, typer.echo)
    reader.read(follow=False)
    reader.close()
    if not reader.last_lines:
        say(f"{job['metadata']['name']}: no log yet; 'rollama status {name}' says why")


def cancel(name: str = NAME, namespace: str | None = NAMESPACE) -> None:
    """Stop a job and delete its pods and record. Checkpoints stay: submitting again resumes."""
    from rollama.cluster import submit as submission
    from rollama.cluster.client import Cluster

    api = Cluster(namespace)
    found = submission.find(api, name)["metadata"]["name"]
    api.delete_job(found)
    typer.echo(f"{found}: cancelled; its checkpoints stay in the workspace")


def list_jobs(namespace: str | None = NAMESPACE) -> None:
    """List the jobs of the namespace, newest first."""
    from rollama.cluster import outcome
    from rollama.cluster.client import Cluster
    from rollama.cluster.names import LABEL_RUN

    api = Cluster(namespace)
    jobs = api.list_jobs("app.kubernetes.io/managed-by=rollama")
    if not jobs:
        typer.echo(f"no jobs in namespace {api.namespace}")
        return
    table = Table("job", "run", "model", "state", "created")
    for job in sorted(jobs, key=lambda item: str(item["metadata"]["creationTimestamp"]), reverse=True):
        meta = job["metadata"]
        state = " / ".join(part for part in (outcome.deployment_status(job), outcome.job_status(job)) if part) or "new"
        model = meta["labels"].get("app.kubernetes.io/component", "").removeprefix("train-")
        table.add_row(meta["name"], meta["labels"].get(LABEL_RUN, ""), model, state, meta["creationTimestamp"])
    Console(width=None if Console().is_terminal else 160).print(table)
