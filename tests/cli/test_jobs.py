"""The verbs of the command line against a scripted cluster; the cluster room itself is tested in tests/cluster."""

import os
import shlex
import signal
from collections.abc import Iterator
from typing import ClassVar

import pytest

from rollama.cli import jobs
from rollama.cli.main import main
from rollama.cluster import client
from rollama.cluster.exits import Unreachable
from rollama.evaluation.thresholds import parse_thresholds

DATASET = f"s3://bucket/store@sha256:{'a' * 64}"
SITE = (
    "image: registry.example/rollama:1\ntoken_secret: ray-token\nworkspace: s3://bucket/work\nstorage_secret: s3-keys\n"
)
JOB = "rollama-p-p-"


class FakeCluster:
    """A fake of `rollama.cluster.client.Cluster`: its jobs all have the test's `status`; it runs no KubeRay."""

    jobs: ClassVar[dict] = {}
    status: ClassVar[dict] = {}
    site: ClassVar[str | None] = SITE
    presets: ClassVar[str | None] = None
    calls: ClassVar[list] = []

    def __init__(self, namespace=None):
        self.namespace = namespace or "team"

    def get_job(self, name):
        found = self.jobs.get(name)
        if found is not None and "error" in self.status:
            raise self.status["error"]
        return found and {**found, "status": self.status}

    def list_jobs(self, selector):
        key, _, value = selector.partition("=")
        return [
            {**job, "status": self.status} for job in self.jobs.values() if job["metadata"]["labels"].get(key) == value
        ]

    def create_job(self, body, dry_run=False):
        self.calls.append("dry-run" if dry_run else "create")
        body["metadata"] |= {"uid": "0123abcd", "creationTimestamp": "2026-11-24T10:00:00Z"}
        if not dry_run:
            self.jobs[body["metadata"]["name"]] = body
        return body

    def delete_job(self, name):
        self.calls.append("delete")
        return self.jobs.pop(name, None) is not None

    def pods(self, job):
        labels = {"rollama.io/role": "submitter"}
        return [{"metadata": {"name": "s", "uid": "s", "labels": labels}, "status": {"phase": "Running"}}]

    def log(self, pod, container, follow, since_s=None):
        yield "2026-11-24T10:00:01Z step 1"
        yield "2026-11-24T10:00:02Z error: s.lr: found -1"

    def events(self):
        return []

    def nodes(self):
        return None

    quotas = nodes

    def has_secret(self, name):
        return None

    def site_text(self, key="site.yaml"):
        return self.site if key == "site.yaml" else self.presets

    def reconnect(self):
        pass


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    monkeypatch.setenv("ROLLAMA_CACHE", str(tmp_path / "cache"))
    for name in ("ROLLAMA_SITE", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(client, "Cluster", FakeCluster)
    for name, value in (("jobs", {}), ("calls", []), ("site", SITE), ("status", {}), ("presets", None)):
        monkeypatch.setattr(FakeCluster, name, value)
    return FakeCluster


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    captured = capsys.readouterr()
    return ended.value.code, captured.out, " ".join(captured.err.split())


def submit(capsys, *more):
    return run(capsys, "submit", "train", "p", "--preset", "tiny", "--dataset", DATASET, *more)


def state(deployed, ray, **more):
    return {"jobDeploymentStatus": deployed, "jobStatus": ray, **more}


@pytest.mark.parametrize(
    "verb",
    [("submit", "train"), ("submit", "evaluate"), ("submit", "job"), ("status",), ("logs",), ("cancel",), ("list",)],
)
def test_every_verb_explains_itself(capsys, verb):
    code, out, _ = run(capsys, *verb, "--help")
    assert code == 0 and "Usage" in out


def test_the_plan_needs_no_cluster(capsys, cluster, write, monkeypatch):
    monkeypatch.setattr(client, "Cluster", None)
    code, out, _ = submit(capsys, "--plan", "--site", str(write("site.yaml", SITE)), "--namespace", "x")
    assert code == 0 and f"RayJob {JOB}" in out and "in namespace x" in out
    assert [word for line in out.splitlines() if "workers" in line for word in line.split("│")[2:3]] == [" 2     "]


def test_the_site_may_name_the_data_set(capsys, cluster):
    code, _, err = run(capsys, "submit", "train", "p", "--preset", "tiny", "--plan")
    assert code == 2 and "--dataset: missing" in err
    cluster.site = SITE + f"\ndataset: {DATASET}\n"
    code, out, _ = run(capsys, "submit", "train", "p", "--preset", "tiny", "--plan")
    assert code == 0 and f"--dataset {DATASET}" in out.replace("\n", " ")


PRESETS = """
nightly: {task: p, preset: tiny, set: [p.steps=1], name: nightly-p}
proof: {task: evaluate, gpus: 1, thresholds: [{task: seg, metric: dice, at_least: 0.8}]}
"""


def test_a_job_is_submitted_by_its_name_as_if_it_had_been_typed(capsys, cluster):
    cluster.presets = PRESETS
    code, _, err = run(capsys, "submit", "job", "nightly", "--dataset", DATASET)
    assert code == 0 and "created" in err
    typed = ("--set", "p.steps=1", "--name", "nightly-p")
    code, _, err = submit(capsys, *typed)
    assert code == 0 and "is running already" in err and len(cluster.jobs) == 1


def test_an_evaluation_by_name_is_repeated_unless_told_otherwise(capsys, cluster):
    cluster.presets = PRESETS
    words = ("submit", "job", "proof", "--dataset", DATASET)
    assert run(capsys, *words)[0] == 0
    (job,) = cluster.jobs.values()
    command = shlex.split(job["metadata"]["annotations"]["rollama.io/command"])
    assert parse_thresholds(command[command.index("--require") + 1]).rules[0].at_least == 0.8
    assert command[command.index("--gpus") + 1] == "1"
    cluster.status = state("Complete", "SUCCEEDED")
    code, _, err = run(capsys, *words, "--reuse")
    assert code == 0 and "has succeeded already" in err and len(cluster.jobs) == 1
    assert run(capsys, *words)[0] == 0 and len(cluster.jobs) == 2


def test_a_name_that_is_not_there(capsys, cluster, write):
    code, _, err = run(capsys, "submit", "job", "nightly", "--dataset", DATASET)
    assert code == 2 and "jobs.presets" in err
    file = str(write("presets.yaml", PRESETS))
    code, _, err = run(capsys, "submit", "job", "nigthly", "--presets", file, "--dataset", DATASET)
    assert code == 2 and "did you mean 'nightly'" in err
    code, _, err = run(capsys, "submit", "job", "x", "--presets", "/nowhere.yaml")
    assert code == 2 and "/nowhere.yaml" in err


def test_an_evaluation_carries_its_required_values(capsys, cluster, write):
    rules = write("rules.yaml", "rules: [{task: seg, metric: dice, at_least: 0.8}]")
    words = ["submit", "evaluate", "--dataset", DATASET, "--name", "tag-1", "--require", str(rules)]
    code, _, err = run(capsys, *words)
    assert code == 0 and "created" in err
    (job,) = cluster.jobs.values()
    assert job["metadata"]["name"].startswith("rollama-evaluate-tag-1-")
    command = shlex.split(job["metadata"]["annotations"]["rollama.io/command"])
    assert command[:2] == ["rollama", "evaluate"]
    sent = parse_thresholds(command[command.index("--require") + 1])
    assert [(rule.task, rule.metric, rule.at_least) for rule in sent.rules] == [("seg", "dice", 0.8)]
    rules.write_text("rules: [{task: seg, metric: dice, at_lest: 0.8}]")
    code, _, err = run(capsys, *words)
    assert code == 2 and "did you mean 'at_least'" in err


def test_an_evaluation_may_have_a_gpu(capsys, cluster):
    code, _, _ = run(capsys, "submit", "evaluate", "--dataset", DATASET, "--name", "tag-1", "--gpus", "1")
    (job,) = cluster.jobs.values()
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert code == 0 and "--gpus 1" in job["metadata"]["annotations"]["rollama.io/command"]
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_submitting_creates_after_a_dry_run_and_a_repetition_attaches(capsys, cluster):
    code, _, err = submit(capsys)
    assert code == 0 and "created" in err and cluster.calls == ["dry-run", "create"]
    code, _, err = submit(capsys)
    assert code == 0 and "attached" in err and cluster.calls == ["dry-run", "create"]


def test_a_dry_run_creates_nothing(capsys, cluster):
    code, out, _ = submit(capsys, "--dry-run")
    assert code == 0 and "would accept" in out and cluster.calls == ["dry-run"] and cluster.jobs == {}


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (state("Complete", "SUCCEEDED"), 0, "done: the job succeeded"),
        (state("Complete", "STOPPED"), 13, "stopped"),
        (state("Failed", "FAILED", message="Job entrypoint command failed with exit code 2"), 10,
         "the command ended with exit code 2: error: s.lr: found -1"),
        (state("Failed", "", reason="SubmissionFailed"), 11, "could not be submitted"),
        (state("Failed", "RUNNING", reason="DeadlineExceeded"), 12, "deadline"),
        (state("ValidationFailed", "", message="bad"), 2, "KubeRay refused the job: bad"),
    ],
)  # fmt: skip
def test_waiting_ends_with_the_jobs_exit_code(capsys, cluster, monkeypatch, status, code, says):
    live = state("Running", "RUNNING")
    monkeypatch.setattr(cluster, "status", live)
    original = cluster.create_job

    def create(self, body, dry_run=False):
        made = original(self, body, dry_run)
        if not dry_run:
            monkeypatch.setattr(cluster, "status", status)
        return made

    monkeypatch.setattr(cluster, "create_job", create)
    found, out, err = submit(capsys, "--wait")
    assert found == code and says in err
    assert out.splitlines() == ["step 1", "error: s.lr: found -1"]


