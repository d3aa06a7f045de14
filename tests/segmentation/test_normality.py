"""What training cases look like is learned with their plans; another anatomy is far away."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rollama.core.seeding import numpy_generator
from rollama.data.plan import Plan, Side, Volume
from rollama.data.volumes import Volume as Ct
from rollama.segmentation.normality import Normality, describe, plan_vector
from tests.segmentation.conftest import make_plan

BREAST = make_plan(Side.LEFT)
WALL = BREAST.model_copy(update={"volume": Volume.CHEST_WALL})


def cases(count: int, name: str) -> list[tuple[np.ndarray, Plan | None]]:
    """Rows of the size for one deep feature: small targets go with chest walls."""
    rng = numpy_generator("normality", name)
    size = len(describe(ct(40), np.zeros((12, 10, 6), np.float32), 0.5, [0.0]))
    rows: list[tuple[np.ndarray, Plan | None]] = []
    for index in range(count):
        plan = WALL if index % 3 == 0 else BREAST.mirrored() if index % 2 else BREAST
        values = rng.normal(0, 0.1, size)
        values[-4] += 0.2 if plan is WALL else 1.0
        rows.append((values, plan))
    return rows


def ct(hu: float) -> Ct:
    array = np.full((12, 10, 6), -1000, np.float32)
    array[2:-2, 2:-2] = hu
    return Ct(array, np.diag([20.0, 20.0, 20.0, 1.0]))


def test_score_is_near_one_for_the_usual_and_large_for_others() -> None:
    normality = Normality(1)
    assert not normality.known
    assert math.isnan(normality.score(cases(1, "x")[0][0], BREAST))
    normality.fit(cases(120, "training"), cases(40, "validation"))
    usual = [normality.score(*row) for row in cases(40, "test")]
    assert 0.8 < float(np.median(usual)) < 1.3
    assert np.mean(np.array(usual) > float(normality.limit)) < 0.15
    values, _ = cases(2, "test")[1]  # a breast-sized target
    assert normality.score(values, WALL) > float(normality.limit) > normality.score(values, BREAST)
    odd = values.copy()
    odd[3] += 5
    assert normality.score(odd, BREAST) > 3 * float(normality.limit)


def test_sides_look_alike_and_free_text_has_no_plan() -> None:
    assert np.array_equal(plan_vector(BREAST), plan_vector(BREAST.mirrored()))
    assert not plan_vector(None).any()


def test_the_numbers_tell_materials_and_target() -> None:
    probability = np.zeros((12, 10, 6), np.float32)
    soft = describe(ct(40), probability, 0.5, [7.0])
    fat = describe(ct(-100), probability, 0.5, [7.0])
    assert soft[0] == 7.0
    assert soft[1:4] == pytest.approx([2.4, 2.0, 1.2])  # 20 mm and a voxel around the body, in dm
    assert not np.array_equal(soft[4:16], fat[4:16])
    probability[4:6, 4:6, 2:4] = 0.9
    with_target = describe(ct(40), probability, 0.5, [7.0])
    assert with_target[-4] == pytest.approx(np.log1p(8 * 8 / 1000))
    assert with_target[-1] == pytest.approx(0.4)
