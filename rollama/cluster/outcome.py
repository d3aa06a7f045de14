"""How a RayJob ended, from its status alone, as an exit code.

KubeRay has two statuses, the Ray job's (`jobStatus`) and its own (`jobDeploymentStatus`), and only both together say
success: a stopped job ends as `Complete`, and a job that succeeded while its submitter was lost ends as `Failed`. The
table here covers every pair of KubeRay 1.6 and 1.7; anything unknown is an infrastructure failure, never a success.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rollama.cluster.exits import Exit

TERMINAL = ("Complete", "Failed", "ValidationFailed")
"""KubeRay itself counts the first two; it never leaves the third either."""

_ENTRYPOINT_FAILED = re.compile(r"Job entrypoint command failed with exit code (-?\d+)")
_RAY_LOST_IT = re.compile(
    r"Job supervisor actor (died|could not be scheduled)|Failed to start supervisor actor|"
    r"failed to get job supervisor|Unexpected error occurred|failed to start in|Job supervisor actor failed",
)
_SUBMITTER_ENDED = re.compile(r"Submitter completed but Ray job not found|The RayJob submitter finished at")


@dataclass(frozen=True)
class Ending:
    """The end of a job as its status tells it."""

    exit: Exit
    says: str
    exit_code: int | None = None


def is_terminal(job: dict[str, Any]) -> bool:
    """Whether KubeRay is done with the job."""
    return deployment_status(job) in TERMINAL


def deployment_status(job: dict[str, Any]) -> str:
    """`jobDeploymentStatus`, empty while no operator has looked at the job."""
    return str(job.get("status", {}).get("jobDeploymentStatus", ""))


def job_status(job: dict[str, Any]) -> str:
    """`jobStatus`, empty while Ray does not know the job."""
    return str(job.get("status", {}).get("jobStatus", ""))


def driver_exit(job: dict[str, Any]) -> int | None:
    """Exit code of the command, if Ray reports one."""
    match = _ENTRYPOINT_FAILED.search(str(job.get("status", {}).get("message", "")))
    return int(match[1]) if match else None


def ending(job: dict[str, Any] | None) -> Ending:
    """The end of a terminal job; `None` stands for a job that was deleted.

    The status' `message` is read for Ray's own words but never repeated: it holds the last lines of the job's log.
    """
    if job is None:
        return Ending(Exit.CANCELLED, "the job was deleted")
    status = job.get("status", {})
    deployed, ray, reason = deployment_status(job), job_status(job), str(status.get("reason", ""))
    if deployed == "Complete":
        return _complete(ray)
    if deployed == "ValidationFailed":
        return Ending(Exit.REFUSED, f"KubeRay refused the job: {status.get('message', 'without a reason')}")
    if deployed == "Failed":
        return _failed(job, ray, reason, str(status.get("message", "")))
    return Ending(Exit.INFRASTRUCTURE, f"the job is in the unknown state {deployed or 'none'!r}")


def _complete(ray: str) -> Ending:
    if ray == "SUCCEEDED":
        return Ending(Exit.SUCCESS, "the job succeeded")
    if ray == "STOPPED":
        return Ending(Exit.CANCELLED, "the job was stopped")
    if ray == "FAILED":
        return Ending(Exit.JOB_FAILED, "the job failed")
    return Ending(Exit.INFRASTRUCTURE, f"KubeRay completed the job while Ray called it {ray or 'unknown'}")


def _failed(job: dict[str, Any], ray: str, reason: str, message: str) -> Ending:
    if reason == "DeadlineExceeded":
        return Ending(Exit.DEADLINE, "the job did not finish before its deadline")
    if reason == "PreRunningDeadlineExceeded":
        return Ending(Exit.DEADLINE, "the job did not start running before its deadline")
    if reason == "ValidationFailed":
        return Ending(Exit.REFUSED, f"KubeRay refused the job: {message}")
    if reason == "JobStatusCheckTimeoutExceeded":
        return Ending(Exit.INFRASTRUCTURE, "the Ray head could not be reached for too long")
    if _SUBMITTER_ENDED.search(message):
        return Ending(Exit.INFRASTRUCTURE, "the Ray cluster lost the job")
    if _RAY_LOST_IT.search(message) and driver_exit(job) is None:
        return Ending(Exit.INFRASTRUCTURE, "the Ray head or the job's supervisor on it was lost")
    if ray == "STOPPED":
        return Ending(Exit.CANCELLED, "the job was stopped")
    if ray == "FAILED":
        code = driver_exit(job)
        return Ending(Exit.JOB_FAILED, f"the command ended with exit code {code}" if code else "the job failed", code)
    if ray == "SUCCEEDED":
        return Ending(Exit.INFRASTRUCTURE, "Ray called the job succeeded, but KubeRay could not complete it")
    if reason == "SubmissionFailed":
        return Ending(Exit.INFRASTRUCTURE, "the job could not be submitted to the Ray cluster")
    return Ending(Exit.INFRASTRUCTURE, f"KubeRay gave the job up ({reason or 'without a reason'})")
