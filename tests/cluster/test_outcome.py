import itertools

import pytest

from rollama.cluster.exits import Exit
from rollama.cluster.outcome import ending, is_terminal

RAY = ["", "PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]
DEPLOYED = [
    "", "Initializing", "Running", "Complete", "Failed", "ValidationFailed", "Suspending", "Suspended", "Retrying",
    "Waiting",
]  # fmt: skip
REASONS = [
    "", "SubmissionFailed", "DeadlineExceeded", "PreRunningDeadlineExceeded", "AppFailed", "ValidationFailed",
    "JobDeploymentStatusTransitionGracePeriodExceeded", "JobStatusCheckTimeoutExceeded", "SomethingNew",
]  # fmt: skip
LOST = "Unexpected error occurred: failed to get job supervisor."
NOT_FOUND = "Submitter completed but Ray job not found in RayCluster."
EXITED = "Job entrypoint command failed with exit code 1, last available logs (truncated to 20,000 chars):\nsecret line"


def job(deployed="", ray="", reason="", message=""):
    return {"status": {"jobDeploymentStatus": deployed, "jobStatus": ray, "reason": reason, "message": message}}


@pytest.mark.parametrize("deployed", DEPLOYED)
def test_success_needs_both_statuses(deployed):
    for ray, reason in itertools.product(RAY, REASONS):
        good = ending(job(deployed, ray, reason)).exit is Exit.SUCCESS
        assert good is (deployed == "Complete" and ray == "SUCCEEDED"), (deployed, ray, reason)


def test_terminal_states():
    assert {item for item in DEPLOYED if is_terminal(job(item))} == {"Complete", "Failed", "ValidationFailed"}
    assert not is_terminal({"metadata": {}})


@pytest.mark.parametrize(
    ("deployed", "ray", "reason", "message", "code"),
    [
        ("Complete", "SUCCEEDED", "", "", Exit.SUCCESS),
        ("Complete", "SUCCEEDED", "JobDeploymentStatusTransitionGracePeriodExceeded", "", Exit.SUCCESS),
        ("Complete", "STOPPED", "", "", Exit.CANCELLED),
        ("Complete", "FAILED", "", "", Exit.JOB_FAILED),
        ("Complete", "RUNNING", "", "", Exit.INFRASTRUCTURE),
        ("Complete", "", "", "", Exit.INFRASTRUCTURE),
        ("Failed", "FAILED", "AppFailed", EXITED, Exit.JOB_FAILED),
        ("Failed", "FAILED", "AppFailed", "", Exit.JOB_FAILED),
        ("Failed", "FAILED", "AppFailed", "Job supervisor actor died: node 1 is dead", Exit.INFRASTRUCTURE),
        ("Failed", "FAILED", "AppFailed", LOST, Exit.INFRASTRUCTURE),
        ("Failed", "FAILED", "AppFailed", EXITED + "\nUnexpected error occurred", Exit.JOB_FAILED),
        ("Failed", "RUNNING", "AppFailed", NOT_FOUND, Exit.INFRASTRUCTURE),
        ("Failed", "FAILED", "JobDeploymentStatusTransitionGracePeriodExceeded",
         "The RayJob submitter finished at 10:00 but the ray job did not reach terminal state", Exit.INFRASTRUCTURE),
        ("Failed", "FAILED", "JobDeploymentStatusTransitionGracePeriodExceeded", "", Exit.JOB_FAILED),
        ("Failed", "SUCCEEDED", "SubmissionFailed", "", Exit.INFRASTRUCTURE),
        ("Failed", "", "SubmissionFailed", "", Exit.INFRASTRUCTURE),
        ("Failed", "RUNNING", "JobStatusCheckTimeoutExceeded", "", Exit.INFRASTRUCTURE),
        ("Failed", "RUNNING", "DeadlineExceeded", "", Exit.DEADLINE),
        ("Failed", "FAILED", "DeadlineExceeded", EXITED, Exit.DEADLINE),
        ("Failed", "", "PreRunningDeadlineExceeded", "", Exit.DEADLINE),
        ("Failed", "STOPPED", "SomethingNew", "", Exit.CANCELLED),
        ("Failed", "", "SomethingNew", "", Exit.INFRASTRUCTURE),
        ("ValidationFailed", "", "ValidationFailed", "name too long", Exit.REFUSED),
        ("Running", "RUNNING", "", "", Exit.INFRASTRUCTURE),
    ],
)  # fmt: skip
def test_the_table(deployed, ray, reason, message, code):
    found = ending(job(deployed, ray, reason, message))
    assert found.exit is code
    assert "secret line" not in found.says


def test_a_deleted_job_was_cancelled():
    assert ending(None).exit is Exit.CANCELLED


def test_the_commands_exit_code_is_told():
    assert ending(job("Failed", "FAILED", "AppFailed", EXITED)).exit_code == 1
    assert "exit code 1" in ending(job("Failed", "FAILED", "AppFailed", EXITED)).says
