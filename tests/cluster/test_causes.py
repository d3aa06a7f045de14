"""Pods, conditions and events in the API's own shape, with the texts of Kubernetes 1.34 and KubeRay 1.6."""

import pytest

from rollama.cluster.causes import Evidence, Kind, diagnose, waiting

PULL = {"name": "ray-worker", "image": "registry.example/rollama:nope",
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}}  # fmt: skip
NO_SECRET = {"name": "ray-worker", "state": {"waiting": {
    "reason": "CreateContainerConfigError", "message": 'secret "s3-keys" not found'}}}  # fmt: skip
OOM = {"name": "ray-worker", "state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}
OOM_BEFORE = {"name": "ray-worker", "state": {"running": {}}, "lastState": {"terminated": {"reason": "OOMKilled"}}}
KILLED = {"name": "ray-worker", "state": {"terminated": {"reason": "Error", "exitCode": 137}}}
QUOTA = ('Failed to create worker Pod team/job-abcde-workers-worker-, pods "job-abcde" is forbidden: '
         "exceeded quota: team, requested: limits.memory=4Gi, limited: limits.memory=12Gi")  # fmt: skip
ADMISSION = ('Failed to create head Pod team/job-abcde-head-, pods "job-abcde-head" is forbidden: violates PodSecurity '
             '"restricted:latest": runAsNonRoot != true')  # fmt: skip
BUSY = ("0/2 nodes are available: 2 Insufficient nvidia.com/gpu. no new claims to deallocate, preemption: 0/2 nodes "
        "are available: 2 No preemption victims found for incoming pod.")  # fmt: skip
NEVER = ("0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available: 1 Preemption is "
         "not helpful for scheduling.")  # fmt: skip


def unschedulable(message):
    return [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]


def seen(pods=(), events=(), name="job"):
    evidence = Evidence(name, "2026-11-24T10:00:00Z")
    evidence.add(list(pods), list(events))
    return evidence


def failed(message="Job entrypoint command failed with exit code 1, last"):
    return {"status": {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "message": message}}


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        ({"containerStatuses": [OOM]}, Kind.MEMORY, "out of memory (limit 4Gi)"),
        ({"containerStatuses": [OOM_BEFORE]}, Kind.MEMORY, "out of memory"),
        ({"containerStatuses": [KILLED]}, Kind.KILLED, "exit code 137"),
        ({"containerStatuses": [PULL]}, Kind.IMAGE, "cannot get its image registry.example/rollama:nope"),
        ({"initContainerStatuses": [PULL]}, Kind.IMAGE, "registry.example/rollama:nope"),
        ({"containerStatuses": [NO_SECRET]}, Kind.MISSING, 'secret "s3-keys" not found'),
        ({"conditions": unschedulable(NEVER)}, Kind.IMPOSSIBLE, "Insufficient nvidia.com/gpu"),
        ({"conditions": unschedulable(BUSY)}, Kind.UNSCHEDULABLE, "2 Insufficient nvidia.com/gpu"),
        ({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]},
         Kind.PREEMPTED, "preempted by a pod of higher priority"),
        ({"reason": "Evicted", "message": "The node was low on resource: memory."}, Kind.PREEMPTED, "low on resource"),
    ],
)  # fmt: skip
def test_a_pods_state_is_the_cause(make_pod, status, kind, says):
    cause = diagnose(failed(""), seen([make_pod(**status)]))
    assert cause.kind is kind and says in cause.sentence
    assert "worker pod" in cause.sentence


@pytest.mark.parametrize(
    ("message", "reason", "kind", "says"),
    [
        (QUOTA, "FailedToCreateWorkerPod", Kind.QUOTA, "exceeded quota: team, requested: limits.memory=4Gi"),
        (ADMISSION, "FailedToCreateHeadPod", Kind.ADMISSION, "runAsNonRoot != true"),
        ("Preempting", "Preempted", Kind.PREEMPTED, "preempted"),
    ],
)
def test_an_event_is_the_cause(make_event, message, reason, kind, says):
    cause = diagnose(failed(""), seen(events=[make_event(message, reason)]))
    assert cause.kind is kind and says in cause.sentence


def test_evidence_outlives_its_pod(make_pod):
    evidence = seen([make_pod(containerStatuses=[OOM])])
    evidence.add([], [])
    assert diagnose(failed(), evidence).kind is Kind.MEMORY


def test_what_was_waited_for_is_no_cause_once_it_is_gone(make_pod):
    evidence = seen([make_pod(containerStatuses=[PULL])])
    evidence.add([make_pod(uid="2", containerStatuses=[])], [])
    assert waiting(evidence) is None


