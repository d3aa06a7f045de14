import pytest

from rollama.cluster.causes import Kind
from rollama.cluster.client import Denied
from rollama.cluster.exits import Exit, Refused, Unreachable
from rollama.cluster.watch import Patience, Result, describe

CUT = Unreachable("the connection was cut")
QUIET = {"name": "ray-worker", "ready": False, "state": {"running": {}}}
FULL = {**QUIET, "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}
IMAGE = {"name": "x", "image": "i", "state": {"waiting": {"reason": "ErrImagePull"}}}


def rayjob(deployed="Running", ray="RUNNING", uid="u", **status):
    return {
        "metadata": {"name": "job", "uid": uid, "creationTimestamp": "2026-11-24T10:00:00Z"},
        "spec": {"activeDeadlineSeconds": 1000},
        "status": {"jobDeploymentStatus": deployed, "jobStatus": ray, **status},
    }


DONE = rayjob("Complete", "SUCCEEDED")


def test_a_job_is_followed_to_success(api, follow):
    api.answers = [rayjob("Initializing", ""), rayjob(), rayjob(), DONE]
    result, said = follow(rayjob())
    assert result == Result(Exit.SUCCESS, "the job succeeded")
    assert said == ["Initializing", "Running / RUNNING"]


def test_it_survives_cuts_restarts_and_a_renewed_token(api, follow, clock):
    api.answers = [CUT, CUT, rayjob(), Denied("401"), CUT, Refused("the API server is being upgraded"), DONE]
    result, _ = follow(rayjob())
    assert result.exit is Exit.SUCCESS and api.reconnected == 1
    assert clock.now < 15


def test_a_cluster_that_stays_away_is_unreachable_not_failed(api, follow, clock):
    api.answers = [CUT] * 100
    result, said = follow(rayjob())
    assert result.exit is Exit.UNREACHABLE and "may still be running" in result.sentence
    assert 300 <= clock.now < 360
    assert len(api.calls) < 25, "the questions become rarer"
    assert len(said) == 1, "and the same trouble is told once"


def test_the_budget_starts_anew_after_each_answer(api, follow):
    api.answers = [*[CUT] * 10, rayjob(), *[CUT] * 10, DONE]
    assert follow(rayjob())[0].exit is Exit.SUCCESS


@pytest.mark.parametrize("gone", [None, rayjob(uid="other")])
def test_a_deleted_or_replaced_job_was_cancelled(api, follow, gone):
    api.answers = [rayjob(), gone]
    assert follow(rayjob())[0].exit is Exit.CANCELLED


def test_the_cause_of_a_failure_is_in_the_sentence(api, follow, make_pod):
    api.pod_list = [
        make_pod(containerStatuses=[{"name": "ray-worker", "state": {"terminated": {"reason": "OOMKilled"}}}])
    ]
    api.answers = [
        rayjob("Failed", "FAILED", reason="AppFailed", message="Job entrypoint command failed with exit code 1")
    ]
    result, _ = follow(rayjob())
    assert result.exit is Exit.JOB_FAILED and result.kind is Kind.MEMORY
    assert result.sentence.startswith("the command ended with exit code 1: the worker pod")
    assert "out of memory (limit 4Gi)" in result.sentence and not result.repeatable()


def test_words_of_the_command_do_not_explain_what_the_cluster_did(api, follow):
    api.answers = [rayjob("Failed", "RUNNING", reason="DeadlineExceeded")]
    result, _ = follow(rayjob(), tail=lambda: ["error: one worker was lost, restarting"])
    assert result == Result(Exit.DEADLINE, "the job did not finish before its deadline")
    api.answers = [rayjob("Failed", "RUNNING", reason="JobStatusCheckTimeoutExceeded")]
    assert follow(rayjob(), tail=lambda: ["error: x"])[0].repeatable()


@pytest.mark.parametrize(
    ("status", "least", "most"),
    [
        ({"containerStatuses": [IMAGE]}, 45, 60),
        ({"conditions": [{"type": "PodScheduled", "reason": "Unschedulable", "message": "0/1: Insufficient cpu."}]},
         300, 310),
        ({"conditions": [{"type": "PodScheduled", "reason": "Unschedulable", "message":
          "0/1: 1 Insufficient nvidia.com/gpu. preemption: 1 Preemption is not helpful for scheduling."}]}, 30, 40),
        ({"containerStatuses": [FULL]}, 45, 60),
        ({"containerStatuses": [QUIET]}, 300, 310),
        ({"containerStatuses": [{**QUIET, "lastState": {"terminated": {"reason": "Error", "exitCode": 1}}}]}, 90, 100),
    ],
)  # fmt: skip
def test_what_never_resolves_is_given_up(api, follow, clock, make_pod, status, least, most):
    api.jobs["job"] = rayjob("Initializing", "")
    api.pod_list = [make_pod(**status)]
    result, _ = follow(rayjob())
    assert result.exit is Exit.INFRASTRUCTURE and result.stuck
    assert least <= clock.now <= most
    assert "delete job" not in api.calls, "following changes nothing"


def test_a_slow_start_is_not_talked_about_at_once(api, follow, make_pod):
    api.pod_list = [make_pod(containerStatuses=[QUIET])]
    api.answers = [*[rayjob("Initializing", "")] * 15, DONE]
    assert not [line for line in follow(rayjob())[1] if line.startswith("waiting")]
    api.answers = [*[rayjob("Initializing", "")] * 25, DONE]
    assert [line for line in follow(rayjob())[1] if line.startswith("waiting") and "Ray does not come up" in line]


def test_what_resolves_in_time_does_not_count(api, follow, clock, make_pod):
    stuck = [make_pod(containerStatuses=[IMAGE])]
    answers = iter([stuck] * 10 + [[make_pod(phase="Running")]] * 5 + [stuck] * 10 + [[make_pod()]])
    api.pods = lambda job: next(answers)
    api.answers = [*[rayjob("Initializing", "")] * 25, DONE]
    assert follow(rayjob())[0].exit is Exit.SUCCESS and clock.now > 45


def test_a_job_nobody_takes_up_is_given_up(api, follow, clock):
    api.jobs["job"] = {"metadata": rayjob()["metadata"], "spec": {}}
    result, _ = follow(rayjob())
    assert result.kind is Kind.OPERATOR and result.repeatable() and 120 <= clock.now < 130


def test_a_queued_job_may_wait(api, follow, clock):
    api.answers = [*[rayjob("Suspended", "")] * 1000, DONE]
    assert follow(rayjob())[0].exit is Exit.SUCCESS and clock.now >= 3000


def test_a_deadline_that_nobody_enforces_ends_the_wait(api, follow, clock):
    api.jobs["job"] = rayjob()
    result, _ = follow(rayjob())
    assert result.exit is Exit.DEADLINE and 1300 < clock.now < 1310


def test_pods_that_may_not_be_listed_are_done_without(api, follow):
    def denied(*_):
        raise Denied("pods")

    api.pods = denied
    api.answers = [rayjob(), DONE]
    assert follow(rayjob())[0].exit is Exit.SUCCESS


def test_patience_bounds_every_wait():
    short = Patience(general=10)
    assert {short.for_cause(kind) for kind in Kind} == {10}


def test_the_state_in_one_line(make_pod):
    pods = [make_pod("head", phase="Running"), make_pod(phase="Running"), make_pod(phase="Pending")]
    assert describe(rayjob(), pods) == "Running / RUNNING: 1 head Running, 1 worker Pending, 1 worker Running"
