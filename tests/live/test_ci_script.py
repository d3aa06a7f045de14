"""`infra/ci/retrain.sh` as a CI would run it: the chart's CI account, no keys of the object store, a threshold file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.live.conftest import ROOT
from tests.live.kube import BIN, Kube

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]


def retrain(ci: Kube, folder: Path, dataset: str, workspace: str, dice: float) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    rules = folder / "thresholds.yaml"
    rules.write_text(f"rules:\n  - {{task: seg, metric: dice, bound: mean, at_least: {dice}, min_cases: 1}}\n")
    settings = {
        "TAG": "2026-11", "DATASET": dataset, "WORKSPACE": f"{workspace}/retrain", "PRESET": "tiny",
        "THRESHOLDS": str(rules), "REPORT": str(folder / "report"), "PATH": f"{BIN}:{os.environ['PATH']}",
    }  # fmt: skip
    return subprocess.run(
        ["bash", str(ROOT / "infra/ci/retrain.sh")], env=ci.environment(**settings), cwd=folder, capture_output=True,
        text=True, check=False, timeout=1400,
    )  # fmt: skip


def test_retraining_from_ci_and_the_gate(ci: Kube, site: Kube, dataset: str, workspace: str, tmp_path: Path) -> None:
    done = retrain(ci, tmp_path / "first", dataset, workspace, dice=0.0)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    report = (tmp_path / "first" / "report" / "evaluation.md").read_text()
    assert report.startswith("RESEARCH USE ONLY")
    assert "| " in report

    jobs = len(site.get("rayjobs")["items"])
    missed = retrain(ci, tmp_path / "second", dataset, workspace, dice=0.99)
    assert missed.returncode == 10, missed.stdout[-4000:] + missed.stderr[-2000:]
    assert "dice" in missed.stdout
    assert missed.stdout.count("succeeded already") == 3  # S, P and SEG are not trained again
    assert len(site.get("rayjobs")["items"]) == jobs + 1
