"""The scheduled retraining, run once by hand: S, P and SEG are trained as on one machine, recorded, evaluated.

Then the script for other people's pipelines in the same workspace: what is trained is found, and its thresholds close.
Then the gate: refused under one protocol; under another it waits for a person, promotes, and the endpoint follows.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from rollama.core.storage import open_storage
from rollama.data.store import parse_reference, pull
from rollama.training.artefact import load_artefact
from rollama.training.metrics_log import read_metrics
from tests.live.kube import BIN, Kube, until
from tests.live.release.parts import Endpoint, Release
from tests.live.setting import ROOT, Bucket, account, helm, secret

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
TOLERANCE = 1e-5
"""Between a run in pods and one on this machine: fp32, the same processor, other processes."""
JOB = "retrain-now"
RUNS = """
import json, mlflow
client = mlflow.MlflowClient("http://localhost:5000")
found = client.search_runs([item.experiment_id for item in client.search_experiments()])
print(json.dumps([{"status": run.info.status, "metrics": sorted(run.data.metrics)} for run in found]))
"""


@pytest.fixture(scope="module")
def retrained(release: Release, dataset: str) -> tuple[str, str]:
    """Log of the scheduled run, which began when the release was installed, and its workspace."""

    def ended() -> Any:
        conditions = release.kube.get("job", JOB)["status"].get("conditions", [])
        return {item["type"] for item in conditions if item["status"] == "True"} & {"Complete", "Failed"}

    how = until(ended, 1200, "the scheduled run is over")
    log = release.kube.run("logs", f"job/{JOB}")
    assert how == {"Complete"}, log[-6000:]
    return log, f"{release.values['storage']['workspace']}/retrain-{dataset.rpartition(':')[2][:12]}"


@pytest.fixture(scope="module")
def pipeline(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Kube:
    """The account of CI in the release's namespace."""
    return account(release.kube, "rollama-ci", tmp_path_factory.mktemp("ci"))


def test_the_schedule_trains_and_reports(release: Release, retrained: tuple[str, str]) -> None:
    log, workspace = retrained
    assert re.findall(r"^retrain: (\w+) in (\S+)$", log, re.MULTILINE) == [
        (name, workspace) for name in release.values["retrain"]["jobs"]
    ]
    assert "RESEARCH USE ONLY" in log and "| " in log
    jobs = release.kube.get("rayjobs")["items"]
    assert {job["status"]["jobDeploymentStatus"] for job in jobs} == {"Complete"}
    assert {
        job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["priorityClassName"] for job in jobs
    } == {f"{release.kube.namespace}-rollama-training"}


@pytest.mark.parametrize("what", ["p", "seg"])
def test_its_models_are_those_of_one_machine(
    what: str, release: Release, retrained: tuple[str, str], cohort: Path, tmp_path: Path
) -> None:
    storage = open_storage(retrained[1])
    pointer = json.loads(storage.read_text(f"models/{what}.json") or "{}")
    assert pointer["reference"] in retrained[0]
    here = pull(parse_reference(pointer["reference"]), tmp_path / "model")
    local = release.kube.rollama(
        "train", what, "--preset", "tiny", "--dataset", str(cohort), "--workspace", str(tmp_path / "local")
    )
    assert local.returncode == 0, local.stderr
    there, _ = load_artefact(here)
    wanted, _ = load_artefact(tmp_path / "local" / "models" / what)
    assert set(there) == set(wanted)
    for name, tensor in wanted.items():
        assert (there[name] - tensor).abs().max() <= TOLERANCE, name
    (run,) = {name.split("/")[1] for name in storage.names("train") if name.startswith(f"train/{what}-")}
    (tmp_path / "metrics.jsonl").write_text(storage.read_text(f"train/{run}/metrics.jsonl") or "")
    rows = read_metrics(tmp_path / "metrics.jsonl")
    expected = read_metrics(next((tmp_path / "local" / "train").glob(f"{what}-*")) / "metrics.jsonl")
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    for row, wanted_row in zip(rows, expected, strict=True):
        assert row["loss"] == pytest.approx(wanted_row["loss"], abs=TOLERANCE)


