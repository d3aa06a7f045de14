"""Why a job failed or will never start, in one sentence, from what Kubernetes still knows.

A RayJob's status says that it failed; the reason is in a container's state, a pod's condition or an event of an object
that may already be gone. `Evidence` therefore gathers while the job runs, and `diagnose` and `waiting` read it. No line
of the job's log is quoted, as a log may hold anything, unless it is one of our own error messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from rollama.cluster import outcome
from rollama.cluster.names import LABEL_ROLE

OUR_ERROR = "error:"


class Kind(StrEnum):
    """What stopped a job."""

    MEMORY = "memory"
    KILLED = "killed"
    IMAGE = "image"
    MISSING = "missing"
    ADMISSION = "admission"
    QUOTA = "quota"
    IMPOSSIBLE = "impossible"
    UNSCHEDULABLE = "unschedulable"
    PREEMPTED = "preempted"
    CRASH = "crash"
    SILENT = "silent"
    OPERATOR = "operator"
    CODE = "code"


LASTING = frozenset({Kind.MEMORY, Kind.IMAGE, Kind.MISSING, Kind.ADMISSION, Kind.IMPOSSIBLE, Kind.CODE})
"""A repetition without a change would end the same way."""


@dataclass(frozen=True)
class Cause:
    """A kind and the sentence for people."""

    kind: Kind
    sentence: str


@dataclass
class Evidence:
    """The last that was seen of every pod and event of a job."""

    name: str
    since: str = ""
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    present: set[str] = field(default_factory=set)
    events: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, pods: Sequence[dict[str, Any]], events: Sequence[dict[str, Any]]) -> None:
        """Take note of the present state."""
        self.present = {pod["metadata"]["uid"] for pod in pods}
        self.pods |= {pod["metadata"]["uid"]: pod for pod in pods}
        self.events |= {event["metadata"]["uid"]: event for event in events if self._ours(event)}

    def current(self) -> list[dict[str, Any]]:
        """Pods that were there at the last look."""
        return [pod for uid, pod in self.pods.items() if uid in self.present]

    def _ours(self, event: dict[str, Any]) -> bool:
        """Events of the job's objects, whose names all start with its own, but not of its other attempts."""
        name = str(event.get("involvedObject", {}).get("name", ""))
        rest = name.removeprefix(self.name)
        if not name.startswith(self.name) or (rest and not rest.startswith("-")) or re.match(r"-r\d{1,2}(-|$)", rest):
            return False
        return _when(event) >= self.since


def diagnose(job: dict[str, Any] | None, evidence: Evidence, log_tail: Sequence[str] = ()) -> Cause | None:
    """The cause of a failure, or None where nothing is known beyond the status."""
    said = str(job.get("status", {}).get("message", "")).splitlines() if job else []
    words = next((line.strip() for line in reversed([*said, *log_tail]) if line.startswith(OUR_ERROR)), "")
    root = next(_broken(evidence), None) or next(_waiting(evidence), None)
    if root is not None:
        return Cause(root.kind, f"{root.sentence}; the command said: {words}") if words else root
    code = outcome.driver_exit(job) if job else None
    if words or code is not None:
        ended = f"the command ended with exit code {code}" if code is not None else "the command failed"
        return Cause(Kind.CODE, f"{ended}: {words}" if words else f"{ended}; its log says why")
    return None


def waiting(evidence: Evidence, starting: bool = False) -> Cause | None:
    """What keeps a job from starting at this moment and does not go away by itself.

    Args:
        evidence: what was seen.
        starting: whether the job's cluster has never been whole, so that a pod that dies or stays unready is no
            interruption that Ray gets over but the reason.
    """
    return next(_waiting(evidence), None) or (next(_never_ready(evidence), None) if starting else None)


def _broken(evidence: Evidence) -> Iterator[Cause]:
    """Containers that died and pods that were taken away, most telling first."""
    softer: list[Cause] = []
    for pod in evidence.pods.values():
        where, deleting = _where(pod), "deletionTimestamp" in pod["metadata"]
        for status in _containers(pod):
            for state in (status.get("state", {}), status.get("lastState", {})):
                ended = state.get("terminated") or {}
                if ended.get("reason") == "OOMKilled":
                    limit = _memory_limit(pod, status["name"])
                    yield Cause(Kind.MEMORY, f"{where} ran out of memory (limit {limit}); raise it or lower the batch")
                elif ended.get("exitCode") == 137 and not deleting:
                    softer.append(
                        Cause(Kind.KILLED, f"{where} was killed (exit code 137), often for memory on its node")
                    )
        for condition in pod.get("status", {}).get("conditions", []):
            if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
                softer.insert(0, _disrupted(where, str(condition.get("reason", "")), str(condition.get("message", ""))))
        if pod.get("status", {}).get("reason") == "Evicted":
            softer.insert(0, Cause(Kind.PREEMPTED, f"{where} was evicted: {pod['status'].get('message', 'no reason')}"))
    softer += [
        Cause(Kind.PREEMPTED, f"pod {event['involvedObject']['name']} was preempted by one of higher priority")
        for event in evidence.events.values()
        if event.get("reason") == "Preempted"
    ]
    yield from softer


