"""Validation during training: which cases, which weights are kept, when it stops, and that resuming changes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rollama.core.errors import DataError
from rollama.data.case import Case, Split
from rollama.data.dataset import open_dataset
from rollama.data.plan import Side
from rollama.segmentation import validation
from rollama.segmentation.checkpoint import build_network
from rollama.segmentation.config import SegConfig, ValidationSection
from rollama.segmentation.engine import DdpEngine
from rollama.segmentation.trainer import train_segmentation
from rollama.segmentation.validation import THRESHOLDS, Validation, validation_cases
from rollama.training.metrics_log import read_metrics
from rollama.training.worker import Worker
from tests.segmentation.conftest import make_plan

CPU = torch.device("cpu")
MakeWorker = Callable[..., Worker]


def case(name: str, centre: str) -> Case:
    return Case(
        case_id=name, centre=centre, split=Split.VALIDATION, note="n", summary="s", plan=make_plan(Side.LEFT),
        plan_text="p", image=Path("x"), target=Path("y"), spacing=(1, 1, 1),
    )  # fmt: skip


def test_cases_are_taken_from_all_centres_in_turn() -> None:
    every = {
        "a": [case(f"a{i}", "a") for i in range(5)],
        "b": [case("b0", "b")],
        "c": [case("c0", "c"), case("c1", "c")],
    }
    nothing = make_plan(Side.LEFT).model_copy(update={"volume": None, "dose": None, "technique": None})
    every["b"].insert(0, case("b-none", "b").model_copy(update={"plan": nothing}))
    data: Any = SimpleNamespace(
        info=SimpleNamespace(centres=tuple(every)), select=lambda split, centre: every[centre] if split else ()
    )
    assert [found.case_id for found in validation_cases(data, 5)] == ["a0", "b0", "c0", "a1", "c1"]
    assert len(validation_cases(data, 100)) == 8


def test_centres_weigh_alike(config: SegConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    network, _ = build_network(config, CPU)
    cases = [case("a0", "a"), case("a1", "a"), case("a2", "a"), case("b0", "b")]
    monkeypatch.setattr(
        validation,
        "case_dice",
        lambda _n, some, *_: [dict.fromkeys(THRESHOLDS, 0.0 if c.centre == "a" else 1.0) for c in some],
    )
    metrics: dict[str, float] = {}
    checked = Validation(DdpEngine(network, config, 0, 1, CPU), ValidationSection(every=1), cases, 4, CPU)
    checked.after_step(1, metrics)
    assert metrics == {"validation_dice": 0.5} and network.training


def test_the_best_weights_are_kept_and_patience_ends_a_run(config: SegConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    network, _ = build_network(config, CPU)
    engine = DdpEngine(network, config, 0, 1, CPU)
    figures = iter([0.2, 0.7, 0.5, 0.7])  # 0.7 is more than itself rounded to float32
    monkeypatch.setattr(Validation, "_measure", lambda _: next(figures))
    checked = Validation(engine, ValidationSection(every=2, patience=2), [case("a0", "a")], 100, CPU)
    name, weights = next(iter(engine.parameters.items()))
    for step in range(1, 9):
        assert checked.stopped is False
        with torch.no_grad():
            weights.fill_(float(step))
        checked.after_step(step, {})
    assert checked.stopped
    assert checked.restore_best() == 4 and engine.parameters[name].detach().flatten()[0].item() == 4.0
    last = Validation(engine, ValidationSection(every=2, keep="last"), [case("a0", "a")], 100, CPU)
    assert last.restore_best() is None


def test_without_validation_cases_it_is_refused(config: SegConfig) -> None:
    network, _ = build_network(config, CPU)
    with pytest.raises(DataError, match="there are none"):
        Validation(DdpEngine(network, config, 0, 1, CPU), ValidationSection(every=1), [], 4, CPU)


def test_a_resumed_run_keeps_what_the_straight_one_keeps(
    config: SegConfig, toy_dataset: Path, make_worker: MakeWorker, tmp_path: Path
) -> None:
    kept: dict[int, Path] = {}

    def report(step: int, _metrics: object, folder: Path | None) -> None:
        if folder is not None:
            kept[step] = shutil.copytree(folder, tmp_path / f"kept-{step}")

    config = config.updated(validation={"every": 1, "patience": 3}, steps=6, lr=0.05)  # gets worse and better
    straight = make_worker("straight", report=report)
    train_segmentation(config, toy_dataset, tmp_path / "a", straight)
    rows = read_metrics(straight.metrics_path)
    figures = [row["validation_dice"] for row in rows]
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    best = max(range(len(figures)), key=lambda step: (figures[step], -step)) + 1
    assert manifest["metrics"]["kept_step"] == best
    stored = load_file(kept[2] / "model.safetensors")
    assert stored["extra/seen"][0] == pytest.approx(max(figures[:2]), abs=1e-4)
    again = make_worker("again", resume=kept[2])
    train_segmentation(config, toy_dataset, tmp_path / "b", again)
    assert read_metrics(again.metrics_path)[-1]["step"] == rows[-1]["step"]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


def test_the_validation_split_is_what_is_measured(toy_dataset: Path) -> None:
    found = validation_cases(open_dataset(toy_dataset), 40)
    assert {item.split for item in found} == {Split.VALIDATION} and len(found) == 2
