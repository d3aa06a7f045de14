"""Following a job to its end through everything that can interrupt the following.

The job is asked for every few seconds instead of watched: KubeRay itself looks every three, a question has no history
that can expire (410), a half-open connection ends with the question's time limit, and after a restart of the API server
the next question simply works. Failing questions are repeated ever more slowly until the budget is spent; only then is
the cluster called unreachable. Conditions that never resolve by themselves (no such image, no node with a GPU) end the
wait with their cause. Nothing here changes the job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rollama.cluster import outcome
from rollama.cluster.causes import LASTING, Cause, Evidence, Kind, diagnose, waiting
from rollama.cluster.client import Api, Denied
from rollama.cluster.exits import Exit, Refused, Unreachable
from rollama.cluster.names import LABEL_ROLE
from rollama.core.errors import RollamaError

Say = Callable[[str], None]


@dataclass(frozen=True)
class Patience:
    """How long what is waited for, in seconds."""

    poll: float = 3.0
    silent: float = 10.0
    start: float = 60.0
    general: float = 300.0
    impossible: float = 30.0
    refused: float = 45.0
    crashing: float = 90.0
    operator: float = 120.0
    unreachable: float = 300.0
    overdue: float = 300.0
    slowest: float = 30.0

    def for_cause(self, kind: Kind) -> float:
        """How long a condition may last before it counts as stuck."""
        if kind is Kind.IMPOSSIBLE:
            return min(self.impossible, self.general)
        if kind is Kind.OPERATOR:
            return min(self.operator, self.general)
        if kind is Kind.CRASH:
            return min(self.crashing, self.general)
        return min(self.refused, self.general) if kind in LASTING else self.general

    def before_a_word(self, kind: Kind) -> float:
        """How long a condition may last before it is told."""
        if kind in LASTING:
            return 0.0
        return self.start if kind is Kind.SILENT else self.silent


@dataclass(frozen=True)
class Result:
    """How the following ended."""

    exit: Exit
    sentence: str
    kind: Kind | None = None
    stuck: bool = False

    def repeatable(self) -> bool:
        """Whether the same job may well succeed when it is submitted again."""
        return self.exit is Exit.INFRASTRUCTURE and self.kind not in LASTING


class Follower:
    """Follows one RayJob."""

    def __init__(
        self,
        api: Api,
        job: dict[str, Any],
        say: Say,
        patience: Patience | None = None,
        tail: Callable[[], Sequence[str]] = tuple,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare.

        Args:
            api: the cluster.
            job: the RayJob as created or found; a job of the same name with another uid is not it.
            say: called with each change of the job's state.
            patience: how long what is waited for.
            tail: the last lines of the job's log, for the cause.
            clock: seconds, for tests.
            sleep: waits, for tests.
        """
        self.api, self.say, self.patience, self.tail = api, say, patience or Patience(), tail
        self.clock, self.sleep = clock, sleep
        self.name, self.uid = job["metadata"]["name"], job["metadata"].get("uid")
        self.evidence = Evidence(self.name, str(job["metadata"].get("creationTimestamp", "")))
        self._since: dict[Kind, float] = {}
        self._said = ""

    def run(self) -> Result:
        """Follow to the end.

        Returns:
            The exit code and the sentence; UNREACHABLE when the cluster did not answer for too long.
        """
        started, failing_since, failures = self.clock(), self.clock(), 0
        while True:
            try:
                job = self.api.get_job(self.name)
            except (Unreachable, Refused) as error:  # the job exists: whatever is refused now may be allowed again
                failing_since = failing_since if failures else self.clock()
                failures += 1
                if self.clock() - failing_since >= self.patience.unreachable:
                    return Result(Exit.UNREACHABLE, f"{error}; the job itself may still be running")
                self._note(f"no answer from the cluster, trying again ({error})")
                self._renew(error)
                self.sleep(min(2.0 ** min(failures, 6) / 2, self.patience.slowest))
                continue
            failures = 0
            if job is None or (self.uid and job["metadata"].get("uid") != self.uid):
                return self._result(None)
            self._look()
            if outcome.is_terminal(job):
                return self._result(job)
            if outcome.deployment_status(job) in ("Suspended", "Suspending"):
                started = self.clock()
            self._note(describe(job, self.evidence.current()))
            if (stuck := self._stuck(job)) is not None:
                return Result(Exit.INFRASTRUCTURE, stuck.sentence, stuck.kind, stuck=True)
            deadline = job.get("spec", {}).get("activeDeadlineSeconds")
            if deadline and self.clock() - started > deadline + self.patience.overdue:
                return Result(Exit.DEADLINE, "the deadline passed, but KubeRay does not end the job; is it running?")
            self.sleep(self.patience.poll)

    def _look(self) -> None:
        """Gather evidence; what the account may not see is done without."""
        try:
            pods = self.api.pods(self.name)
        except (Unreachable, Refused):
            return
        try:
            events = self.api.events()
        except (Unreachable, Refused):
            events = []
        self.evidence.add(pods, events)

    def _renew(self, error: RollamaError) -> None:
        """An expired token is read anew from the kubeconfig, which somebody may renew meanwhile."""
        if isinstance(error, Denied):
            try:
                self.api.reconnect()
            except RollamaError as unusable:
                self._note(str(unusable))

    def _result(self, job: dict[str, Any] | None) -> Result:
        end = outcome.ending(job)
        if end.exit in (Exit.SUCCESS, Exit.REFUSED, Exit.CANCELLED):
            return Result(end.exit, end.says)
        return explained(end, diagnose(job, self.evidence, self.tail()))

    def _stuck(self, job: dict[str, Any]) -> Cause | None:
        """The condition that has lasted too long, if there is one."""
        status = outcome.deployment_status(job)
        cause = None
        if status not in ("Suspended", "Suspending", "Retrying"):
            cause = waiting(self.evidence, starting=status == "Initializing")
        if status == "" and not job.get("spec", {}).get("suspend"):
            cause = Cause(
                Kind.OPERATOR, "no KubeRay operator takes up the job; is it running and watching the namespace?"
            )
        if cause is None:
            self._since.clear()
            return None
        self._since = {cause.kind: self._since.get(cause.kind, self.clock())}
        lasted = self.clock() - self._since[cause.kind]
        if lasted >= self.patience.before_a_word(cause.kind):
            self._note(f"waiting: {cause.sentence}")
        return cause if lasted >= self.patience.for_cause(cause.kind) else None

    def _note(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self.say(text)


def explained(end: outcome.Ending, cause: Cause | None) -> Result:
    """The ending with its cause; words of the command count only where the command is what failed."""
    if cause is None or (cause.kind is Kind.CODE and end.exit is not Exit.JOB_FAILED):
        return Result(end.exit, end.says)
    sentence = cause.sentence if cause.kind is Kind.CODE else f"{end.says}: {cause.sentence}"
    return Result(end.exit, sentence, cause.kind)


def describe(job: dict[str, Any], pods: Sequence[dict[str, Any]]) -> str:
    """The state of a job and its pods in one line."""
    status = " / ".join(part for part in (outcome.deployment_status(job), outcome.job_status(job)) if part) or "new"
    counts: list[str] = []
    for role in ("head", "worker", "submitter"):
        mine = [pod for pod in pods if pod["metadata"].get("labels", {}).get(LABEL_ROLE) == role]
        phases = [str(pod.get("status", {}).get("phase", "Unknown")) for pod in mine]
        counts += [f"{phases.count(phase)} {role} {phase}" for phase in sorted(set(phases))]
    return f"{status}: {', '.join(counts)}" if counts else status
