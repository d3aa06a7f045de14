"""A plan is looked for on its side only, and never in less than a window."""

from __future__ import annotations

import numpy as np

from rollama.data.body import Body
from rollama.data.plan import Level, Plan, Side
from rollama.data.transforms import Prepared
from rollama.segmentation.region import LEAST_CASES, Reach, body_region, plan_region
from tests.segmentation.conftest import make_plan

SHAPE = (100, 80, 50)
SPACING = (2.0, 2.0, 4.0)
BODY = Body(np.array([50.0, 40.0, 25.0]), (10, 10, 0), (90, 70, 50))


def case(plan: Plan, first: int, last: int) -> tuple[Plan, Prepared]:
    target = np.zeros(SHAPE, np.uint8)
    target[first:last, 20:30, 10:20] = 1
    return plan, Prepared(np.zeros(SHAPE, np.float16), target, -BODY.centre * SPACING)


def reach() -> Reach:
    left, right = make_plan(Side.LEFT), make_plan(Side.RIGHT)
    cases = [case(left, 20, 40)] * 12 + [case(right, 65, 85)] * 12
    return Reach.of([*cases, case(left.model_copy(update={"levels": (Level.L1,)}), 0, 100)], SPACING)


def test_boxes_are_measured_on_the_left_and_mirrored() -> None:
    found = reach()
    assert list(found.boxes) == ["without nodes"]  # one case with nodes says nothing
    assert LEAST_CASES <= 24
    left, right = (found.box(make_plan(side)) for side in (Side.LEFT, Side.RIGHT))
    assert left is not None
    assert right is not None
    # Left cases span voxels 20 to 39, that is -61 to -21 mm; right ones 65 to 84, mirrored -69 to -29.
    np.testing.assert_allclose((left[0][0], left[1][0]), (-69, -21))
    np.testing.assert_allclose((right[0][0], right[1][0]), (21, 69))
    np.testing.assert_allclose(left[0][1:], right[0][1:])
    assert Reach.read(found.boxes).boxes == found.boxes
    assert Reach.read(None).box(make_plan(Side.LEFT)) is None


def test_the_region_is_on_the_plans_side_and_at_least_a_window() -> None:
    window = (16, 16, 8)
    low, high = plan_region(BODY, reach(), make_plan(Side.LEFT), 10.0, SPACING, window, SHAPE)
    assert low[0] == 10  # 50 - 79/2, kept inside the body
    assert high[0] == 46  # 50 - 11/2, rounded outwards, and the voxel itself
    assert low[2] == 7  # 10 - 0.5 - 10/4, rounded outwards
    wide = plan_region(BODY, reach(), make_plan(Side.RIGHT), 10.0, SPACING, (80, 16, 8), SHAPE)
    assert wide[1][0] - wide[0][0] == 80


def test_free_text_and_unknown_kinds_get_the_whole_body() -> None:
    window = (16, 16, 8)
    whole = body_region(BODY, window, SHAPE)
    assert whole == (BODY.low, BODY.high)
    nodes = make_plan(Side.LEFT).model_copy(update={"levels": (Level.L1,)})
    for plan in (None, nodes):
        assert plan_region(BODY, reach(), plan, 10.0, SPACING, window, SHAPE) == whole
