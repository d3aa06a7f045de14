"""Submitting exactly once: create, attach to what runs, go on after what failed, report what is done.

Names are deterministic, so the API server decides between two clients that submit at the same moment: one creates, the
other gets a conflict and attaches. A finished job stays as a record; a failed one is followed by `-r2`, `-r3` ... under
the same run name, so that training resumes from its checkpoint. KubeRay leaves the pods of a failed job for a while,
and after a deadline the command in them still runs: it would write into the same run. So a job that still has pods is
deleted, and its pods are waited for, before the next attempt begins.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar

from rollama.cluster import names, outcome, plan, rules
from rollama.cluster.client import Api, Conflict, Denied
from rollama.cluster.config import SiteConfig
from rollama.cluster.exits import Exit, Lost, Refused, Unreachable
from rollama.cluster.watch import Result, Say

ROUNDS, PAUSE_S = 40, 3.0
PATIENCE_S = (2.0, 5.0, 10.0, 20.0, 30.0)
Answer = TypeVar("Answer")

Build = Callable[[int], dict[str, Any]]
"""Builds the resource of the n-th attempt."""


class How(StrEnum):
    """What a submission came to."""

    CREATED = "created"
    ATTACHED = "attached"
    FINISHED = "finished"


@dataclass(frozen=True)
class Placed:
    """The job that stands for the submission."""

    how: How
    job: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the RayJob."""
        return str(self.job["metadata"]["name"])


def preflight(api: Api, body: dict[str, Any], site: SiteConfig) -> None:
    """Everything the cluster can say beforehand: Secrets, capacity, quota, then a dry run with strict fields.

    What the account may not read is passed over.

    Raises:
        Refused: the job could not be created or could never run.
        Unreachable: the API server does not answer.
    """
    for secret in (site.token_secret, site.storage_secret, site.hub_token_secret):
        if secret and api.has_secret(secret) is False:
            raise Refused(f"Secret {secret}: not in namespace {api.namespace}; create it, or name another in the site")
    for row in plan.rows(body, site.gpu_resource):
        rules.check_nodes(row.per_pod_gpus, row.pods, api.nodes() if row.gpus else None, site)
    rules.check_quotas(plan.need(body, site.gpu_resource), api.quotas())
    try:
        api.create_job(body, dry_run=True)
    except Conflict:
        return


def place(
    api: Api,
    build: Build,
    before: Callable[[dict[str, Any]], None] = lambda _: None,
    pause: Callable[[float], None] = time.sleep,
    reuse: bool = True,
) -> Placed:
    """Create the job, or find the one that already stands for it.

    Args:
        api: the cluster.
        build: builds the resource of the n-th attempt.
        before: called with the resource before it is created; refuses by raising.
        pause: waits, for tests.
        reuse: whether a job that succeeded answers the submission. Not for what depends on more than the resource says:
            an evaluation judges the models that the workspace holds at that time.

    Raises:
        Refused: a live job of this name was asked for with other resources or limits, or an alien holds the name.
        Lost: an old job of this name does not go away.
    """
    wanted = build(1)["metadata"]["labels"]
    base = wanted[names.LABEL_BASE]
    ended: set[str] = set()
    for _ in range(ROUNDS):
        there = sorted(api.list_jobs(f"{names.LABEL_BASE}={base}"), key=_attempt)
        staying = [job for job in there if "deletionTimestamp" not in job["metadata"]]
        if live := [job for job in staying if not outcome.is_terminal(job)]:
            return _attach(live[-1], wanted[names.LABEL_HASH])
        done = [job for job in staying if outcome.ending(job).exit is Exit.SUCCESS]
        if done and reuse and not _replaced(api, done[-1]):
            return Placed(How.FINISHED, done[-1])
        ended |= {job["metadata"]["name"] for job in there}
        holding = {name for name in ended if _holds(api, name)}
        for job in staying:
            if job["metadata"]["name"] in holding:
                api.delete_job(job["metadata"]["name"])
        if holding or len(staying) < len(there):
            pause(PAUSE_S)
            continue
        # From what is listed alone, so that every client that looks now comes to the same name.
        body = build(_attempt(there[-1]) + 1 if there else 1)
        before(body)
        try:
            return Placed(How.CREATED, api.create_job(body))
        except Conflict:
            _check_alien(api, body["metadata"]["name"], base)
            pause(PAUSE_S / 10)
    raise Lost(f"RayJob {base}: an earlier job of this name does not go, or its pods do not; is KubeRay running?")


