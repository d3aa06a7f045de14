import threading

import pytest

from rollama.cluster import submit
from rollama.cluster.causes import LASTING
from rollama.cluster.client import Conflict
from rollama.cluster.exits import Exit, Lost, Refused, Unreachable
from rollama.cluster.rayjob import build_rayjob
from rollama.cluster.submit import How, Placed, place, preflight
from rollama.cluster.watch import Result


@pytest.fixture
def build(job, site):
    return lambda attempt: build_rayjob(job, site, "team", attempt)


def end(api, name, deployed, ray):
    api.jobs[name]["status"] = {"jobDeploymentStatus": deployed, "jobStatus": ray}


def no_pause(_):
    return None


def test_the_first_submission_creates(api, build):
    placed = place(api, build, pause=no_pause)
    assert placed.how is How.CREATED and list(api.jobs) == [placed.name]


def test_a_repetition_attaches_to_the_running_job(api, build):
    first = place(api, build, pause=no_pause)
    checks = []
    again = place(api, build, checks.append, pause=no_pause)
    assert again.how is How.ATTACHED and again.job["metadata"]["uid"] == first.job["metadata"]["uid"]
    assert checks == [] and len(api.jobs) == 1


def test_other_resources_for_a_running_job_are_refused_with_ways_out(api, build, job, site):
    place(api, build, pause=no_pause)
    with pytest.raises(Refused, match="rollama cancel"):
        place(api, lambda attempt: build_rayjob(job, site.updated(deadline_s=99), "team", attempt), pause=no_pause)


def test_a_failed_job_is_followed_by_the_next_attempt_also_with_other_resources(api, build, job, site):
    name = place(api, build, pause=no_pause).name
    end(api, name, "Failed", "FAILED")
    bigger = site.updated(worker={"memory": "16Gi"})
    second = place(api, lambda attempt: build_rayjob(job, bigger, "team", attempt), pause=no_pause)
    assert second.how is How.CREATED and second.name == f"{name}-r2"
    assert second.job["spec"]["entrypoint"] == api.jobs[name]["spec"]["entrypoint"], "the same run, so it resumes"
    end(api, second.name, "Complete", "STOPPED")
    assert place(api, build, pause=no_pause).name == f"{name}-r3"


def test_a_job_that_succeeded_is_not_repeated(api, build):
    name = place(api, build, pause=no_pause).name
    end(api, name, "Complete", "SUCCEEDED")
    assert place(api, build, pause=no_pause) == Placed(How.FINISHED, api.jobs[name])


