"""What goes wrong on a cluster ends in a resumed run or in the right exit code and sentence."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rollama.cluster import pods
from rollama.core.storage import open_storage
from rollama.training.metrics_log import read_metrics
from tests.live.kube import Kube, until, with_site
from tests.live.setting import KUBERAY, OWN
from tests.live.wire import wired

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
STEPS = 60
LONG = ("--preset", "tiny", "--set", f"p.steps={STEPS}", "--set", "text.scale.checkpoint_every=5")
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def straight(ci: Kube, cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Losses of the uninterrupted run on this machine."""
    place = tmp_path_factory.mktemp("straight")
    done = ci.rollama("train", "p", *LONG, "--dataset", str(cohort), "--workspace", str(place))
    assert done.returncode == 0, done.stderr
    return [row["loss"] for row in read_metrics(next((place / "train").glob("p-*")) / "metrics.jsonl")]


class Run:
    """One submitted training and its curve in the bucket."""

    def __init__(self, ci: Kube, site: Kube, name: str, workspace: str, dataset: str) -> None:
        self.ci, self.site, self.name, self.storage = ci, site, name, open_storage(workspace)
        self.words = ("submit", "train", "p", *LONG, "--name", name, "--dataset", dataset, "--wait")

    def rows(self, tmp_path: Path) -> list[dict[str, float]]:
        found = {item.split("/")[1] for item in self.storage.names("train") if item.startswith(f"train/{self.name}-")}
        path = tmp_path / f"{self.name}.jsonl"
        path.write_text("".join(self.storage.read_text(f"train/{item}/metrics.jsonl") or "" for item in found))
        return read_metrics(path)

    def reached(self, step: int, tmp_path: Path) -> None:
        until(lambda: any(row["step"] >= step for row in self.rows(tmp_path)), 300, f"{self.name} reached step {step}")

    def pods(self, role: str) -> list[str]:
        found = self.site.get("pods", "-l", f"rollama.io/run={self.name},rollama.io/role={role}")["items"]
        return [item["metadata"]["name"] for item in found if item["status"]["phase"] == "Running"]

    def check(self, straight: list[float], tmp_path: Path) -> None:
        rows = self.rows(tmp_path)
        assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
        assert [row["loss"] for row in rows] == pytest.approx(straight, abs=TOLERANCE)


@pytest.fixture
def job(request: pytest.FixtureRequest, ci: Kube, site: Kube, dataset: str, workspace: str) -> Run:
    name = request.node.name.removeprefix("test_").split("[")[0].replace("_", "-")[:20].strip("-")
    return Run(ci, site, name, workspace, dataset)


def disturbed(run: Run, tmp_path: Path, disturb: Callable[[], object], *options: str) -> tuple[int, str]:
    """Start, disturb in the middle, wait for the end."""
    client = run.ci.start(*run.words, *options)
    try:
        run.reached(7, tmp_path)
        disturb()
        output = client.communicate(timeout=600)[0]
    finally:
        client.kill()
    return client.returncode, output


def test_a_worker_and_then_the_head_are_lost(job: Run, straight: list[float], tmp_path: Path) -> None:
    """The two losses of the next tests, one after the other in one job."""

    def resumed_and_lost_again() -> None:
        job.site.run("delete", "pod", job.pods("worker")[0], "--force", "--grace-period=0")
        far = lambda: any(row["attempt"] >= 1 and row["step"] >= 20 for row in job.rows(tmp_path))  # noqa: E731
        until(far, 300, "the run resumed without its worker")
        job.site.run("delete", "pod", job.pods("head")[0], "--force", "--grace-period=0")

    code, output = disturbed(job, tmp_path, resumed_and_lost_again, "--retries", "2")
    assert code == 0, output
    job.check(straight, tmp_path)
    # KubeRay makes a new head and a new submitter; should it give up, the client submits again. Either way it resumed.
    assert max(row["attempt"] for row in job.rows(tmp_path)) >= 2


@pytest.mark.matrix
def test_a_worker_is_lost(job: Run, straight: list[float], tmp_path: Path) -> None:
    code, output = disturbed(
        job, tmp_path, lambda: job.site.run("delete", "pod", job.pods("worker")[0], "--force", "--grace-period=0")
    )
    assert code == 0, output
    job.check(straight, tmp_path)
    assert max(row["attempt"] for row in job.rows(tmp_path)) >= 1


@pytest.mark.matrix
def test_the_head_is_lost(job: Run, straight: list[float], tmp_path: Path) -> None:
    code, output = disturbed(
        job,
        tmp_path,
        lambda: job.site.run("delete", "pod", job.pods("head")[0], "--force", "--grace-period=0"),
        "--retries",
        "2",
    )
    assert code == 0, output
    job.check(straight, tmp_path)
    assert max(row["attempt"] for row in job.rows(tmp_path)) >= 1


@pytest.mark.matrix
def test_the_operator_restarts(job: Run, admin: Kube, straight: list[float], tmp_path: Path) -> None:
    operator = admin.of(KUBERAY)
    code, output = disturbed(job, tmp_path, lambda: operator.run("rollout", "restart", "deployment/kuberay-operator"))
    assert code == 0, output
    job.check(straight, tmp_path)


@pytest.mark.matrix
def test_the_submitter_is_killed(job: Run, straight: list[float], tmp_path: Path) -> None:
    code, output = disturbed(
        job, tmp_path, lambda: job.site.run("delete", "pod", *job.pods("submitter"), "--wait=false")
    )
    assert code == 0, output
    job.check(straight, tmp_path)


