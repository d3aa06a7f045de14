"""`rollama submit train|evaluate`: a job on a Kubernetes cluster through KubeRay.

The same command again attaches to the running job or resumes a failed one, so a pipeline may simply be run again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from rollama.cli.follow import CODES, NAMESPACE, PATIENCE, Interruptible, end, follow, say
from rollama.cli.options import PRESET, SET
from rollama.cli.train import What

if TYPE_CHECKING:
    from rollama.cluster.client import Cluster
    from rollama.cluster.config import SiteConfig
    from rollama.cluster.rayjob import Job
    from rollama.cluster.submit import Placed
    from rollama.evaluation.thresholds import Thresholds

DATASET = typer.Option(None, help="Data set in the store: <uri>@sha256:<hex>. Default: the site's.")
BUCKET = typer.Option(None, "--workspace", help="s3://bucket/prefix. Default: the site's.")
SITE = typer.Option(
    None, "--site", envvar="ROLLAMA_SITE", help="Site file. Default: ConfigMap rollama-site in the namespace."
)
WAIT = typer.Option(False, "--wait", help="Follow the job's log to the end; the exit code tells how it ended.")
DRY_RUN = typer.Option(False, "--dry-run", help="Let the cluster check everything, create nothing.")
PLAN = typer.Option(False, "--plan", help="Print what would be created, and create nothing.")
RETRIES = typer.Option(0, min=0, help="With --wait: submissions repeated after infrastructure failures.")
TIMEOUT = typer.Option(None, min=60, help="Seconds until KubeRay ends the job. Default: the site's.")
KEEP = typer.Option(
    False,
    "--keep-stuck",
    help="With --wait: keep a job that cannot start. By default it is cancelled, as it holds quota and nodes.",
)
CANCEL = typer.Option(False, "--cancel-on-interrupt", help="With --wait: Ctrl-C or SIGTERM cancels the job as well.")

submit = typer.Typer(help="Submit a job to a cluster.", no_args_is_help=True)


@submit.command("train", epilog=CODES)
def submit_train(
    what: What = typer.Argument(..., help="s: note -> summary. p: summary -> plan. seg: CT + plan -> target."),
    preset: str = PRESET,
    overrides: list[str] = SET,
    dataset: str | None = DATASET,
    name: str | None = typer.Option(None, help="Name of the run and the model. Default: s, p or seg."),
    init: str | None = typer.Option(None, help="Start from this model's weights: <uri>@sha256:<hex>."),
    workspace: str | None = BUCKET,
    site: Path | None = SITE,
    namespace: str | None = NAMESPACE,
    wait: bool = WAIT,
    dry_run: bool = DRY_RUN,
    plan: bool = PLAN,
    retries: int = RETRIES,
    timeout: int | None = TIMEOUT,
    patience: float = PATIENCE,
    keep_stuck: bool = KEEP,
    cancel_on_interrupt: bool = CANCEL,
) -> None:
    """Train one model on the cluster. The same command again attaches to the running job or resumes a failed one."""
    Submission(site, namespace, wait, dry_run, plan, retries, patience, keep_stuck, cancel_on_interrupt).run(
        training(what, preset, overrides, name, init), dataset, workspace, timeout
    )


@submit.command("evaluate", epilog=CODES)
def submit_evaluate(
    dataset: str | None = DATASET,
    name: str = typer.Option(
        ..., help="Name of this evaluation, such as the data's tag; another name evaluates anew after a training."
    ),
    require: Path | None = typer.Option(
        None, help="File with required values (see 'rollama check'); the job fails when one is not reached."
    ),
    limit: int | None = typer.Option(None, min=1, help="At most this many cases a centre and split."),
    zero_shot: int = typer.Option(0, min=0, help="Compare with the untrained base on so many external cases."),
    gpus: int = typer.Option(0, min=0, max=1, help="GPUs of the worker; a base of 7B parameters wants one."),
    workspace: str | None = BUCKET,
    site: Path | None = SITE,
    namespace: str | None = NAMESPACE,
    wait: bool = WAIT,
    dry_run: bool = DRY_RUN,
    plan: bool = PLAN,
    retries: int = RETRIES,
    timeout: int | None = TIMEOUT,
    patience: float = PATIENCE,
    keep_stuck: bool = KEEP,
    cancel_on_interrupt: bool = CANCEL,
) -> None:
    """Evaluate the workspace's models on the cluster; the job's log ends with the report as Markdown."""
    from rollama.evaluation.thresholds import read_thresholds

    values = evaluation(name, read_thresholds(require) if require else None, limit, zero_shot, gpus)
    Submission(site, namespace, wait, dry_run, plan, retries, patience, keep_stuck, cancel_on_interrupt).run(
        values, dataset, workspace, timeout
    )


def training(
    what: What, preset: str, overrides: list[str], name: str | None, init: str | None = None
) -> dict[str, Any]:
    """What a `Job` wants to know of a training, but for where it runs."""
    from rollama.cli.train import model_config
    from rollama.core.config import hash_json
    from rollama.data.store import parse_reference
    from rollama.presets import load_preset

    config = model_config(what, load_preset(preset, overrides))
    scale = config.scale
    start = str(parse_reference(init)) if init else None
    return {
        "task": what.value, "run": name or what.value, "preset": preset, "overrides": overrides,
        "config_digest": hash_json([config.digest(), start]) if start else config.digest(),
        "options": ["--init", start] if start else [],
        "workers": scale.workers, "cpus_per_worker": scale.cpus_per_worker,
        "gpus_per_worker": scale.gpus_per_worker, "memory_gib_per_worker": scale.memory_gib_per_worker,
    }  # fmt: skip


def evaluation(name: str, require: Thresholds | None, limit: int | None, zero_shot: int, gpus: int) -> dict[str, Any]:
    """The same of an evaluation."""
    from rollama.core.config import hash_json

    options = ["--zero-shot", str(zero_shot)]
    options += ["--limit", str(limit)] if limit else []
    if require:
        rules = require.model_dump(mode="json", exclude_none=True)
        options += ["--require", json.dumps(rules, separators=(",", ":"))]
    options += ["--gpus", str(gpus)] if gpus else []
    return {
        "task": "evaluate", "run": name, "options": options, "config_digest": hash_json(options), "workers": 1,
        "gpus_per_worker": gpus,
    }  # fmt: skip


@dataclass(frozen=True)
class Submission:
    """What the submitting verbs have in common: where to, and what to do besides creating the job."""

    site: Path | None
    namespace: str | None
    wait: bool
    dry_run: bool
    plan: bool
    retries: int
    patience: float
    keep_stuck: bool
    cancel_on_interrupt: bool
    reuse: bool = False
    """Whether an evaluation that succeeded stands for the same one asked for again."""

    def run(self, values: dict[str, Any], dataset: str | None, workspace: str | None, timeout: int | None) -> None:
        """Build the job, have everything checked, and create it or attach to it."""
        from rollama.cluster import rayjob
        from rollama.cluster import submit as submission
        from rollama.core.config import build as build_config
        from rollama.core.errors import ConfigError

        cluster, chosen = _site(self.site, self.namespace, connected=not (self.plan and not self.dry_run))
        where = workspace or chosen.workspace
        if where is None:
            raise ConfigError("--workspace: missing; give s3://bucket/prefix, or set workspace in the site")
        dataset = dataset or chosen.dataset
        if dataset is None:
            raise ConfigError(
                "--dataset: missing; give the reference that 'rollama push dataset' printed, or set dataset in the site"
            )
        places = {"dataset": dataset, "workspace": where, "deadline_s": timeout}
        job = build_config(rayjob.Job, {**values, **places}, "submit")
        space = cluster.namespace if cluster else self.namespace or chosen.namespace or "default"

        def build(attempt: int) -> dict[str, Any]:
            return rayjob.build_rayjob(job, chosen, space, attempt)

        body = build(1)
        if not self.plan or self.dry_run:
            _check_dataset(dataset)
        if self.plan:
            _print_plan(body, job, chosen)
        if self.dry_run:
            submission.preflight(_connected(cluster), body, chosen)
            typer.echo(f"{body['metadata']['name']}: the cluster would accept it; nothing was created")
        if self.plan or self.dry_run:
            return
        api: Cluster = _connected(cluster)

        def place() -> Placed:
            placed = submission.place(
                api,
                build,
                lambda found: submission.preflight(api, found, chosen),
                reuse=self.reuse or job.task != "evaluate",
            )
            say(f"{placed.name}: {_HOW[str(placed.how)]}")
            return placed

        if self.wait:
            self._wait(api, place, chosen)
        else:
            placed = place()
            say(f"follow it with: rollama logs {placed.name} --namespace {space} --follow")

    def _wait(self, api: Cluster, place: Callable[[], Placed], site: SiteConfig) -> None:
        from rollama.cluster import submit as submission
        from rollama.cluster.watch import Patience, Result

        impossible = self.patience if site.nodes_scale else Patience.impossible
        waits = Patience(general=self.patience, impossible=impossible)
        with Interruptible(api, self.cancel_on_interrupt) as guard:

            def follow_it(placed: Placed) -> Result:
                guard.name = placed.name
                return follow(api, placed.job, waits)

            result = submission.run(api, place, follow_it, say, self.retries, self.keep_stuck)
        end(result)


_HOW = {
    "created": "created",
    "attached": "is running already with the same content; attached to it",
    "finished": "has succeeded already with the same content; 'rollama cancel' its record to train again",
}


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


def _check_dataset(reference: str) -> None:
    """Look whether the content is in the store, where this machine has the store's credentials; else the job will."""
    from rollama.cluster.exits import Refused
    from rollama.core.errors import ClusterError, ConfigError, DataError
    from rollama.data.store import parse_reference, read_stored

    if not os.environ.get("AWS_ACCESS_KEY_ID"):
        say("the data set was not looked for from here (no AWS_ACCESS_KEY_ID); the job does it first")
        return
    try:
        read_stored(parse_reference(reference))
    except DataError as error:
        raise Refused(f"--dataset: {error}") from error
    except (ClusterError, ConfigError) as error:
        say(f"the data set was not checked from here ({error})")


def _print_plan(body: dict[str, Any], job: Job, site: SiteConfig) -> None:
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
