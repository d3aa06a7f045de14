"""The scheduled retraining, run once by hand: S, P and SEG are trained as on one machine, recorded, evaluated.

Then the script for other people's pipelines in the same workspace: what is trained is found, and its thresholds close.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from rollama.core.storage import open_storage
from rollama.data.store import parse_reference, pull
from rollama.training.artefact import load_artefact
from rollama.training.metrics_log import read_metrics
from tests.live.kube import BIN, Kube
from tests.live.release.parts import Release
from tests.live.setting import ROOT, account

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
TOLERANCE = 1e-5
"""Between a run in pods and one on this machine: fp32, the same processor, other processes."""
RUNS = """
import json, mlflow
client = mlflow.MlflowClient("http://localhost:5000")
found = client.search_runs([item.experiment_id for item in client.search_experiments()])
print(json.dumps([{"status": run.info.status, "metrics": sorted(run.data.metrics)} for run in found]))
"""


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


@pytest.mark.matrix  # a training on this machine each; tests/live/test_faults.py compares P's losses too
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
