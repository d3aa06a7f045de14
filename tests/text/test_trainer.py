from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rollama.core.errors import CheckpointError, DataError
from rollama.core.registry import Task
from rollama.text.checkpoint import load_text_model
from rollama.text.trainer import train_text
from rollama.training.metrics_log import read_metrics
from rollama.training.runs import is_trained
from tests.text.conftest import local_worker, tiny_config


def test_artefact_and_log(trained: Callable[[Task], Path]) -> None:
    folder = trained(Task.PLAN)
    artefact = load_text_model(folder)
    rows = read_metrics(folder.parent / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert {"loss", "ce", "consistency", "noise_ratio", "lr", "seconds", "attempt"} <= set(rows[0])
    assert rows[0]["consistency"] > 0
    manifest = artefact.manifest
    assert manifest["data"]["synthetic"] and manifest["lengths"]["rows"] == 12
    assert set(manifest["metrics"]) == {"loss", "ce", "consistency", "noise_ratio"}
    assert any(bool(value.any()) for name, value in artefact.tensors.items() if "lora_B" in name)
    assert is_trained(folder, manifest["config_hash"])


def test_resume_with_another_configuration_is_refused(dataset: Path, tmp_path: Path) -> None:
    train_text(tiny_config(), Task.SUMMARY, dataset, tmp_path / "model", local_worker(tmp_path))
    checkpoint = tmp_path / "scratch" / "step-000002"
    worker = local_worker(tmp_path / "second", resume=checkpoint)
    with pytest.raises(CheckpointError, match="another configuration"):
        train_text(tiny_config(lr=0.1), Task.SUMMARY, dataset, tmp_path / "other", worker)
    train_text(tiny_config(), Task.SUMMARY, dataset, tmp_path / "again", worker)
    first = {row["step"]: row["loss"] for row in read_metrics(tmp_path / "metrics.jsonl")}
    second = {row["step"]: row["loss"] for row in read_metrics(tmp_path / "second" / "metrics.jsonl")}
    assert second == {step: first[step] for step in (3, 4)}


def test_long_rows_stop_the_run_before_training(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="max_tokens=20"):
        train_text(tiny_config(max_tokens=20), Task.PLAN, dataset, tmp_path / "model", local_worker(tmp_path))
    assert not (tmp_path / "model").exists()
