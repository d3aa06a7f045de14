"""Edits mean what their names say, and every one is valid for every plan."""

from __future__ import annotations

from itertools import product

import pytest

from rollama.core.errors import DataError
from rollama.data.plan import Dose, Guideline, Level, Plan, Side, Surgery, Technique, Volume, parse_plan, render_plan
from rollama.evaluation.edits import Edit, Expect, edits_of, misspelt, reworded, shuffled
from rollama.segmentation.readable import read_target

PLANS = [
    Plan(side=side, surgery=surgery, volume=volume, levels=levels, dose=dose, technique=technique, guideline=guideline)
    for side, (surgery, volume), levels, dose, technique, guideline in product(
        Side,
        zip(Surgery, Volume, strict=True),
        ((), (Level.L3, Level.L4), tuple(Level)),
        (Dose(gy=50, fractions=25), Dose(gy=40.05, fractions=15)),
        Technique,
        (None, Guideline.RTOG),
    )
]


def named(plan: Plan, other: Plan | None = None) -> dict[str, Edit]:
    found = edits_of(plan, "case", other)
    assert len({edit.name for edit in found}) == len(found)
    return {edit.name: edit for edit in found}


@pytest.mark.parametrize("plan", PLANS)
def test_edits_of_any_plan_are_plans_and_differ_from_it(plan: Plan) -> None:
    for edit in edits_of(plan, "case", plan.mirrored()):
        if edit.expect is Expect.CHANGE:
            assert edit.plan is not None and edit.plan != plan and parse_plan(edit.text) == edit.plan
        if edit.expect is Expect.NOTHING and not edit.name.startswith(("reworded", "misspelt")):
            assert parse_plan(edit.text) == edit.plan != plan


def test_what_changes() -> None:
    plan = PLANS[0].model_copy(update={"levels": (Level.L3, Level.L4)})
    found = named(plan, PLANS[-1])
    assert {len(edit.plan.levels) for name, edit in found.items() if name.startswith("one level") and edit.plan} == {
        1,
        3,
    }
    wall = found["breast to chest wall"].plan
    assert wall is not None and (wall.volume, wall.surgery) == (Volume.CHEST_WALL, Surgery.MASTECTOMY)
    nothing = found["no target"].plan
    assert nothing is not None and not nothing.has_target
    assert found["another patient's plan"].plan == PLANS[-1]
    assert "one level less" not in named(plan.model_copy(update={"levels": ()}))
    assert "one level more" not in named(plan.model_copy(update={"levels": tuple(Level)}))


@pytest.mark.parametrize("plan", PLANS[::5])
def test_slips_and_shuffles(plan: Plan) -> None:
    text = render_plan(plan)
    slipped = misspelt(text, "case")
    assert slipped == misspelt(text, "case")
    assert slipped != text
    changed = [(a, b) for a, b in zip(text.split(" "), slipped.split(" "), strict=True) if a != b]
    assert 1 <= len(changed) <= 3
    assert all(sorted(a) == sorted(b) and a[0] == b[0] for a, b in changed)
    assert f"Side: {plan.side}. " in slipped and f"Volumes: {plan.volume}. " in slipped
    mixed = shuffled(text, "case")
    assert mixed == shuffled(text, "case") != text
    assert sorted(mixed.split(" ")) == sorted(text.split(" "))


def test_text_that_is_no_plan_is_refused_by_the_model_and_the_rest_is_not() -> None:
    for plan in PLANS[::7]:
        for edit in edits_of(plan, str(plan.levels)):
            if edit.name == "shuffled":
                continue  # a shuffle can hit upon a plan
            if edit.expect is Expect.REFUSAL:
                with pytest.raises(DataError):
                    read_target(edit.text)
            elif edit.plan is None or render_plan(edit.plan) != edit.text:
                found = read_target(edit.text)
                assert edit.plan is not None
                assert found == (edit.plan.side, edit.plan.volume, edit.plan.levels, edit.plan.guideline)


def test_the_same_case_gets_the_same_edits() -> None:
    plan = PLANS[0].model_copy(update={"levels": tuple(Level)})
    assert edits_of(plan, "a") == edits_of(plan, "a")
    assert len({edits_of(plan, str(key))[1].text for key in range(40)}) == len(Level)


def test_rewordings_name_everything_that_decides_the_target() -> None:
    plan = PLANS[0].model_copy(update={"levels": (Level.L1, Level.IMN), "guideline": Guideline.ESTRO})
    for text in reworded(plan):
        assert all(word in text.lower() for word in ("left", "whole breast", "l1", "imn", "estro"))
    assert all("no" in text for text in reworded(PLANS[0]))