def test_a_refusal_before_the_newest_pod_is_history(make_pod, make_event):
    old, new = make_event(QUOTA, at="2026-11-24T10:00:05Z"), make_event(QUOTA, uid="e2", at="2026-11-24T10:09:00Z")
    assert waiting(seen([make_pod()], [old])) is None
    assert waiting(seen([make_pod()], [old, new])).kind is Kind.QUOTA


@pytest.mark.parametrize(
    ("name", "at", "ours"),
    [
        ("job", "2026-11-24T10:00:20Z", True),
        ("job-abcde-head-x", "2026-11-24T10:00:20Z", True),
        ("job-r2abc-head", "2026-11-24T10:00:20Z", True),
        ("job-r2", "2026-11-24T10:00:20Z", False),
        ("job-r12-abcde", "2026-11-24T10:00:20Z", False),
        ("jobless", "2026-11-24T10:00:20Z", False),
        ("job-abcde", "2026-11-23T10:00:20Z", False),
    ],
)
def test_only_events_of_this_job_count(make_event, name, at, ours):
    assert (waiting(seen(events=[make_event(QUOTA, name=name, at=at)])) is not None) is ours


def test_a_killed_pod_that_was_deleted_is_no_cause(make_pod):
    gone = make_pod(containerStatuses=[KILLED])
    gone["metadata"]["deletionTimestamp"] = "2026-11-24T10:01:00Z"
    assert diagnose(failed(""), seen([gone])) is None


def test_only_our_own_error_is_quoted_from_a_log():
    ours = diagnose(failed(), seen(), ["patient text", "error: s.lr: found -1", "done"])
    assert ours.kind is Kind.CODE and "exit code 1: error: s.lr: found -1" in ours.sentence
    other = diagnose(
        failed("Job entrypoint command failed with exit code 3, last\npatient text"), seen(), ["patient text"]
    )
    assert other.sentence == "the command ended with exit code 3; its log says why"


def test_our_error_is_found_in_the_status_when_the_log_is_gone():
    cause = diagnose(failed("Job entrypoint command failed with exit code 2, last\nerror: no such data set"), seen())
    assert cause.sentence.endswith("exit code 2: error: no such data set")


def test_a_root_cause_goes_before_the_commands_words(make_pod):
    cause = diagnose(failed(), seen([make_pod(containerStatuses=[OOM])]), ["error: training failed after 3 restarts"])
    assert cause.kind is Kind.MEMORY and cause.sentence.endswith("error: training failed after 3 restarts")


def test_nothing_is_invented():
    assert diagnose({"status": {"message": ""}}, seen()) is None
    assert waiting(seen()) is None


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        ({**OOM_BEFORE, "ready": False}, Kind.MEMORY, "runs out of memory before Ray is up in it (limit 4Gi)"),
        ({**KILLED, "ready": False}, Kind.CRASH, "exit code 137"),
        ({"name": "ray-worker", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "ready": False,
          "lastState": {"terminated": {"reason": "Error", "exitCode": 1}}}, Kind.CRASH, "exit code 1 before"),
        ({"name": "ray-worker", "state": {"running": {}}, "ready": False}, Kind.SILENT, "does not come up"),
    ],
)  # fmt: skip
def test_a_pod_that_never_becomes_ready_keeps_a_job_from_starting(make_pod, status, kind, says):
    evidence = seen([make_pod(containerStatuses=[status])])
    cause = waiting(evidence, starting=True)
    assert cause.kind is kind and says in cause.sentence
    assert waiting(evidence) is None, "once the job runs, Ray gets over a lost worker by itself"


@pytest.mark.parametrize(
    "status",
    [
        {"name": "ray-worker", "state": {"running": {}}, "ready": True, "lastState": {"terminated": {"exitCode": 1}}},
        {"name": "ray-worker", "state": {"waiting": {"reason": "PodInitializing"}}, "ready": False},
    ],
)
def test_a_pod_on_its_way_is_not_held_against_the_job(make_pod, status):
    assert waiting(seen([make_pod(containerStatuses=[status])]), starting=True) is None


def test_memory_goes_before_other_deaths(make_pod):
    crashed = make_pod(uid="1", containerStatuses=[{**KILLED, "ready": False}])
    full = make_pod(uid="2", containerStatuses=[{**OOM_BEFORE, "ready": False}])
    assert waiting(seen([crashed, full]), starting=True).kind is Kind.MEMORY