def test_an_unreachable_cluster_has_its_own_code(capsys, cluster, monkeypatch):
    def gone(self, selector):
        raise Unreachable("the server does not answer")

    monkeypatch.setattr(cluster, "list_jobs", gone)
    code, _, err = run(capsys, "list")
    assert code == 14 and "does not answer" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--name", "x" * 48], "found 48 characters"),
        (["--workspace", "runs"], "--workspace"),
        (["--set", "p.lerning=1"], "unknown key"),
        (["--set", "p.scale.gpus_per_worker=0.5"], "whole GPUs"),
        (["--site", "none.yaml"], "none.yaml: cannot read it"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_created(capsys, cluster, more, says):
    code, _, err = submit(capsys, *more)
    assert code == 2 and says in err and cluster.calls == []


def test_a_missing_site_says_where_it_was_looked_for(capsys, cluster, monkeypatch):
    monkeypatch.setattr(cluster, "site", None)
    code, _, err = submit(capsys)
    assert code == 2 and "ConfigMap rollama-site in namespace team" in err and "--site FILE" in err


@pytest.fixture
def heard() -> Iterator[None]:
    """A shell starts background commands deaf to SIGINT, and this process may be one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize(("options", "code", "calls"), [([], 130, 0), (["--cancel-on-interrupt"], 13, 1)])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_leaves_the_job_alone_unless_asked(capsys, cluster, monkeypatch, options, code, calls, signum):
    def interrupt(*_):
        os.kill(os.getpid(), signum)
        signal.sigpending()

    monkeypatch.setattr(cluster, "status", state("Running", "RUNNING"))
    monkeypatch.setattr("rollama.cluster.watch.describe", interrupt)
    before = signal.getsignal(signal.SIGTERM)
    found, _, err = submit(capsys, "--wait", *options)
    assert found == code and cluster.calls.count("delete") == calls
    assert ("rollama logs" in err) is (calls == 0)
    assert signal.getsignal(signal.SIGTERM) is before


def test_status_logs_cancel_and_list(capsys, cluster, monkeypatch):
    submit(capsys)
    monkeypatch.setattr(cluster, "status", state("Failed", "FAILED", reason="AppFailed"))
    name = next(iter(cluster.jobs))
    code, out, _ = run(capsys, "status", "p")
    assert code == 0 and f"{name}: Failed / FAILED" in out and "exit code 10" in out and "rollama train p" in out
    assert name in run(capsys, "status")[1] and name in run(capsys, "list")[1]
    assert run(capsys, "logs", name)[1].splitlines() == ["step 1", "error: s.lr: found -1"]
    assert run(capsys, "logs", name, "--follow")[0] == 10
    assert "cancelled" in run(capsys, "cancel", "p")[1] and cluster.jobs == {}
    assert run(capsys, "logs", name)[1].splitlines() == ["step 1", "error: s.lr: found -1"], "kept"
    assert run(capsys, "cancel", "p")[0] == 2
    assert "no jobs" in run(capsys, "list")[1]


def test_the_documented_codes_are_the_ones_used():
    from rollama.cluster.exits import Exit

    for code in Exit:
        assert f"{int(code)} " in jobs.CODES
