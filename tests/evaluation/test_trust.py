"""Calibration and recognition of wrong anatomy, of models that are known to be good or bad at it."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rollama.data.case import Case
from rollama.data.plan import Plan
from rollama.data.volumes import Volume, read_mask
from rollama.evaluation import trust
from rollama.evaluation.phantoms import Phantom
from rollama.evaluation.report import headline_rows
from rollama.evaluation.tables import make_tables
from rollama.evaluation.trust import ALL_PHANTOMS, USUAL, evaluate_trust
from rollama.segmentation.calibration import Calibration
from tests.evaluation.test_counterfactual import SHAPE, SPACING, cases

__all__ = ["cases"]


class Model:
    """Says the truth with probability `sure`; a volume named phantom is at distance `far`, others at `near`."""

    config = SimpleNamespace(spacing=SPACING)
    threshold = 0.5
    calibration = Calibration()

    def __init__(self, every: list[Case], sure: float, near: float, far: float) -> None:
        self.targets = {case.plan_text: case for case in every}
        self.sure, self.near, self.far = sure, near, far

    def probability(self, volume: Volume, plan_text: str) -> np.ndarray:
        return (read_mask(self.targets[plan_text].target, volume) * np.float32(self.sure)).astype(np.float32)

    def unusual(self, volume: Volume, probability: np.ndarray, plan: Plan | None) -> float:
        assert plan is not None
        assert probability.shape == SHAPE
        return self.far if volume.source == "phantom" else self.near


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Any:
    def two(config: Any, chosen: list[Case], each: int) -> list[Phantom]:
        volume = Volume(np.zeros(SHAPE, np.float32), np.diag([*SPACING, 1.0]), "phantom")
        return [Phantom(kind, chosen[0], volume, chosen[0].plan_text) for kind in ("head", "abdomen")]

    monkeypatch.setattr(trust, "phantoms", two)
    return SimpleNamespace(config=None)


def test_a_model_that_knows_itself(cases: list[Case], answers: Any) -> None:
    seen: list[tuple[int, int]] = []
    model: Any = Model(cases, 1.0, 0.8, 3.0)
    records = evaluate_trust(model, cases, answers, progress=lambda *step: seen.append(step))
    usual = [record.metrics for record in records if record.source == USUAL]
    assert len(usual) == len([case for case in cases if case.plan and case.plan.has_target])
    assert all(found["calibration_error"] == pytest.approx(0, abs=1e-4) for found in usual)
    assert [found["flagged"] for found in usual] == [0.0] * len(usual)
    wrong = {record.source: record.metrics for record in records if record.source != USUAL}
    assert set(wrong) == {"head", "abdomen", ALL_PHANTOMS}
    assert all(found == {"unusual": 3.0, "flagged": 1.0, "ranked_above": 1.0} for found in wrong.values())
    assert seen[0][0] == 1
    evaluation = {"tables": make_tables(records), "comparisons": [], "dataset": {}}
    assert "AUROC against held-out cases" in {row["Metric"] for row in headline_rows(evaluation)}


def test_a_model_that_does_not(cases: list[Case], answers: Any) -> None:
    model: Any = Model(cases, 0.6, 1.2, 1.2)
    records = evaluate_trust(model, cases, answers)
    usual = next(record.metrics for record in records if record.source == USUAL)
    assert usual["calibration_error"] > 0.01  # where it says 0.6, all is target
    assert usual["flagged"] == 1.0
    assert next(r.metrics for r in records if r.source == "head")["ranked_above"] == 0.5


def test_without_answers_or_without_a_score_there_are_no_phantoms(cases: list[Case], answers: Any) -> None:
    model: Any = Model(cases, 1.0, 0.8, 3.0)
    assert {record.source for record in evaluate_trust(model, cases, None)} == {USUAL}
    model = Model(cases, 1.0, math.nan, math.nan)
    records = evaluate_trust(model, cases, answers)
    assert {record.source for record in records} == {USUAL}
    assert math.isnan(records[0].metrics["flagged"])
