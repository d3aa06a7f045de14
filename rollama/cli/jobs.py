"""`rollama submit|status|logs|cancel|list`: training on a Kubernetes cluster through KubeRay.

Exit codes of `submit --wait` and `logs --follow`: 0 success, 2 refused before anything was created, 10 the job failed,
11 the infrastructure failed, 12 a deadline passed, 13 cancelled or stopped, 14 the cluster could not be reached.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from rollama.cli.options import PRESET, SET
from rollama.cli.train import What

if TYPE_CHECKING:
    from rollama.cluster.client import Cluster
    from rollama.cluster.config import SiteConfig
    from rollama.cluster.rayjob import TrainJob
    from rollama.cluster.submit import Placed
    from rollama.cluster.watch import Patience, Result

CODES = (
    "Exit codes: 0 success, 2 refused before anything was created, 10 the job failed, 11 the infrastructure failed, "
    "12 a deadline passed, 13 cancelled or stopped, 14 the cluster could not be reached, 130 interrupted (the job "
    "goes on)."
)
NAMESPACE = typer.Option(None, "--namespace", "-n", help="Default: the site's, else that of the kubeconfig's context.")
NAME = typer.Argument(..., help="The job's name, or a run's name for its newest job.")
PATIENCE = typer.Option(
    300.0, min=1, help="Seconds to wait for room or quota; what can never be satisfied is given up after 30 to 45 s."
)

submit = typer.Typer(help="Submit a job to a cluster.", no_args_is_help=True)


@submit.command("train", epilog=CODES)
def submit_train(
    what: What = typer.Argument(..., help="s: note -> summary. p: summary -> plan. seg: CT + plan -> target."),
    preset: str = PRESET,
    overrides: list[str] = SET,
    dataset: str = typer.Option(..., help="Data set in the store: <uri>@sha256:<hex>."),
    name: str | None = typer.Option(None, help="Name of the run and the model. Default: s, p or seg."),
    workspace: str | None = typer.Option(None, help="s3://bucket/prefix. Default: the site's."),
    site: Path | None = typer.Option(
        None, envvar="ROLLAMA_SITE", help="Site file. Default: ConfigMap rollama-site in the namespace."
    ),
    namespace: str | None = NAMESPACE,
    wait: bool = typer.Option(
        False, "--wait", help="Follow the job's log to the end; the exit code tells how it ended."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Let the cluster check everything, create nothing."),
    plan: bool = typer.Option(False, "--plan", help="Print what would be created, and create nothing."),
    retries: int = typer.Option(0, min=0, help="With --wait: submissions repeated after infrastructure failures."),
    timeout: int | None = typer.Option(None, min=60, help="Seconds until KubeRay ends the job. Default: the site's."),
    patience: float = PATIENCE,
    keep_stuck: bool = typer.Option(
        False,
        help="With --wait: keep a job that cannot start. By default it is cancelled, as it holds quota and nodes.",
    ),
    cancel_on_interrupt: bool = typer.Option(False, help="With --wait: Ctrl-C or SIGTERM cancels the job as well."),
) -> None:
    """Train one model on the cluster. The same command again attaches to the running job or resumes a failed one."""
    from rollama.cluster import rayjob
    from rollama.cluster import submit as submission
    from rollama.cluster.watch import Patience

    cluster, chosen = _site(site, namespace, connected=not (plan and not dry_run))
    job = _train_job(what, preset, overrides, dataset, name, workspace, timeout, chosen)
    space = cluster.namespace if cluster else namespace or chosen.namespace or "default"

    def build(attempt: int) -> dict[str, Any]:
        return rayjob.build_rayjob(job, chosen, space, attempt)

    body = build(1)
    if not plan or dry_run:
        _check_dataset(dataset)
    if plan:
        _print_plan(body, job, chosen)
    if dry_run:
        submission.preflight(_connected(cluster), body, chosen)
        typer.echo(f"{body['metadata']['name']}: the cluster would accept it; nothing was created")
    if plan or dry_run:
        return
    api: Cluster = _connected(cluster)

    def place() -> Placed:
        placed = submission.place(api, build, lambda found: submission.preflight(api, found, chosen))
        _say(f"{placed.name}: {_HOW[str(placed.how)]}")
        return placed

    if not wait:
        placed = place()
        _say(f"follow it with: rollama logs {placed.name} --namespace {space} --follow")
        return
    waits = Patience(general=patience, impossible=patience if chosen.nodes_scale else Patience.impossible)
    with _Interruptible(api, cancel_on_interrupt) as guard:

        def follow(placed: Placed) -> Result:
            guard.name = placed.name
            return _follow(api, placed.job, waits)

        result = submission.run(api, place, follow, _say, retries, keep_stuck)
    _end(result)


_HOW = {
    "created": "created",
    "attached": "is running already with the same content; attached to it",
    "finished": "has succeeded already with the same content; 'rollama cancel' its record to train again",
}


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
        end = outcome.ending(job)
        result = watch.explained(end, None if end.exit == 0 else causes.diagnose(job, found))
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
        with _Interruptible(api, cancel=False) as guard:
            guard.name = job["metadata"]["name"]
            result = _follow(api, job, Patience(general=patience))
        _end(result)
        return
    reader = log.JobLog(api, job, typer.echo)
    reader.read(follow=False)
    reader.close()
    if not reader.last_lines:
        _say(f"{job['metadata']['name']}: no log yet; 'rollama status {name}' says why")


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


class _Interruptible:
    """Ctrl-C and SIGTERM end the waiting, not the job, unless asked; either way it is said what became of the job."""

    def __init__(self, api: Cluster, cancel: bool) -> None:
        self.api, self.cancel, self.name = api, cancel, ""
        self._old: Any = None

    def __enter__(self) -> _Interruptible:
        self._old = signal.signal(signal.SIGTERM, _interrupt)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._old)
        if kind is None or not issubclass(kind, KeyboardInterrupt) or not self.name:
            return
        if self.cancel:
            self.api.delete_job(self.name)
            _say(f"{self.name}: cancelled; its checkpoints stay in the workspace")
            raise typer.Exit(13)
        _say(
            f"{self.name}: the job goes on. Attach with 'rollama logs {self.name} --namespace {self.api.namespace} "
            f"--follow' or the same submit command; end it with 'rollama cancel {self.name}'"
        )


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _site(site: Path | None, namespace: str | None, connected: bool) -> tuple[Cluster | None, SiteConfig]:
    """The site, and the connection where one is needed: for the ConfigMap or for the cluster's own checks."""
    from rollama.cluster.client import Cluster
    from rollama.cluster.config import CONFIG_KEY, CONFIG_MAP, parse_site, read_site
    from rollama.core.errors import ConfigError

    if site is not None:
        chosen = read_site(site)
        return Cluster(namespace or chosen.namespace) if connected else None, chosen
    cluster = Cluster(namespace)
    source = f"ConfigMap {CONFIG_MAP} in namespace {cluster.namespace}"
    text = cluster.site_text()
    if text is None:
        raise ConfigError(
            f"{source}: not found, or without key {CONFIG_KEY}; have the chart write it, or give --site FILE"
        )
    chosen = parse_site(text, source)
    if chosen.namespace and not namespace and chosen.namespace != cluster.namespace:
        cluster = Cluster(chosen.namespace)
    return cluster, chosen


