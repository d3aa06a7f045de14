"""Compare an evaluation with required values, so that a pipeline can stop before a worse model goes further.

A rule names one row of `evaluation.json` and one metric. It holds when the chosen bound of the figure (by default the
lower end of the 95 % interval: a lucky mean on few cases does not pass) reaches the required value. A rule whose row or
metric is not there fails: nothing passes because it was not measured.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from rollama.core.config import StrictModel, build, read_yaml
from rollama.core.errors import ConfigError, DataError


class Rule(StrictModel):
    """One required value; exactly one of `at_least` and `at_most`."""

    task: Literal["s", "p", "seg"]
    metric: str = Field(description="such as rougeL, fields_mean, dice, wrong_side")
    split: Literal["test", "external"] = "external"
    centre: str = Field("all", description="a centre's name, or all of the split together")
    system: str | None = Field(None, description="default: RO-LLaMA for s and p, SEG++ for seg")
    source: Literal["reference", "generated"] = "reference"
    bound: Literal["mean", "low", "high"] | None = Field(
        None, description="default: low for at_least, high for at_most"
    )
    at_least: float | None = None
    at_most: float | None = None
    min_cases: int = Field(1, ge=1, description="fewer cases do not pass")

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give one of at_least and at_most")
        return self

    @property
    def judged(self) -> str:
        """The bound that is compared."""
        return self.bound or ("low" if self.at_least is not None else "high")

    @property
    def chosen_system(self) -> str:
        """The system whose row is looked up."""
        return self.system or ("SEG++" if self.task == "seg" else "RO-LLaMA")


class Thresholds(StrictModel):
    """A threshold file: a list of rules."""

    rules: list[Rule] = Field(min_length=1)


@dataclass(frozen=True)
class Finding:
    """What became of one rule; `value` is None when the figure is not there."""

    rule: Rule
    value: float | None
    cases: int
    held: bool
    remark: str = ""


def read_thresholds(path: Path) -> Thresholds:
    """Read a threshold file.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown or not accepted.
    """
    return build(Thresholds, read_yaml(path), str(path))


def parse_thresholds(text: str) -> Thresholds:
    """Thresholds from JSON, as a job on a cluster gets them on its command line.

    Raises:
        ConfigError: not JSON, or a key is unknown or not accepted.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ConfigError("--require: expected a YAML file or JSON with rules") from error
    return build(Thresholds, values, "--require")


def check(evaluation: Any, thresholds: Thresholds, source: str = "evaluation") -> list[Finding]:
    """Judge every rule against the content of `evaluation.json`.

    Raises:
        DataError: it is not an evaluation.
    """
    if not isinstance(evaluation, dict) or not isinstance(evaluation.get("tables"), list):
        raise DataError(f"{source}: holds no evaluation; expected what 'rollama evaluate' writes")
    return [_judge(rule, evaluation["tables"]) for rule in thresholds.rules]


def _judge(rule: Rule, tables: list[dict[str, Any]]) -> Finding:
    wanted = (rule.task, rule.chosen_system, rule.source, rule.split, rule.centre)
    row = next((row for row in tables if tuple(row[key] for key in KEYS) == wanted), None)
    if row is None:
        return Finding(rule, None, 0, held=False, remark="was not evaluated")
    figure = row["metrics"].get(rule.metric)
    if figure is None:
        return Finding(rule, None, 0, held=False, remark=f"no such metric; measured are {', '.join(row['metrics'])}")
    value, cases = figure[rule.judged], int(figure["n"])
    if value is None:
        return Finding(rule, None, cases, held=False, remark=f"{cases} cases are too few")
    if cases < rule.min_cases:
        return Finding(rule, value, cases, held=False, remark=f"needs at least {rule.min_cases} cases")
    held = value >= rule.at_least if rule.at_least is not None else value <= (rule.at_most or 0.0)
    return Finding(rule, value, cases, held)


KEYS = ("task", "system", "source", "split", "centre")
