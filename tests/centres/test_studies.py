"""Leave-one-centre-out, few-shot and their tables: which trainings, and what the report says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rollama.centres.scoring import markdown, write_study
from rollama.centres.studies import curve, draw_curve, few_shot, folds
from rollama.core.config import build
from rollama.core.errors import ConfigError
from rollama.core.files import read_json
from rollama.evaluation.run import REFERENCE, Record
from rollama.text.config import TextConfig
from rollama.training.config import CentresMode
from tests.training.test_centres import data


def text(**centres: Any) -> TextConfig:
    return build(TextConfig, {"base": "tiny", "dtype": "float32", "centres": centres}, "test")


def test_every_centre_with_training_cases_is_left_out_once() -> None:
    found = folds(text(mode="leave-one-centre-out", weights={"a": 2.0}), data(), "p")  # type: ignore[arg-type]
    assert [(fold.centre, fold.name, fold.config.centres.leave_out) for fold in found] == [
        ("a", "p-without-a", ("a",)), ("b", "p-without-b", ("b",)), ("c", "p-without-c", ("c",)),
    ]  # fmt: skip
    assert {fold.config.centres.mode for fold in found} == {CentresMode.POOLED}
    assert found[1].config.centres.weights == {"a": 2.0}
    only = folds(text(only=["a", "b"]), data(), "p")  # type: ignore[arg-type]
    assert [fold.config.centres.only for fold in only] == [("b",), ("a",)]
    with pytest.raises(ConfigError, match="needs two centres with training cases, found"):
        folds(text(leave_out=["a", "b"]), data(), "p")  # type: ignore[arg-type]


def test_few_shot_trainings_name_centre_and_number() -> None:
    found = few_shot(text(leave_out=["b"]), "b", [10, 1, 3, 3], "few-p")
    assert [(fold.name, fold.config.centres.cases) for fold in found] == [
        ("few-p-b-1", 1), ("few-p-b-3", 3), ("few-p-b-10", 10),
    ]  # fmt: skip
    assert all(fold.config.centres.only == ("b",) and not fold.config.centres.leave_out for fold in found)
    with pytest.raises(ConfigError, match="--cases"):
        few_shot(text(), "b", [0], "x")


def records() -> list[Record]:
    return [
        Record(
            f"{centre}{i}", centre, "test", "p", system, REFERENCE, {"fields_mean": value + i / 100, "rougeL": value}
        )
        for system, value in (("before", 0.2), ("3 cases", 0.5))
        for centre in ("a", "b")
        for i in range(3)
    ]


def test_the_report_has_a_cell_a_centre_and_system(tmp_path: Path) -> None:
    rows = write_study(tmp_path, "p", records(), {"dataset": "0"}, True, "p: adaptation")
    shown = markdown("p", rows, "p: adaptation", True)
    assert shown == (tmp_path / "centres.md").read_text()
    assert "Synthetic patients" in shown and "| | a (test) | b (test) | all (test) |" in shown
    (line,) = [line for line in shown.split("## rougeL")[0].splitlines() if line.startswith("| 3 cases")]
    assert line.count("n=3") == 2 and line.count("n=6") == 1 and "0.510 [" in line
    assert read_json(tmp_path / "centres.json")["tables"] == rows


def test_the_curve_is_over_all_held_out_cases(tmp_path: Path) -> None:
    found = curve("p", records(), {"before": 0, "3 cases": 3})
    assert found[0].mean == pytest.approx(0.21) and found[3].n == 6
    draw_curve(tmp_path / "curve.png", "p", "b", found, synthetic=True)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_one_training_does_not_pretend_to_be_several() -> None:
    from rollama.cli.train import What, _check_mode

    _check_mode(What.P, text())
    with pytest.raises(ConfigError, match="use rollama centres train p"):
        _check_mode(What.P, text(mode="leave-one-centre-out"))
    with pytest.raises(ConfigError, match="rollama federation serve"):
        _check_mode(What.P, text(mode="federated"))


@pytest.mark.parametrize("verb", ["train", "adapt", "compare", "measure"])
def test_the_verbs_explain_themselves(verb: str) -> None:
    from rollama.cli.centres import app

    assert CliRunner().invoke(app, [verb, "--help"]).exit_code == 0