def _connected(cluster: Cluster | None) -> Cluster:
    assert cluster is not None, "every path that talks to the cluster connects first"
    return cluster


def _train_job(
    what: What,
    preset: str,
    overrides: list[str],
    dataset: str,
    name: str | None,
    workspace: str | None,
    timeout: int | None,
    site: SiteConfig,
) -> TrainJob:
    from rollama.cli.train import model_config
    from rollama.cluster.rayjob import TrainJob
    from rollama.core.config import build
    from rollama.core.errors import ConfigError
    from rollama.presets import load_preset

    config = model_config(what, load_preset(preset, overrides))
    where = workspace or site.workspace
    if where is None:
        raise ConfigError("--workspace: missing; give s3://bucket/prefix, or set workspace in the site")
    values = {
        "task": what.value,
        "run": name or what.value,
        "preset": preset,
        "overrides": overrides,
        "dataset": dataset,
        "workspace": where,
        "config_digest": config.digest(),
        "workers": config.scale.workers,
        "cpus_per_worker": config.scale.cpus_per_worker,
        "gpus_per_worker": config.scale.gpus_per_worker,
        "memory_gib_per_worker": config.scale.memory_gib_per_worker,
        "deadline_s": timeout,
    }
    return build(TrainJob, values, "submit")


def _check_dataset(reference: str) -> None:
    """Look whether the content is in the store, where this machine has the store's credentials; else the job will."""
    from rollama.cluster.exits import Refused
    from rollama.core.errors import ClusterError, ConfigError, DataError
    from rollama.data.store import parse_reference, read_stored

    if not os.environ.get("AWS_ACCESS_KEY_ID"):
        return
    try:
        read_stored(parse_reference(reference))
    except DataError as error:
        raise Refused(f"--dataset: {error}") from error
    except (ClusterError, ConfigError) as error:
        _say(f"the data set was not checked from here ({error})")


def _print_plan(body: dict[str, Any], job: TrainJob, site: SiteConfig) -> None:
    from rollama.cluster import plan
    from rollama.cluster.quantity import cores, gib

    meta = body["metadata"]
    typer.echo(f"RayJob {meta['name']} in namespace {meta['namespace']}")
    typer.echo(f"image {site.image}\ncommand {' '.join(job.command())}")
    table = Table("pods", "count", "CPU", "memory", "GPUs")
    rows = plan.rows(body, site.gpu_resource)
    for row in rows:
        table.add_row(row.role, str(row.pods), cores(row.cpu), gib(row.memory), str(row.gpus))
    total = (sum(row.pods for row in rows), sum(row.cpu for row in rows), sum(row.memory for row in rows))
    table.add_row("all", str(total[0]), cores(total[1]), gib(total[2]), str(sum(row.gpus for row in rows)))
    Console(width=None if Console().is_terminal else 100).print(table)
    spec = body["spec"]
    scaled = "; workers come when the job asks and go when it ends" if site.autoscaling else ""
    typer.echo(f"at most {spec['activeDeadlineSeconds']} s, {spec['backoffLimit']} retries by KubeRay{scaled}")


def _follow(api: Cluster, job: dict[str, Any], patience: Patience) -> Result:
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
        result = Follower(api, job, _say, patience, tail).run()
    finally:
        log.finish(20.0 if result and not result.stuck else 2.0)
    if log.note and not log.last_lines:
        _say(log.note)
    return result


def _end(result: Result) -> None:
    _say(f"{'done' if result.exit == 0 else 'ended'}: {result.sentence}")
    raise typer.Exit(int(result.exit))


_say: Callable[[str], None] = Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print
