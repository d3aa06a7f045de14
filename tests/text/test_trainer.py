from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rollama.core.errors import CheckpointError, ConfigError, DataError
from rollama.core.files import read_json, write_json
from rollama.core.registry import Task
from rollama.data.case import Split, TextCase
from rollama.text.checkpoint import load_text_model
from rollama.text.config import TextConfig
from rollama.text.trainer import draw_weights, train_text
from rollama.training.artefact import artefact_hash
from rollama.training.metrics_log import read_metrics
from rollama.training.runs import is_trained
from rollama.training.worker import Evaluated
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


def test_more_tokens_than_the_base_reads_are_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_tokens: 4000 is more than tiny can read \(2048 tokens\)"):
        train_text(tiny_config(max_tokens=4000), Task.PLAN, dataset, tmp_path / "model", local_worker(tmp_path))


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_packed_and_padded_training_are_the_same_run(dataset: Path, tmp_path: Path, dropout: float) -> None:
    losses = []
    for packing, micro in ((True, 4), (False, 2)):
        folder = tmp_path / f"{packing}"
        config = tiny_config(
            packing=packing, micro_batch=micro, lr=0.02, lora={"dropout": dropout}, consistency_every=2
        )
        train_text(config, Task.PLAN, dataset, folder / "model", local_worker(folder))
        losses.append({row["step"]: row["loss"] for row in read_metrics(folder / "metrics.jsonl")})
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    rows = read_metrics(tmp_path / "True" / "metrics.jsonl")
    assert ["consistency" in row for row in rows] == [True, False, True, False]


class Kept:
    """Evaluations that like the second step best."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.found = folder, list[Evaluated]()

    def submit(self, step: int, folder: Path) -> None:
        target = self.folder / f"step-{step}"
        shutil.copytree(folder, target)
        self.found.append(Evaluated(step, "rougeL", 1.0 if step == 2 else 0.5, 3))

    def collect(self) -> list[Evaluated]:
        return self.found

    def fetch(self, step: int) -> Path:
        return self.folder / f"step-{step}"


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_best_evaluated_model_is_the_trained_one(dataset: Path, tmp_path: Path, keep: str) -> None:
    with_validation(dataset, tmp_path / "data")
    config = tiny_config(monitor={"every": 2, "keep": keep})
    worker = replace(local_worker(tmp_path), evaluations=Kept(tmp_path / "kept"))
    train_text(config, Task.SUMMARY, tmp_path / "data", tmp_path / "model", worker)
    manifest = load_text_model(tmp_path / "model").manifest
    assert [item["step"] for item in manifest["evaluations"]] == [2, 4]
    step = 2 if keep == "best" else 4
    assert manifest.get("kept_step") == (2 if keep == "best" else None)
    assert artefact_hash(tmp_path / "model") == artefact_hash(tmp_path / "kept" / f"step-{step}")


def test_validation_cases_that_cannot_be_scored_stop_the_run_before_training(dataset: Path, tmp_path: Path) -> None:
    def train(**changes: object) -> None:
        config = tiny_config(monitor={"every": 2}, **changes)
        train_text(config, Task.PLAN, tmp_path / "data", tmp_path / "model", local_worker(tmp_path))

    with_validation(dataset, tmp_path / "data")
    with pytest.raises(DataError, match=r"validation case\(s\) a-01.*max_new_tokens=2040"):
        train(max_new_tokens=2040)
    with pytest.raises(DataError, match="no validation plan has the plan's form"):
        train()


def with_validation(source: Path, out: Path) -> None:
    """The data set with its test cases as validation cases."""
    shutil.copytree(source, out)
    lists = read_json(out / "a" / "dataset.json")
    write_json(out / "a" / "dataset.json", {**lists, "validation": lists["test"], "test": []})


def test_notes_that_correct_a_side_are_drawn_more_often_for_s_alone() -> None:
    cases = [
        TextCase(case_id=f"c{number}", centre=centre, split=Split.TRAIN, plan=None, note=note)
        for number, (centre, note) in enumerate(
            [("a", "Left breast."), ("a", "Right breast. The side is wrong, left is meant."), ("b", "Right breast.")]
        )
    ]
    often, equal = TextConfig(corrected_side_weight=4), TextConfig.model_validate({"centres": {"weights": "equal"}})
    assert draw_weights(cases, Task.SUMMARY, often) == (1, 4, 1)
    assert draw_weights(cases, Task.PLAN, often) == ()
    assert draw_weights(cases[::2], Task.SUMMARY, often) == ()
    assert draw_weights(cases, Task.SUMMARY, TextConfig()) == ()
    assert draw_weights(cases, Task.SUMMARY, equal) == (0.5, 0.5, 1)
    assert draw_weights(cases, Task.SUMMARY, equal.updated(corrected_side_weight=4)) == (0.5, 2, 1)


def test_mirrored_texts_are_rows_of_their_own(dataset: Path, tmp_path: Path) -> None:
    train_text(tiny_config(mirrored=True, steps=1), Task.PLAN, dataset, tmp_path / "model", local_worker(tmp_path))
    manifest = load_text_model(tmp_path / "model").manifest
    assert manifest["lengths"]["rows"] == 24
    assert sum(manifest["cases"].values()) == 12
