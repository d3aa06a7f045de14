"""The evaluation as Ray tasks on tiny models: complete, reusable, and its errors reach the driver."""

from __future__ import annotations

import json
import shutil

import pytest

from ray_jobs.evaluate import evaluate
from ray_jobs.evaluate_remote import evaluate_remote
from rollama.core.errors import CheckpointError
from rollama.data.store import Kind, push
from rollama.evaluation.counterfactual import ALL_EDITS
from rollama.evaluation.jobs import Part
from tests.chain.tiny import make_models

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("models"))


def test_every_link_is_scored_and_a_second_run_reuses_the_predictions(cohort, models, tmp_path):
    seen = []
    found = evaluate(models, cohort, tmp_path, limit=1, progress=lambda share, note: seen.append(share))
    kinds = {(row["task"], row["system"], row["source"]) for row in found["tables"]}
    assert {("s", "RO-LLaMA", "reference"), ("p", "RO-LLaMA", "generated"), ("seg", "SEG++", "generated")} <= kinds
    assert {("s", "zero-shot base", "reference"), ("p", "most frequent", "reference")} <= kinds
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert "| S: note to summary | ROUGE-L |" in (tmp_path / "evaluation.md").read_text()
    before = (tmp_path / "cases.jsonl").read_text()
    evaluate(models, cohort, tmp_path, limit=1)
    assert (tmp_path / "cases.jsonl").read_text() == before


def test_segmentation_alone_needs_no_text_model(cohort, models, tmp_path):
    shutil.copytree(models / "seg", tmp_path / "models" / "seg")
    found = evaluate(tmp_path / "models", cohort, tmp_path / "out", limit=1, only=Part.SEG)
    kinds = {(row["task"], row["source"]) for row in found["tables"]}
    assert kinds == {("seg", "reference"), ("side-swap", "mirrored")}
    (row, *_) = [row for row in found["tables"] if row["task"] == "seg" and row["centre"] == "all"]
    assert row["metrics"]["levels_left_out"]["n"] > 0  # the answers of the cohort are known
    found = evaluate(tmp_path / "models", cohort, tmp_path / "out", limit=1, only=Part.SEG, counterfactual=True)
    edits = {row["source"] for row in found["tables"] if row["task"] == "counterfactual"}
    assert {"other side", "no target", "other dose", "reworded 1", "nonsense", ALL_EDITS} <= edits
    assert "Same CT, edited plan" in (tmp_path / "out" / "evaluation.md").read_text()
    with pytest.raises(CheckpointError, match="no trained model there"):
        evaluate(tmp_path / "models", cohort, tmp_path / "out", limit=1)


def test_a_damaged_model_is_named(cohort, models, tmp_path):
    broken = tmp_path / "models"
    shutil.copytree(models, broken)
    weights = broken / "seg" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        evaluate(broken, cohort, tmp_path / "out", limit=1, zero_shot=False)


def test_models_behind_pointers_are_scored_alike_and_the_results_are_published(cohort, models, tmp_path):
    work = tmp_path / "work"
    (work / "models").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"models/s\.json: no trained model there; submit train s first"):
        evaluate_remote(str(work), str(cohort), limit=1, zero_shot=0)
    for name in ("s", "p", "seg"):
        reference = push(models / name, Kind.MODEL, str(work / "store"))
        (work / "models" / f"{name}.json").write_text(json.dumps({"reference": str(reference), "config_hash": name}))
    dataset = push(cohort, Kind.DATASET, str(work / "store"))
    found = evaluate_remote(str(work), str(dataset), limit=1, zero_shot=0)
    expected = evaluate(models, cohort, tmp_path / "here", limit=1, zero_shot=0)
    assert found["tables"] == expected["tables"]
    published = work / "evaluation"
    assert json.loads((published / "evaluation.json").read_text())["tables"] == found["tables"]
    assert (published / "cases.jsonl").read_text() == (tmp_path / "here" / "cases.jsonl").read_text()
