"""The study of centres: which models stand for which row, paired differences, verdicts; equal compute."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.centres_study import Job
from benchmarks.centres_tables import (
    FEDERATED,
    LEFT_OUT,
    OWN,
    POOLED,
    averaged,
    difference,
    few_shot,
    goals,
    points,
    systems,
    values,
    verdict,
)  # fmt: skip
from benchmarks.centres_training import Setup
from rollama.core.errors import ConfigError
from rollama.evaluation.run import REFERENCE, Record
from rollama.evaluation.statistics import Estimate

CENTRES = {"a": "test", "b": "test", "far": "external"}


def records(found: dict[str, float]) -> list[Record]:
    """Two cases a centre; the second is 0.02 better."""
    return [
        Record(f"{centre}{i}", centre, split, "p", "x", REFERENCE, {"rougeL": v + i / 50, "fields_mean": v})
        for centre, split in CENTRES.items()
        if (v := found.get(centre)) is not None
        for i in range(2)
    ]


def job(kind: str, centre: str = "", cases: int = 0, seed: int = 0) -> Job:
    return Job(Path(), "p", seed, kind, centre, cases)


def study() -> dict[Job, list[Record]]:
    return {
        job("local", "a"): records({"a": 0.5, "b": 0.1, "far": 0.2}),
        job("local", "b"): records({"a": 0.2, "b": 0.6, "far": 0.4}),
        job("pooled"): records({"a": 0.8, "b": 0.8, "far": 0.7}),
        job("federated"): records({"a": 0.79, "b": 0.5, "far": 0.7}),
        job("without", "a"): records({"a": 0.4, "far": 0.6}),
        job("without", "b"): records({"b": 0.3, "far": 0.5}),
        job("few", "a", 3): records({"a": 0.45}),
        job("few", "a", 1): records({"a": 0.42}),
    }


def test_each_row_is_what_its_name_says() -> None:
    found = averaged("p", systems(study()))
    figures = {system: values(found, system, "fields_mean") for system in (OWN, POOLED, FEDERATED, LEFT_OUT)}
    assert [figures[OWN][name][0] for name in ("a0", "b0", "far0")] == pytest.approx([0.5, 0.6, 0.3])
    assert [figures[LEFT_OUT][name][0] for name in ("a1", "b1", "far1")] == pytest.approx([0.4, 0.3, 0.55])
    assert figures[FEDERATED]["b0"] == (0.5, "b") and len(figures[POOLED]) == 6
    assert list(dict.fromkeys(one.system for one in found))[:4] == [OWN, POOLED, FEDERATED, LEFT_OUT]
    rows, numbers = few_shot(study())
    assert numbers == {"before": 0, "1 case": 1, "3 cases": 3}
    assert [(system, record.case_id) for system, record in rows] == [
        ("before", "a0"), ("before", "a1"), ("before", "b0"), ("before", "b1"),
        ("1 case", "a0"), ("1 case", "a1"), ("3 cases", "a0"), ("3 cases", "a1"),
    ]  # fmt: skip


def test_seeds_are_averaged_within_a_patient() -> None:
    two = {job("pooled", seed=seed): records(dict.fromkeys(CENTRES, value)) for seed, value in ((0, 0.2), (1, 0.6))}
    found = averaged("p", systems(two))
    assert len(found) == 6 and found[0].metrics["fields_mean"] == pytest.approx(0.4)


def test_differences_are_paired_and_in_points() -> None:
    found = averaged("p", systems(study()))
    below = difference(values(found, POOLED, "rougeL"), values(found, FEDERATED, "rougeL"), ["a"])
    assert below.mean == pytest.approx(1.0) and below.low == pytest.approx(1.0) and below.n == 2
    assert points(below) == "+1.0 [+1.0, +1.0]"
    shown = goals("p", found, ["far"]).splitlines()
    rows = {line.split(" | ")[0].strip("| "): line for line in shown[: shown.index("", 3)] if line.startswith("| ")}
    assert "| yes | +29.0" in rows["a"] and "| **no** | -10.0 [-10.0, -10.0] | **no** |" in rows["b"]
    assert "+40.0" in rows["far (unseen), mean of the local-only models"]
    assert "+30.0" in rows["far (unseen), local-only b"]


@pytest.mark.parametrize(
    ("mean", "low", "high", "limit", "sign", "said"),
    [
        (1, 0, 1.5, 2, -1, "yes"), (1, 0, 3, 2, -1, "yes, not certain"), (3, 2.5, 4, 2, -1, "**no**"),
        (3, 1, 4, 2, -1, "**no**, not certain"), (1, 0.5, 2, 0, 1, "yes"), (1, -1, 2, 0, 1, "yes, not certain"),
        (-1, -2, -0.5, 0, 1, "**no**"), (-1, -2, 1, 0, 1, "**no**, not certain"),
    ],
)  # fmt: skip
def test_verdicts_say_whether_the_interval_agrees(
    mean: float, low: float, high: float, limit: float, sign: int, said: str
) -> None:
    assert verdict(Estimate(mean, low, high, 9), limit, sign) == said


def test_compute_is_equal_or_refused() -> None:
    setup = Setup("tiny", (), "unused", 20)
    for what in ("p", "seg"):
        pooled, site = setup.config(what, 3), setup.site(what, 3, "a", 4, 7)
        assert 4 * site.batch * site.steps * setup.rounds == pooled.batch * pooled.steps
        assert site.steps * setup.rounds == pooled.steps and site.part == (7, 20) and site.centres.only == ("a",)
        assert site.lr == pooled.lr and site.seed != pooled.seed
    with pytest.raises(ConfigError, match="both must divide evenly"):
        setup.site("p", 0, "a", 3, 1)