def test_mlflow_has_its_runs(release: Release, retrained: tuple[str, str]) -> None:
    said = release.kube.run("exec", "deployment/rollama-mlflow", "--", "python", "-c", RUNS)
    runs = json.loads(said.splitlines()[-1])
    assert [run["status"] for run in runs] == 3 * ["FINISHED"], runs
    assert all("loss" in " ".join(run["metrics"]) for run in runs), runs


def test_the_script_for_pipelines_finds_what_is_trained_and_holds_the_gate(
    pipeline: Kube, release: Release, retrained: tuple[str, str], dataset: str, tmp_path: Path
) -> None:
    """`infra/ci/retrain.sh` as CI would run it: no keys of the object store, a value that is not reached."""
    rules = tmp_path / "thresholds.yaml"
    rules.write_text("rules:\n  - {task: seg, metric: dice, bound: mean, at_least: 0.99, min_cases: 1}\n")
    workspace, _, tag = retrained[1].rpartition("/")
    settings = {
        "TAG": tag, "DATASET": dataset, "WORKSPACE": workspace, "PRESET": "tiny", "THRESHOLDS": str(rules),
        "REPORT": str(tmp_path / "report"), "PATH": f"{BIN}:{os.environ['PATH']}",
    }  # fmt: skip
    jobs = len(release.kube.get("rayjobs")["items"])
    done = subprocess.run(
        ["bash", str(ROOT / "infra/ci/retrain.sh")], env=pipeline.environment(**settings), cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=1000,
    )  # fmt: skip
    assert done.returncode == 10, done.stdout[-4000:] + done.stderr[-2000:]
    assert "dice" in done.stdout
    assert done.stdout.count("succeeded already") == 3, "S, P and SEG are not trained again"
    assert len(release.kube.get("rayjobs")["items"]) == jobs + 1
    report = (tmp_path / "report" / "evaluation.md").read_text()
    assert report.startswith("RESEARCH USE ONLY") and "| " in report


PROTOCOL = {
    "format": 1, "name": "live", "version": 1, "cases": {"all": 6, "centre": 2, "subgroup": 2},
    "centres": {"bound": "mean"}, "rules": [{"task": "p", "metric": "rougeL", "margin": 0.4}],
    "changes": {"s": ["*"], "p": ["*"], "seg": ["*"]}, "approval": {"needed": 1},
}  # fmt: skip
OUT_OF_REACH = {"limits": [{"task": "s", "metric": "rougeL", "at_least": 0.999, "each": "all"}]}
ALIAS = """
import mlflow
version = mlflow.MlflowClient("http://localhost:5000").get_model_version_by_alias("rollama", "released")
print(version.tags["release"])
"""


