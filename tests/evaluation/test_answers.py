"""The right answer to another plan, against what the cohort makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rollama.cohort import regions
from rollama.cohort.config import CohortConfig
from rollama.cohort.make import make_case
from rollama.cohort.scan import Item, Volumes
from rollama.core.config import build
from rollama.core.errors import DataError
from rollama.data.case import Case, Split
from rollama.data.dataset import DatasetInfo
from rollama.data.parts import LEVELS
from rollama.data.plan import Guideline, parse_plan
from rollama.evaluation.answers import Answers

CONFIG = build(CohortConfig, {"size": "xs"}, "test")


def case_of(centre: str, split: Split, index: int) -> tuple[Case, Volumes]:
    record, volumes = make_case(CONFIG, Item(centre, split, index))
    values: dict[str, Any] = {name: record[name] for name in ("case_id", "note", "summary", "plan_text")}
    plan = parse_plan(record["plan_text"])
    case = Case(
        centre=centre, split=split, plan=plan, image=Path("x"), target=Path("y"), spacing=(12, 12, 12), **values
    )
    return case, volumes


@pytest.fixture(scope="module")
def treated() -> tuple[Case, Volumes]:
    """An external case whose plan has nodes."""
    for index in range(3):
        case, volumes = case_of("lakeside", Split.EXTERNAL, index)
        if case.plan is not None and case.plan.levels:
            return case, volumes
    raise AssertionError("the xs cohort has an external case with nodes")


def test_the_own_plans_answer_is_the_label(treated: tuple[Case, Volumes], monkeypatch: pytest.MonkeyPatch) -> None:
    case, volumes = treated
    assert case.plan is not None
    assert np.array_equal(Answers(CONFIG).target(case, case.plan), volumes.target > 0)
    assert Answers(CONFIG).know(case, volumes.target) and not Answers(CONFIG).know(case, volumes.target[::-1])
    monkeypatch.setattr(regions, "SLAB_VOXELS", 40 * 32 * 5)  # five slices at a time, the last slab smaller
    assert np.array_equal(Answers(CONFIG).target(case, case.plan), volumes.target > 0)


def test_another_plans_answer(treated: tuple[Case, Volumes]) -> None:
    case, volumes = treated
    assert case.plan is not None
    found = Answers(CONFIG)
    fewer = case.plan.model_copy(update={"levels": case.plan.levels[1:]})
    gone = (volumes.target > 0) & ~found.target(case, fewer)
    assert gone.any() and (volumes.parts[gone] == LEVELS[case.plan.levels[0]]).all()
    mirrored = found.target(case, case.plan.mirrored())
    assert mirrored.any() and not (mirrored & (volumes.target > 0)).any()
    no_boost = case.plan.model_copy(update={"boost": None})
    assert found.target(case, no_boost) is found.target(case, case.plan)  # a boost changes no union: asked once


def test_levels_of_both_sides(treated: tuple[Case, Volumes]) -> None:
    case, volumes = treated
    assert case.plan is not None
    levels = Answers(CONFIG).levels(case, case.plan.guideline or Guideline.ESTRO)
    assert len(levels) == 12 and all(mask.shape == volumes.target.shape for mask in levels.values())
    for level in case.plan.levels:
        drawn = volumes.parts == LEVELS[level]
        assert drawn.any() and not (drawn & ~levels[case.plan.side, level]).any()


def test_only_breast_cohorts_have_answers(treated: tuple[Case, Volumes]) -> None:
    def info(**generator: Any) -> DatasetInfo:
        return DatasetInfo(
            name="n", version="1", synthetic=True, label="CTV", notice="n", centres=("a",), content_hash="d",
            generator=generator,
        )  # fmt: skip

    assert Answers.of(info()) is None and Answers.of(info(room="elsewhere")) is None
    assert Answers.of(info(room="rollama.cohort", config={"site": "prostate", "size": "xs"})) is None
    found = Answers.of(info(room="rollama.cohort", config=CONFIG.model_dump(mode="json")))
    assert found is not None and found.config == CONFIG
    case, _ = treated
    assert case.plan is not None
    with pytest.raises(DataError, match="not a case of this cohort"):
        found.target(case.model_copy(update={"case_id": "foreign"}), case.plan)
    with pytest.raises(DataError, match="its plan is not"):
        found.target(case.model_copy(update={"plan": case.plan.mirrored()}), case.plan)


def test_one_case_is_remembered(treated: tuple[Case, Volumes]) -> None:
    case, _ = treated
    other, _ = case_of("northgate", Split.TEST, 0)
    assert case.plan is not None and other.plan is not None
    found = Answers(CONFIG)
    first = found.target(case, case.plan)
    assert found.target(case, case.plan) is first
    found.target(other, other.plan)
    again = found.target(case, case.plan)
    assert again is not first and np.array_equal(again, first)


def test_rules_that_are_not_here_leave_the_answers_out(caplog: pytest.LogCaptureFixture) -> None:
    values = CONFIG.model_dump(mode="json") | {"rules": "gone.yaml"}
    info = DatasetInfo(
        name="n", version="1", synthetic=True, label="CTV", notice="n", centres=("a",), content_hash="d",
        generator={"room": "rollama.cohort", "config": values},
    )  # fmt: skip
    assert Answers.of(info) is None and "gone.yaml" in caplog.text
