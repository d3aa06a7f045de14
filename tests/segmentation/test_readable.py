"""Text that does not say which target it means is refused, and the message never repeats it."""

from __future__ import annotations

import pytest

from rollama.core.errors import DataError
from rollama.data.plan import Guideline, Level, Side, render_plan
from rollama.evaluation.edits import NONSENSE, reworded
from rollama.segmentation.readable import check_text
from tests.segmentation.conftest import make_plan

PLAN = make_plan(Side.LEFT).model_copy(update={"levels": (Level.L1, Level.IMN), "guideline": Guideline.ESTRO})


@pytest.mark.parametrize("text", [
    render_plan(PLAN), *reworded(PLAN), *reworded(PLAN.mirrored()), "rt chest wall and L4", "PMRT, Left",
    "Left whole breast RT, 40.05 Gy in 15 fractions.", "Adjuvant RT to the left chest wall.", "CTVp_breast_L and nodes",
    "Left chestwall", "Side: left. Volumes: left breast. Nodes: L1.",
    render_plan(PLAN).replace("40.05 Gy", "forty Gy"),  # another field is wrong: still says which target
])  # fmt: skip
def test_texts_that_say_it(text: str) -> None:
    check_text(text)


@pytest.mark.parametrize(("text", "reason"), [
    ("", "empty"),
    (" \n", "empty"),
    (NONSENSE, "no side"),
    ("whole breast with L1", "no side"),
    ("Whole breast RT, 40 Gy in 15 fractions.", "no side"),
    ("Left breast cancer, no radiotherapy indicated.", "nothing is treated"),
    ("no radiotherapy of the left breast", "nothing is treated"),
    ("left breast cancer", "no target volume"),
    ("left breast and left chest wall", "two target volumes"),
    ("Side: left. Surgery: breast conserving. Volumes: none. Nodes: none.", "Volumes: none"),
    ("Side: left. Surgery: mastectomy. Volumes: none. Nodes: L3 left chest wall.", "Volumes: none"),
    ("left and right breast", "both sides"),
    ("irradiate the left", "no target volume"),
    ("breast-conserving surgery on the left", "no target volume"),
    (render_plan(PLAN).replace("Side: left", "Side: upper"), "'Side:'"),
    (render_plan(PLAN).replace("Volumes: whole breast", "Volumes: lung"), "'Volumes:'"),
    (render_plan(PLAN).replace("Nodes: L1, IMN", "Nodes: L1 right"), "both sides"),
])  # fmt: skip
def test_texts_that_do_not(text: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        check_text(text)
    assert not text.strip() or text not in str(caught.value)