def _attach(job: dict[str, Any], wanted: str) -> Placed:
    name = job["metadata"]["name"]
    if job["metadata"]["labels"].get(names.LABEL_HASH) != wanted:
        raise Refused(
            f"RayJob {name} is running the same training with other resources or limits; wait for it with "
            f"'rollama logs {name} --follow', end it with 'rollama cancel {name}', or give another --name"
        )
    return Placed(How.ATTACHED, job)


def _holds(api: Api, name: str) -> bool:
    """Whether pods of a job's Ray cluster are there; the submitter's pod alone only keeps the log."""
    try:
        pods = api.pods(name)
    except Denied:
        return False
    return any(
        pod["metadata"].get("labels", {}).get(names.LABEL_ROLE) in ("head", "worker")
        and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
        for pod in pods
    )


def _replaced(api: Api, done: dict[str, Any]) -> bool:
    """Whether a later job of the same run name, of other content, may have put its own model in this one's place."""
    labels = done["metadata"]["labels"]
    made = str(done["metadata"].get("creationTimestamp", ""))
    return any(
        job["metadata"]["labels"].get(names.LABEL_BASE) != labels[names.LABEL_BASE]
        and str(job["metadata"].get("creationTimestamp", "")) > made
        for job in api.list_jobs(f"{names.LABEL_RUN}={labels[names.LABEL_RUN]}")
    )


def _check_alien(api: Api, name: str, base: str) -> None:
    found = api.get_job(name)
    if found is not None and found["metadata"].get("labels", {}).get(names.LABEL_BASE) != base:
        raise Refused(f"RayJob {name}: the name is held by a job that rollama did not make; delete it, or give --name")


def _attempt(job: dict[str, Any]) -> int:
    return int(job["metadata"].get("labels", {}).get(names.LABEL_ATTEMPT, "1"))


def run(
    api: Api,
    submit: Callable[[], Placed],
    follow: Callable[[Placed], Result],
    say: Say,
    retries: int = 0,
    keep_stuck: bool = False,
    pause: Callable[[float], None] = time.sleep,
) -> Result:
    """Submit and follow, also what has succeeded before; repeat what the infrastructure lost, at most `retries` times.

    A job that will never start is deleted, as it would hold quota and nodes for nothing, unless `keep_stuck`.
    """
    for repetition in range(retries + 1):
        # The first submission fails at once, as whoever waits for it sits there; later ones outlast a restart.
        placed = _patiently(submit, say, pause) if repetition else submit()
        result = follow(placed)  # also one that succeeded before: its log ends with what a caller reads
        if result.stuck and not keep_stuck:
            _patiently(partial(api.delete_job, placed.name), say, pause)
            say(f"{placed.name}: cancelled, as it would not have started")
        last = repetition == retries or not result.repeatable() or (result.stuck and keep_stuck)
        if last:
            break
        say(f"{result.sentence}; submitting again under the same run name ({repetition + 1} of {retries})")
    return result


def _patiently(call: Callable[[], Answer], say: Say, pause: Callable[[float], None]) -> Answer:
    for wait in PATIENCE_S:
        try:
            return call()
        except Unreachable as error:
            say(f"no answer from the cluster, trying again ({error})")
            pause(wait)
    return call()


def find(api: Api, name: str) -> dict[str, Any]:
    """The RayJob of this name, or the newest one of the run of this name.

    Raises:
        Refused: there is neither.
    """
    names_like = name if len(name) <= names.MAX_NAME else ""
    if names_like and names_like == names_like.lower() and (job := api.get_job(name)) is not None:
        return job
    jobs = api.list_jobs(f"{names.LABEL_RUN}={name}") if names_like else []
    if not jobs:
        raise Refused(f"{name}: no job or run of this name in namespace {api.namespace}; 'rollama list' shows them")
    return max(jobs, key=lambda job: str(job["metadata"].get("creationTimestamp", "")))
