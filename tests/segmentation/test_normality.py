"""What training cases look like is learned with their plans; another anatomy is far away."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rollama.core.seeding import numpy_generator
from rollama.data.plan import Side, Volume
from rollama.data.volumes import Volume as Ct
from rollama.segmentation.normality import SIZES, Example, Normality, describe, plan_vector
from tests.segmentation.conftest import make_plan

BREAST = make_plan(Side.LEFT)
WALL = BREAST.model_copy(update={"volume": Volume.CHEST_WALL})


def cases(count: int, name: str) -> list[Example]:
    """Small targets go with chest walls; the two centres differ in the first number of the scan."""
    rng = numpy_generator("normality", name)
    rows = []
    for index in range(count):
        plan = WALL if index % 3 == 0 else BREAST.mirrored() if index % 2 else BREAST
        values = {key: rng.normal(0, 0.1, size) for key, size in SIZES.items()}
        values["target"][0] += 0.2 if plan is WALL else 1.0
        centre = "ab"[index // 3 % 2]
        values["scan"][0] += 2.0 if centre == "a" else 0.0
        rows.append(Example(values, plan, centre))
    return rows


def ct(hu: float) -> Ct:
    array = np.full((12, 10, 6), -1000, np.float32)
    array[2:-2, 2:-2] = hu
    return Ct(array, np.diag([20.0, 20.0, 20.0, 1.0]))


def test_score_is_within_one_for_the_usual_and_large_for_others() -> None:
    normality = Normality()
    assert not normality.known
    assert math.isnan(normality.score(cases(1, "x")[0].values, BREAST))
    normality.fit(cases(160, "training"))
    usual = [normality.score(case.values, case.plan) for case in cases(40, "test")]
    assert np.mean(np.array(usual) > 1) < 0.11
    breast = cases(2, "test")[1]
    assert normality.score(breast.values, WALL) > 2 > 1 > normality.score(breast.values, BREAST)
    for name, place in (("scan", 3), ("target", 2)):
        odd = {**breast.values, name: breast.values[name] + 3 * np.eye(SIZES[name])[place]}
        assert normality.score(odd, BREAST) > 3


def test_another_centre_is_not_yet_unusual() -> None:
    examples = cases(160, "training")
    normality = Normality()
    normality.fit(examples)
    third = {**examples[1].values, "scan": examples[1].values["scan"].copy()}
    third["scan"][0] = -1.0  # beside 0 and 2
    assert normality.score(third, BREAST) < 1
    third["scan"][1] += 2.0  # in which the centres agree
    assert normality.score(third, BREAST) > 1


def test_sides_look_alike_and_free_text_has_no_plan() -> None:
    assert np.array_equal(plan_vector(BREAST), plan_vector(BREAST.mirrored()))


def test_a_text_that_is_no_plan_is_judged_by_the_scan_alone() -> None:
    examples = cases(160, "training")
    normality = Normality()
    normality.fit(examples)
    usual = [normality.score(case.values, None) for case in cases(40, "test")]
    assert np.mean(np.array(usual) > 1) < 0.15
    values = dict(cases(2, "test")[1].values)
    values["target"] = values["target"] + 9
    assert normality.score(values, None) < 1
    values["scan"] = values["scan"] + 9
    assert normality.score(values, None) > 3


@pytest.mark.parametrize("name", list(SIZES))
def test_numbers_that_never_change_are_no_obstacle(name: str) -> None:
    examples = [
        Example({**case.values, name: np.zeros(SIZES[name])}, case.plan, case.centre) for case in cases(40, "x")
    ]
    normality = Normality()
    normality.fit(examples)
    assert normality.known
    assert all(math.isfinite(normality.score(case.values, case.plan)) for case in examples)
    few = Normality()
    few.fit(examples[:7])
    assert not few.known


def test_the_numbers_tell_scan_and_target() -> None:
    probability = np.zeros((12, 10, 6), np.float32)
    soft = describe(ct(40), probability, 0.5)
    assert soft["scan"].shape == (SIZES["scan"],)
    assert soft["scan"][0] == pytest.approx(
        np.log(8 * 6 * 0.04), abs=0.4
    )  # 8 x 6 voxels of 4 cm^2, rounded at the ends
    assert soft["scan"][3] == pytest.approx(1.4)
    assert soft["scan"][2] == 0
    assert not soft["target"].any()
    bone = describe(ct(700), probability, 0.5)
    assert bone["scan"][2] == pytest.approx(1.0)
    beside = ct(40)
    beside.array[0, 0] = 60
    more = describe(beside, probability, 0.5)["scan"][4] ** 2 - soft["scan"][4] ** 2
    assert more == pytest.approx(2 * 0.008)  # two voxels a third, in litres
    probability[4:6, 4:7, 2:4] = 0.9
    target = describe(ct(40), probability, 0.5)["target"]
    assert target == pytest.approx([np.log1p(12 * 8), np.log(60), 0.4])