def test_of_two_at_the_same_moment_one_creates(api, build):
    """Both see an empty list before either creates; the API server's conflict decides."""
    both, listed = threading.Barrier(2), api.list_jobs
    first = threading.local()

    def list_jobs(selector):
        found = listed(selector)
        if not getattr(first, "seen", False):
            first.seen = True
            both.wait(10)
        return found

    api.list_jobs = list_jobs
    results = []
    threads = [threading.Thread(target=lambda: results.append(place(api, build, pause=no_pause).how)) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(results) == [How.ATTACHED, How.CREATED] and len(api.jobs) == 1


def test_a_name_held_by_an_alien_is_refused(api, build):
    name = build(1)["metadata"]["name"]
    api.jobs[name] = {"metadata": {"name": name, "labels": {}}}
    with pytest.raises(Refused, match="did not make"):
        place(api, build, pause=no_pause)


def test_a_job_being_deleted_is_waited_for(api, build):
    name = place(api, build, pause=no_pause).name
    api.jobs[name]["metadata"]["deletionTimestamp"] = "now"
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            api.jobs.clear()

    assert place(api, build, pause=pause).how is How.CREATED and len(pauses) == 3


def test_a_job_that_never_goes_is_told(api, build):
    api.jobs[place(api, build, pause=no_pause).name]["metadata"]["deletionTimestamp"] = "now"
    with pytest.raises(Lost, match="does not go"):
        place(api, build, pause=no_pause)


def test_a_refusal_before_creation_creates_nothing(api, build):
    def refuse(_):
        raise Refused("no")

    with pytest.raises(Refused):
        place(api, build, refuse, pause=no_pause)
    assert api.jobs == {}


def test_preflight_asks_the_cluster_and_creates_nothing(api, build, site):
    preflight(api, build(1), site)
    assert api.calls == [f"dry-run {build(1)['metadata']['name']}"] and api.jobs == {}


def test_preflight_names_a_missing_secret_and_passes_over_what_it_may_not_read(api, build, site):
    api.secrets = {"ray-token": None, "s3-keys": False}
    with pytest.raises(Refused, match="Secret s3-keys: not in namespace team"):
        preflight(api, build(1), site)
    api.secrets = dict.fromkeys(["ray-token", "s3-keys", "hub"])
    preflight(api, build(1), site)


def test_preflight_refuses_gpus_no_node_has(api, job, site):
    api.node_list = [{"status": {"allocatable": {"cpu": "2"}}}]
    with pytest.raises(Refused, match=r"nvidia\.com/gpu"):
        preflight(api, build_rayjob(job.updated(gpus_per_worker=1), site, "team"), site)


def test_preflight_refuses_what_exceeds_the_quota_even_when_empty(api, build, site):
    api.quota_list = [{"metadata": {"name": "team"}, "spec": {"hard": {"limits.memory": "2Gi"}}}]
    with pytest.raises(Refused, match="ResourceQuota team"):
        preflight(api, build(1), site)


def test_preflight_is_content_with_a_job_that_exists(api, build, site):
    place(api, build, pause=no_pause)
    preflight(api, build(1), site)


LOST = Result(Exit.INFRASTRUCTURE, "the head was lost")
FINE = Result(Exit.SUCCESS, "done")


def runs(api, results, **options):
    left, said, submitted = list(results), [], []

    def place_one():
        submitted.append(f"job-{len(submitted) + 1}")
        return Placed(How.CREATED, {"metadata": {"name": submitted[-1]}})

    result = submit.run(api, place_one, lambda placed: left.pop(0), said.append, **options)
    return result, submitted, said


def test_only_infrastructure_failures_are_repeated(api):
    assert runs(api, [LOST, LOST, FINE], retries=2)[:2] == (FINE, ["job-1", "job-2", "job-3"])
    assert runs(api, [LOST, LOST], retries=1)[:2] == (LOST, ["job-1", "job-2"])
    for code in (Exit.JOB_FAILED, Exit.DEADLINE, Exit.CANCELLED, Exit.UNREACHABLE):
        assert len(runs(api, [Result(code, "x")], retries=5)[1]) == 1


def test_what_would_end_the_same_way_is_not_repeated(api):
    assert LOST.repeatable()
    for kind in LASTING:
        assert len(runs(api, [Result(Exit.INFRASTRUCTURE, "x", kind)], retries=3)[1]) == 1


def test_a_stuck_job_is_cancelled_unless_kept(api):
    stuck = Result(Exit.INFRASTRUCTURE, "no room", stuck=True)
    runs(api, [stuck])
    assert api.calls == ["delete job-1"]
    api.calls.clear()
    assert runs(api, [stuck], keep_stuck=True, retries=3)[1] == ["job-1"] and api.calls == []


def test_a_repetition_outlasts_a_server_that_is_away(api):
    answers = [Placed(How.CREATED, {"metadata": {"name": "a"}}), Unreachable("x"), Unreachable("x"),
               Placed(How.CREATED, {"metadata": {"name": "b"}})]  # fmt: skip
    waits, results = [], [LOST, FINE]

    def place_one():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert submit.run(api, place_one, lambda _: results.pop(0), lambda _: None, retries=1, pause=waits.append) == FINE
    assert waits == [2.0, 5.0]
    with pytest.raises(Unreachable):  # the first submission does not wait
        answers[:] = [Unreachable("x")]
        submit.run(api, place_one, lambda _: FINE, lambda _: None, pause=waits.append)


def test_a_finished_job_is_followed_for_its_log(api):
    done, followed = Placed(How.FINISHED, {"metadata": {"name": "x"}}), []

    def follow(placed):
        followed.append(placed)
        return FINE

    assert submit.run(api, lambda: done, follow, print).exit is Exit.SUCCESS and followed == [done]


def test_a_failed_job_that_still_has_pods_goes_before_the_next_attempt(api, build, make_pod):
    """After a deadline KubeRay leaves the cluster running: its workers would write into the same run."""
    name = place(api, build, pause=no_pause).name
    end(api, name, "Failed", "RUNNING")
    api.pod_list = [make_pod("head", phase="Running"), make_pod("submitter", phase="Succeeded")]
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        assert f"create {name}-r2" not in api.calls, "not beside the old pods"
        if len(pauses) == 2:
            api.pod_list = []

    again = place(api, build, pause=pause)
    assert again.how is How.CREATED and len(pauses) == 2
    assert api.calls[-2:] == [f"delete {name}", f"create {again.name}"]


def test_a_failed_job_whose_pods_are_gone_stays_as_a_record(api, build, make_pod):
    name = place(api, build, pause=no_pause).name
    end(api, name, "Failed", "FAILED")
    api.pod_list = [make_pod("submitter", phase="Running"), make_pod("worker", phase="Failed")]
    assert place(api, build, pause=no_pause).name == f"{name}-r2" and set(api.jobs) == {name, f"{name}-r2"}


def test_an_evaluation_is_not_answered_by_an_older_one(api, build):
    name = place(api, build, pause=no_pause, reuse=False).name
    assert place(api, build, pause=no_pause, reuse=False).how is How.ATTACHED
    end(api, name, "Complete", "SUCCEEDED")
    assert place(api, build, pause=no_pause, reuse=False).name == f"{name}-r2"


def test_a_training_whose_model_another_may_have_replaced_is_repeated(api, build, job, site):
    name = place(api, build, pause=no_pause).name
    end(api, name, "Complete", "SUCCEEDED")
    other = job.updated(config_digest="d" * 64)
    later = place(api, lambda attempt: build_rayjob(other, site, "team", attempt), pause=no_pause).name
    end(api, later, "Complete", "SUCCEEDED")
    api.jobs[later]["metadata"]["creationTimestamp"] = "2026-11-24T11:00:00Z"
    assert place(api, build, pause=no_pause).name == f"{name}-r2"


def test_jobs_are_found_by_name_and_by_run(api, build):
    placed = place(api, build, pause=no_pause)
    assert submit.find(api, placed.name) is submit.find(api, "p")
    with pytest.raises(Refused, match="rollama list"):
        submit.find(api, "q")


def test_the_fake_refuses_a_second_create(api, build):
    api.create_job(build(1))
    with pytest.raises(Conflict):
        api.create_job(build(1))
