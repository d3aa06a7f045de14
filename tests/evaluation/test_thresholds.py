"""Nothing passes that was not measured, and the lower end of the interval is what counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rollama.cli.check import NotMet
from rollama.cli.main import app
from rollama.core.config import build
from rollama.core.errors import ConfigError, DataError
from rollama.evaluation.thresholds import Thresholds, check, parse_thresholds, read_thresholds

ROOT = Path(__file__).resolve().parents[2]


def figure(mean: float | None, low: float | None, high: float | None, n: int) -> dict[str, Any]:
    return {"mean": mean, "low": low, "high": high, "n": n, "excluded": 0}


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    row = {"task": "seg", "system": "SEG++", "source": "reference", "split": "external", "centre": "all", "n": 30}
    metrics = {
        "dice": figure(0.90, 0.84, 0.95, 30),
        "wrong_side": figure(0.0, 0.0, 0.12, 30),
        "hd": figure(1, None, None, 1),
    }
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({"tables": [{**row, "metrics": metrics}]}))
    return path


def held(evaluation: Path, **rule: Any) -> tuple[bool, str]:
    rules = build(Thresholds, {"rules": [{"task": "seg", "metric": "dice", **rule}]}, "test")
    (finding,) = check(json.loads(evaluation.read_text()), rules)
    return finding.held, finding.remark


def test_the_lower_end_is_judged_unless_told_otherwise(evaluation: Path) -> None:
    assert held(evaluation, at_least=0.84)[0]
    assert not held(evaluation, at_least=0.85)[0]
    assert held(evaluation, at_least=0.85, bound="mean")[0]
    assert not held(evaluation, metric="wrong_side", at_most=0.1)[0]
    assert held(evaluation, metric="wrong_side", at_most=0.0, bound="mean")[0]


@pytest.mark.parametrize(
    ("rule", "remark"),
    [
        ({"at_least": 0.1, "centre": "nowhere"}, "was not evaluated"),
        ({"at_least": 0.1, "split": "test"}, "was not evaluated"),
        ({"at_least": 0.1, "metric": "dize"}, "measured are dice, wrong_side, hd"),
        ({"at_least": 0.1, "metric": "hd"}, "1 cases are too few"),
        ({"at_least": 0.1, "min_cases": 31}, "at least 31 cases"),
    ],
)
def test_what_was_not_measured_does_not_pass(evaluation: Path, rule: dict[str, Any], remark: str) -> None:
    result, text = held(evaluation, **rule)
    assert not result
    assert remark in text


def test_rules_are_strict(evaluation: Path) -> None:
    with pytest.raises(ConfigError, match="one of at_least and at_most"):
        held(evaluation, at_least=0.1, at_most=0.2)
    with pytest.raises(ConfigError, match="did you mean 'at_least'"):
        held(evaluation, at_lest=0.1)
    with pytest.raises(DataError, match=r"x\.json: holds no evaluation"):
        check([], build(Thresholds, {"rules": [{"task": "s", "metric": "rougeL", "at_least": 0}]}, "test"), "x.json")
    with pytest.raises(ConfigError, match="--require"):
        parse_thresholds("rules:")
    assert parse_thresholds('{"rules": [{"task": "s", "metric": "rougeL", "at_least": 0}]}').rules[0].judged == "low"


def test_the_bundled_file_is_valid_and_the_exit_code_speaks(evaluation: Path, tmp_path: Path) -> None:
    assert read_thresholds(ROOT / "infra/ci/thresholds.yaml").rules
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules: [{task: seg, metric: dice, at_least: 0.8}]\n")
    assert CliRunner().invoke(app, ["check", str(evaluation.parent), str(rules)]).exit_code == 0
    rules.write_text("rules: [{task: seg, metric: dice, at_least: 0.9}]\n")
    result = CliRunner().invoke(app, ["check", str(evaluation), str(rules)])
    assert isinstance(result.exception, NotMet)
    assert result.exception.exit_code == 3
    assert "1 of 1 required values are not reached: seg dice" in str(result.exception)
    assert "NO" in result.output
