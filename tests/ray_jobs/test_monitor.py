"""Evaluation by generation while training goes on, on real Ray with two workers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ray_jobs.monitor import validate
from ray_jobs.remote import EVALUATIONS, evaluation_results
from ray_jobs.train_text import train_text
from rollama.core.errors import DataError
from rollama.core.files import read_json, write_json
from rollama.core.registry import Task
from rollama.core.storage import open_storage
from rollama.data.dataset import open_texts
from rollama.presets import load_preset
from rollama.text.checkpoint import load_text_model
from rollama.text.monitor import validation_cases
from rollama.training.artefact import artefact_hash

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def test_models_are_evaluated_beside_the_training_and_the_best_is_kept(cohort: Path, tmp_path: Path) -> None:
    overrides = ["p.steps=5", "p.lr=0.02", "p.monitor.every=2", "p.monitor.cases=3", "p.zero.stage=3"]
    config = load_preset("tiny", overrides).p
    train_text(config, Task.PLAN, cohort, tmp_path / "run", tmp_path / "model")
    found = evaluation_results(open_storage(tmp_path / "run"))
    assert [item["step"] for item in found] == [2, 4, 5] and {item["metric"] for item in found} == {"fields_mean"}
    best = max(found, key=lambda item: (item["value"], -item["step"]))
    folder = tmp_path / "run" / EVALUATIONS / f"step-{best['step']:06d}"
    cases = validation_cases(open_texts(cohort), 3)
    assert validate(folder, Task.PLAN, cases, config) == best["value"]
    manifest = load_text_model(tmp_path / "model").manifest
    assert manifest["kept_step"] == best["step"] and len(manifest["evaluations"]) == 3
    assert artefact_hash(tmp_path / "model") == artefact_hash(folder)
    others = [item["step"] for item in found if item["step"] != best["step"]]
    assert not any(any((tmp_path / "run" / EVALUATIONS / f"step-{step:06d}").glob("*.safetensors")) for step in others)
    assert (tmp_path / "run" / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_without_validation_cases_it_is_refused(cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(cohort, tmp_path / "cohort")
    for path in (tmp_path / "cohort").glob("*/dataset.json"):
        lists = read_json(path)
        write_json(path, {**lists, "training": lists["training"] + lists["validation"], "validation": []})
    config = load_preset("tiny", ["p.monitor.every=2"]).p
    with pytest.raises(DataError, match="validation split"):
        train_text(config, Task.PLAN, tmp_path / "cohort", tmp_path / "run", tmp_path / "model")
