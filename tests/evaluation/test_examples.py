"""Held-out patients through the whole chain: files, examples for the report, and reuse by models."""

from __future__ import annotations

import pytest

from rollama.cohort.make import make_cohort
from rollama.evaluation.examples import Folders, predict_examples
from rollama.presets import load_preset
from tests.chain.tiny import make_models

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Folders:
    found = Folders(tmp_path_factory.mktemp("workspace"))
    make_cohort(found.cohort, load_preset("tiny", ["cohort.external=9"]).cohort, None)
    make_models(found.models)
    return found


def test_patients_of_both_splits_are_written_shown_and_reused(folders):
    ticks, warnings = [], []
    examples = predict_examples(folders, lambda done, total: ticks.append((done, total)), warnings.append)
    assert warnings == []
    assert ticks[-1] == (len(examples), len(examples))
    assert {example.split for example in examples} == {"external", "test"}
    assert any(not example.true_mask.any() for example in examples), "a patient without a target is among them"
    for example in examples:
        written = {path.name for path in (folders.predictions / example.case_id).iterdir()}
        assert written >= {"summary.txt", "plan.txt", "target.nii.gz", "overlay.png", "manifest.json"}
        assert example.predicted_mask.shape == example.volume.shape == example.true_mask.shape
        assert example.summary and example.plan and example.note and example.reference_plan
    before = {path: path.stat().st_mtime_ns for path in folders.predictions.glob("*/manifest.json")}
    again = predict_examples(folders, lambda done, total: None, warnings.append)
    assert [example.case_id for example in again] == [example.case_id for example in examples]
    assert {path: path.stat().st_mtime_ns for path in folders.predictions.glob("*/manifest.json")} == before


def test_a_patient_for_whom_nothing_usable_is_written_is_left_out_aloud(folders, monkeypatch, tmp_path):
    from rollama.chain.run import Chain
    from rollama.core.errors import DataError

    def refuse(*_: object, **__: object) -> None:
        raise DataError("the summary came out empty")

    monkeypatch.setattr(Chain, "run", refuse)
    monkeypatch.setattr(Folders, "predictions", property(lambda _: tmp_path / "predictions"))
    warnings: list[str] = []
    assert predict_examples(folders, lambda done, total: None, warnings.append) == []
    assert warnings and all("came out empty" in line for line in warnings)
