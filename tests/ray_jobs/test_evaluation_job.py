"""The evaluation as Ray tasks on tiny models: complete, reusable, and its errors reach the driver."""

from __future__ import annotations

import shutil

import pytest

from ray_jobs.evaluate import evaluate
from rollama.core.errors import CheckpointError
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


def test_a_damaged_model_is_named(cohort, models, tmp_path):
    broken = tmp_path / "models"
    shutil.copytree(models, broken)
    weights = broken / "seg" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        evaluate(broken, cohort, tmp_path / "out", limit=1, zero_shot=False)