def _disrupted(where: str, reason: str, message: str) -> Cause:
    by = "preempted by a pod of higher priority" if reason == "PreemptionByScheduler" else f"evicted ({reason})"
    return Cause(Kind.PREEMPTED, f"{where} was {by}{': ' + message if message else ''}")


def _waiting(evidence: Evidence) -> Iterator[Cause]:
    for pod in evidence.current():
        for status in _containers(pod):
            stuck = status.get("state", {}).get("waiting") or {}
            reason, message = str(stuck.get("reason", "")), str(stuck.get("message", ""))
            if reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"):
                yield Cause(Kind.IMAGE, f"{_where(pod)} cannot get its image {status.get('image', '?')} ({reason})")
            elif reason in ("CreateContainerConfigError", "CreateContainerError"):
                yield Cause(Kind.MISSING, f"{_where(pod)} cannot be configured: {message or reason}")
    for event in sorted(evidence.events.values(), key=_when, reverse=True):
        message = str(event.get("message", ""))
        if "exceeded quota" in message and not _resolved(event, evidence):
            yield Cause(Kind.QUOTA, f"the namespace's quota is used up: {_from(message, 'exceeded quota')}")
        elif ("violates PodSecurity" in message or "denied the request" in message) and not _resolved(event, evidence):
            start = "violates PodSecurity" if "violates PodSecurity" in message else "admission webhook"
            yield Cause(Kind.ADMISSION, f"the cluster does not admit the job's pods: {_from(message, start)}")
        elif event.get("reason") == "FailedMount" and "not found" in message and not _resolved(event, evidence):
            yield Cause(Kind.MISSING, f"pod {event['involvedObject']['name']} cannot mount a volume: {message[:300]}")
    for pod in evidence.current():
        for condition in pod.get("status", {}).get("conditions", []):
            if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
                yield _unschedulable(_where(pod), str(condition.get("message", "")))


def _never_ready(evidence: Evidence) -> Iterator[Cause]:
    """Pods whose containers die again and again before Ray is up in them, or run without getting that far."""
    crashing: list[Cause] = []
    silent: list[Cause] = []
    for pod in evidence.current():
        for status in pod.get("status", {}).get("containerStatuses", []):
            ended = _ended(status)
            if status.get("ready") or (not ended and "running" not in status.get("state", {})):
                continue
            where, limit = _where(pod), _memory_limit(pod, status["name"])
            if ended.get("reason") == "OOMKilled":
                yield Cause(Kind.MEMORY, f"{where} runs out of memory before Ray is up in it (limit {limit}); raise it")
            elif ended:
                crashing.append(
                    Cause(
                        Kind.CRASH,
                        f"{where} ends with exit code {ended.get('exitCode', '?')} before Ray is up in it (memory "
                        f"limit {limit}); 'kubectl logs --previous' may say why",
                    )
                )
            else:
                silent.append(
                    Cause(Kind.SILENT, f"{where} runs, but Ray does not come up in it; is its memory ({limit}) enough?")
                )
    yield from [*crashing, *silent]


def _ended(status: dict[str, Any]) -> dict[str, Any]:
    """How a container ended, now or before its last restart; empty if it never did."""
    found = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated") or {}
    return dict(found)


def _unschedulable(where: str, message: str) -> Cause:
    """The scheduler says by its remark on preemption whether emptying the nodes would help."""
    fits, _, preemption = message.partition("preemption:")
    never = "Preemption is not helpful" in preemption and "No preemption victims" not in preemption
    kind = Kind.IMPOSSIBLE if never and "Insufficient" in fits else Kind.UNSCHEDULABLE
    return Cause(kind, f"no node has room for {where}: {fits.strip().rstrip('.') or 'unschedulable'}")


def _resolved(event: dict[str, Any], evidence: Evidence) -> bool:
    """Whether a pod of the job was made after the event: then the refusal is history; a lasting one is repeated."""
    pods = evidence.current()
    newest = max((str(pod["metadata"].get("creationTimestamp", "")) for pod in pods), default="")
    return bool(pods) and newest > _when(event)


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def _where(pod: dict[str, Any]) -> str:
    role = pod["metadata"].get("labels", {}).get(LABEL_ROLE, "")
    return f"the {role} pod {pod['metadata']['name']}" if role else f"pod {pod['metadata']['name']}"


def _memory_limit(pod: dict[str, Any], container: str) -> str:
    for box in pod.get("spec", {}).get("containers", []):
        if box["name"] == container:
            return str(box.get("resources", {}).get("limits", {}).get("memory", "none"))
    return "unknown"


def _when(event: dict[str, Any]) -> str:
    """Time of the last occurrence, comparable as text."""
    series = event.get("series") or {}
    stamp = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return str(stamp or event.get("metadata", {}).get("creationTimestamp") or "")


def _from(message: str, start: str) -> str:
    return message[message.index(start) :][:400] if start in message else message[:400]