@dataclass(frozen=True)
class Gate:
    """The gate of the release, the folder that its protocol and keys are kept in, and this machine's way to S3."""

    release: Release
    site: Path
    bucket: Bucket

    def call(self, *arguments: str) -> str:
        """`rollama release ...` as the physicist types it."""
        done = self.release.kube.rollama(
            "release", *arguments, "--config", str(self.site / "releases.yaml"), **self.bucket.environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def put(self, version: int, **changes: object) -> None:
        """Sign a version of the protocol and put it in force."""
        (self.site / "protocol.yaml").write_text(yaml.safe_dump({**PROTOCOL, "version": version, **changes}))
        self.call("sign-protocol", str(self.site / "protocol.yaml"), "--key", str(self.site / "me.key"))
        names = {"protocol": "protocol.yaml", "signature": "protocol.yaml.sig"}
        texts = {key: (self.site / name).read_text() for key, name in names.items()}
        keys = {role: {path.stem: path.read_text() for path in (self.site / "keys" / role).glob("*.pem")}
                for role in ("protocol", "release", "approval")}  # fmt: skip
        self.upgrade(
            schedule="45 3 * * *", history=f"{self.bucket.uri}/releases", keySecret="release-key", keys=keys, **texts,
            resources={"requests": {"cpu": "200m", "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
        )  # fmt: skip

    def upgrade(self, **values: object) -> None:
        """Other values of the gate."""
        helm(self.release.kube, "upgrade", {"retrain": {"release": values}}, self.release.folder, "--reuse-values")

    def run(self, name: str) -> tuple[int, str]:
        """Exit code and log of one run."""
        kube = self.release.kube
        kube.run("create", "job", "--from=cronjob/rollama-gate", name)

        def ended() -> Any:
            pods = kube.get("pods", "-l", f"job-name={name}")["items"]
            states = [pod["status"].get("containerStatuses", [{}])[0].get("state", {}) for pod in pods]
            return [state["terminated"] for state in states if "terminated" in state]

        (state,) = until(ended, 600, f"{name} is over")
        log = kube.run("logs", f"job/{name}")
        if state["exitCode"]:
            assert "# Release gate: " in state["message"], "the pod's status says why"
        return int(state["exitCode"]), log


@pytest.fixture(scope="module")
def gate(
    release: Release, bucket: Bucket, retrained: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gate]:
    """Keys of a physicist and of the gate, the latter's private half in a Secret; the chart has no gate yet."""
    site = tmp_path_factory.mktemp("gate") / "site"
    found = Gate(release, site, bucket)
    assert release.kube.rollama("release", "init", str(site)).returncode == 0
    (site / "releases.yaml").write_text(
        f"history: {bucket.uri}/releases\nstore: {bucket.uri}/work/store\nkeys: keys\nprotocol: protocol.yaml\n"
    )
    found.call("keygen", str(site / "me.key"), "--role", "protocol", "--role", "approval")
    found.call("keygen", str(site / "gate.key"), "--role", "release")
    release.kube.apply(secret("release-key", **{"release.key": (site / "gate.key").read_text()}))
    yield found
    found.upgrade(schedule="")
    release.kube.run("delete", "secret", "release-key")


def test_the_gate_refuses_what_misses_a_limit(gate: Gate, bucket: Bucket) -> None:
    gate.put(1, **OUT_OF_REACH)
    code, log = gate.run("gate-refused")
    assert code == 3, log[-6000:]
    assert "# Release gate: refused" in log and "s.rougeL" in log and "SYNTHETIC" in log
    shelf = open_storage(f"{bucket.uri}/work/release")
    assert {name.split("/")[1] for name in shelf.names()} == {
        "verdict.json", "verdict.json.sig", "verdict.html", "summary.md",
    }  # fmt: skip
    assert "promoted" not in gate.call("history")


def test_the_gate_waits_for_a_person_and_promotes(gate: Gate, release: Release) -> None:
    gate.put(2)
    code, log = gate.run("gate-waits")
    assert code == 7 and "# Release gate: waiting for approval" in log, log[-6000:]
    (place,) = re.findall(r"^- page: (\S+)/verdict.html$", log, re.MULTILINE)
    gate.call("approve", place, "--key", str(gate.site / "me.key"), "--name", "a physicist")
    code, log = gate.run("gate-promotes")
    assert code == 0 and "# Release gate: promoted" in log and "judged before" in log, log[-6000:]
    code, log = gate.run("gate-again")
    assert code == 0 and "nothing to do: these models are released" in log, log[-6000:]
    alias = release.kube.run("exec", "deployment/rollama-mlflow", "--", "python", "-c", ALIAS).split()[-1]
    shown = gate.call("history")
    assert alias[:12] in next(line for line in shown.splitlines() if line.split()[:1] == ["->"])


def test_the_endpoint_follows_by_digest(gate: Gate, release: Release, endpoint: Endpoint) -> None:
    """With the values of the signed history; then the former models come back, as other tests know them."""
    values = yaml.safe_load(gate.call("values"))
    shelf = open_storage(f"{gate.bucket.uri}/work/release")
    verdicts = [json.loads(shelf.read_text(name) or "") for name in shelf.names() if name.endswith("verdict.json")]
    (released,) = [verdict for verdict in verdicts if verdict["outcome"] == "passed"]
    assert released["candidate"] == values["serve"]["models"] == yaml.safe_load(
        shelf.read_text("serve-models.yaml") or ""
    )["serve"]["models"]  # fmt: skip

    def served() -> dict[str, str]:
        with endpoint.client() as client:
            return dict(client.get("/v1/models").json()["serving"])

    before, pods = served(), release.pods()
    helm(release.kube, "upgrade", values, release.folder, "--reuse-values")
    try:
        until(lambda: served() == released["hashes"], 300, "the released models are served")
    finally:
        release.kube.helm("rollback", "rollama")
    until(lambda: served() == before, 300, "the former models are served again")
    assert release.pods() == pods, "a pod was made anew"
