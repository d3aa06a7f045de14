"""Text that does not say which target it means is refused, and the message never repeats it."""

from __future__ import annotations

import pytest

from rollama.core.errors import DataError
from rollama.data.plan import Guideline, Level, Side, Volume, render_plan
from rollama.evaluation.edits import NONSENSE, misspelt, reworded
from rollama.segmentation.config import TextForm
from rollama.segmentation.readable import read_target
from rollama.segmentation.text_encoder import encoder_text
from tests.segmentation.conftest import make_plan

PLAN = make_plan(Side.LEFT).model_copy(update={"levels": (Level.L1, Level.IMN), "guideline": Guideline.ESTRO})


LEFT, RIGHT, BREAST, WALL = Side.LEFT, Side.RIGHT, Volume.BREAST, Volume.CHEST_WALL
ALL = (Level.L1, Level.L2, Level.L3, Level.L4)


@pytest.mark.parametrize(("text", "side", "volume", "levels"), [
    ("rt chest wall and L4", RIGHT, WALL, (Level.L4,)),
    ("PMRT, Left", LEFT, WALL, ()),
    ("Left whole breast RT, 40.05 Gy in 15 fractions.", LEFT, BREAST, ()),
    ("Adjuvant RT to the left chest wall with levels 1-4 and IMN.", LEFT, WALL, (*ALL, Level.IMN)),
    ("Right breast, L1 to L3, interpectoral nodes, internal mammary chain", RIGHT, BREAST,
     (Level.L1, Level.L2, Level.L3, Level.INTERPECTORAL, Level.IMN)),
    ("CTVp_breast_L, CTVn_L2_L", LEFT, BREAST, (Level.L2,)),
    ("Left chestwall, no boost, L3", LEFT, WALL, (Level.L3,)),
    ("Side: left. Volumes: left breast. Nodes: L1.", LEFT, BREAST, (Level.L1,)),
    (render_plan(PLAN).replace("40.05 Gy", "forty Gy"), LEFT, BREAST, (Level.L1, Level.IMN)),
])  # fmt: skip
def test_texts_that_say_it(text: str, side: Side, volume: Volume, levels: tuple[Level, ...]) -> None:
    found = read_target(text)
    assert (found.side, found.volume, found.levels) == (side, volume, levels)


@pytest.mark.parametrize("key", range(8))
def test_other_words_for_a_plan_mean_its_target(key: int) -> None:
    levels = tuple(level for place, level in enumerate(Level) if (key >> place % 3) & 1)
    plan = PLAN.model_copy(update={
        "levels": levels, "volume": list(Volume)[key % 2], "guideline": [None, *Guideline][key % 3]
    })  # fmt: skip
    texts = (*reworded(plan), misspelt(render_plan(plan), str(key)))
    for found in map(read_target, texts):
        assert found == (plan.side, plan.volume, plan.levels, plan.guideline)
        assert encoder_text(found, "", TextForm.TARGET) == encoder_text(plan, "", TextForm.TARGET)


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
    ("left breast with L1, L2, but not L3", "not treated"),
    ("left breast, all levels without IMN", "not treated"),
    ("left breast, ESTRO or RTOG", "follows one of them"),
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
        read_target(text)
    assert not text.strip() or text not in str(caught.value)