@pytest.mark.matrix
def test_the_client_is_killed_and_attaches_again(job: Run, straight: list[float], tmp_path: Path) -> None:
    client = job.ci.start(*job.words)
    job.reached(7, tmp_path)
    client.send_signal(signal.SIGINT)
    output = client.communicate(timeout=60)[0]
    assert client.returncode == 130
    assert "the job goes on" in output
    again = job.ci.rollama(*job.words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "attached" in again.stderr
    job.check(straight, tmp_path)


@pytest.mark.matrix
def test_the_connection_is_cut(job: Run, straight: list[float], tmp_path: Path) -> None:
    with wired(job.ci.kubeconfig, tmp_path / "kubeconfig") as wire:
        job.ci = replace(job.ci, kubeconfig=tmp_path / "kubeconfig")

        def cut() -> None:
            wire.cut()
            time.sleep(30)
            wire.mend()

        code, output = disturbed(job, tmp_path, cut)
    assert code == 0, output
    assert "no answer from the cluster, trying again" in output
    job.check(straight, tmp_path)


@pytest.fixture
def s3(admin: Kube) -> Iterator[Kube]:
    assert not OWN, "only the test cluster's own S3 server may be taken down"
    kube = admin.of("s3")
    yield kube
    kube.run("scale", "deployment/s3", "--replicas=1")
    kube.run("rollout", "status", "deployment/s3", "--timeout=120s")


@pytest.mark.matrix
def test_the_object_store_is_down_for_a_minute(job: Run, s3: Kube, straight: list[float], tmp_path: Path) -> None:
    def down() -> None:
        s3.run("scale", "deployment/s3", "--replicas=0")
        time.sleep(60)
        s3.run("scale", "deployment/s3", "--replicas=1")

    code, output = disturbed(job, tmp_path, down)
    assert code == 0, output
    job.check(straight, tmp_path)


SMALL = {"cpu": "50m", "memory": "1Gi"}
HOPELESS: dict[str, tuple[dict[str, object], int, str]] = {
    "no-image": ({"image": "rollama.test/no-such-image:1", "head": SMALL, "worker": SMALL}, 11, "no-such-image"),
    # Ray starts in it; its own guard ends the training worker, or the kernel where memory grows too fast for it.
    "no-memory": (
        {"head": {"cpu": "100m", "memory": "3Gi"}, "worker": {"cpu": "100m", "memory": "900Mi"}},
        10,
        "out of memory",
    ),
    # CI may not look at Secrets
    "no-secret": ({"storage_secret": "no-such-secret", "head": SMALL, "worker": SMALL}, 11, "no-such-secret"),
    "no-gpu": ({"head": {"cpu": "50m", "memory": "3Gi"}}, 11, "insufficient nvidia.com/gpu"),  # nor at nodes
}
"""What is changed at the site, the exit code, and what the last line says. Small, as all are there at once."""


@pytest.fixture(scope="module")
def hopeless(
    ci: Kube, site: Kube, dataset: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[int, str, str]]:
    """What each of them ended with; submitted together, as most of it is waiting."""
    running = {}
    for name, (changes, _, _) in HOPELESS.items():
        more = ("--set", "p.scale.gpus_per_worker=1") if name == "no-gpu" else ()
        words = ("submit", "train", "p", "--preset", "tiny", *more, "--name", name, "--dataset", dataset, "--wait")
        place = with_site(site, tmp_path_factory.mktemp(name), **changes)
        running[name] = ci.start(*words, "--site", place, apart=True)
    said = {name: process.communicate(timeout=600) for name, process in running.items()}
    return {name: (process.returncode, *said[name]) for name, process in running.items()}


@pytest.mark.parametrize("name", HOPELESS)
def test_what_can_never_work_is_told(name: str, hopeless: dict[str, tuple[int, str, str]]) -> None:
    code, output, said = hopeless[name]
    assert code == HOPELESS[name][1], output[-6000:] + said
    assert HOPELESS[name][2] in said.splitlines()[-1].lower()


def test_a_full_quota_is_told(ci: Kube, site: Kube, image: str, dataset: str) -> None:
    """Four pods fit the quota, but two are used already: only the API server knows, and says so pod by pod."""
    box = {"name": "filler", "image": image, "command": ["sleep", "600"], "securityContext": pods.SECURITY}
    spec = {"automountServiceAccountToken": False, "securityContext": pods.POD_SECURITY, "containers": [box]}
    fillers = [f"filler-{index}" for index in range(2)]
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"}, "spec": {"hard": {"pods": "4"}}}
    site.apply(*({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec} for name in fillers))
    site.apply(quota)
    try:
        used = lambda: site.get("resourcequota", "full").get("status", {}).get("used", {}).get("pods")  # noqa: E731
        until(lambda: int(used() or 0) >= 2, 60, "the quota counts the fillers")
        words = ("submit", "train", "p", "--preset", "tiny", "--name", "quota", "--dataset", dataset, "--wait")
        done = ci.rollama(*words, "--patience", "30")
        assert done.returncode == 11, done.stdout + done.stderr
        assert "exceeded quota: full" in done.stderr.splitlines()[-1]
        until(lambda: not site.get("rayjobs", "-l", "rollama.io/run=quota")["items"], 60, "the stuck job is cancelled")
    finally:
        site.run("delete", "resourcequota", "full")
        site.run("delete", "pod", *fillers, "--grace-period=0", "--force")
