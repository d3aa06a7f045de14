"""The order of the models and the rules between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rollama.chain.inputs import PlanSource
from rollama.chain.run import Chain, model_folders, side_of
from rollama.core.errors import CheckpointError, DataError
from rollama.core.registry import Task
from rollama.data.plan import Plan, Side, render_plan
from rollama.data.sides import other_side
from rollama.data.volumes import Volume, to_canonical
from rollama.segmentation.outline import Outline
from tests.chain.conftest import Answer


def test_note_goes_through_all_three(ct: Volume, text: Any, segmenter: Any, plan: Plan) -> None:
    seen: list[tuple[str, int, int]] = []
    result = Chain(text, segmenter, {"seg": "abc"}).run(ct, note=" A note. ", progress=lambda *step: seen.append(step))
    assert text.asked == [(Task.SUMMARY, "A note."), (Task.PLAN, "Left breast cancer, pT1 N1.")]
    assert segmenter.asked == [render_plan(plan)]
    assert result.summary == "Left breast cancer, pT1 N1."
    assert result.plan == plan
    assert result.source is PlanSource.NOTE
    assert result.mask.shape == ct.shape
    assert result.warnings == ()
    assert list(result.timings) == ["summary", "plan", "target"]
    assert [stage for stage, _, _ in seen] == ["summary", "plan", "target"]
    assert "pT1" not in repr(result)


def test_summary_skips_s_and_plan_skips_both(ct: Volume, text: Any, segmenter: Any, plan: Plan) -> None:
    result = Chain(text, segmenter).run(ct, summary="Left, pT1.")
    assert text.asked == [(Task.PLAN, "Left, pT1.")]
    assert result.summary == "Left, pT1."
    result = Chain(None, segmenter).run(ct, plan_text=render_plan(plan.mirrored()))
    assert result.summary is None
    assert side_of(result.mask, ct) is Side.RIGHT


def test_plan_that_does_not_parse_is_kept_and_flagged(ct: Volume, text: Any, segmenter: Any) -> None:
    text.answers[Task.PLAN] = Answer("Irradiate the left breast.", finished=False)
    result = Chain(text, segmenter).run(ct, note="A note.")
    assert result.plan is None
    assert result.plan_text == "Irradiate the left breast."
    assert segmenter.asked == ["Irradiate the left breast."]
    assert [w for w in result.warnings if "does not parse" in w]
    assert [w for w in result.warnings if "cut off" in w]


def test_plan_without_target_gives_an_empty_mask(ct: Volume, segmenter: Any, no_target: Plan) -> None:
    result = Chain(None, segmenter).run(ct, plan_text=render_plan(no_target))
    assert not result.mask.any()
    assert segmenter.asked == []
    assert "no target" in result.warnings[0]


def test_target_on_the_wrong_side_is_flagged(ct: Volume, segmenter: Any, plan: Plan) -> None:
    class Crossed:
        def outline(self, volume: Volume, plan_text: str, progress: Any = None, keep_probability: bool = False) -> Any:
            return segmenter.outline(volume, plan_text.replace("left", "right"))

    result = Chain(None, Crossed()).run(ct, plan_text=render_plan(plan))
    assert "other side" in result.warnings[0]


def test_an_unusual_ct_is_flagged(ct: Volume, segmenter: Any, plan: Plan) -> None:
    assert not Chain(None, segmenter).run(ct, plan_text=render_plan(plan)).warnings
    segmenter.unusual = 1.44
    (warning,) = Chain(None, segmenter).run(ct, plan_text=render_plan(plan)).warnings
    assert "distance 1.4" in warning


def test_a_generated_text_that_is_refused_leaves_summary_and_plan(ct: Volume, text: Any) -> None:
    class Refusing:
        def outline(self, volume: Volume, plan_text: str, progress: Any = None, keep_probability: bool = False) -> Any:
            return Outline(np.zeros(volume.shape, np.uint8), refused="the plan names no side")

    text.answers[Task.PLAN] = Answer("Irradiate.")
    result = Chain(text, Refusing()).run(ct, note="A note.")
    assert result.plan_text == "Irradiate."
    assert not result.mask.any()
    assert [w for w in result.warnings if "no target was outlined: the plan names no side" in w]
    assert not [w for w in result.warnings if "although" in w]


def test_side_is_the_patients_whatever_the_storage_order(ct: Volume) -> None:
    mask = np.zeros(ct.shape, dtype=np.uint8)
    mask[2:8] = 1  # stored right to left: low indices have positive x, the patient's right
    assert side_of(mask, ct) is Side.RIGHT
    canonical = to_canonical(ct)
    assert side_of(mask[::-1], canonical) is Side.RIGHT


def test_missing_models_and_bad_answers(ct: Volume, text: Any, segmenter: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"s: no such model; train it: 'rollama train s'"):
        model_folders(tmp_path)
    with pytest.raises(CheckpointError, match="needs model 'p'"):
        Chain(None, segmenter).run(ct, summary="Left.")
    text.answers[Task.SUMMARY] = type(text.answers[Task.SUMMARY])(" ")
    with pytest.raises(DataError, match="summary came out empty"):
        Chain(text, segmenter).run(ct, note="A note.")


def test_a_plan_of_the_other_side_than_its_summary_is_flagged(
    ct: Volume, text: Any, segmenter: Any, plan: Plan
) -> None:
    text.answers[Task.PLAN] = Answer(render_plan(plan.mirrored()))
    (warning,) = Chain(text, segmenter).run(ct, note="A note.").warnings
    assert warning == "side: the plan says right, the summary left; check both"


def test_a_note_that_corrects_its_own_side_is_flagged(ct: Volume, text: Any, segmenter: Any) -> None:
    (warning,) = Chain(text, segmenter).run(ct, note="Referral: right. The side in the referral is wrong.").warnings
    assert warning.startswith("the note says that a side in it is wrong")
    assert not Chain(text, segmenter).run(ct, summary="The side in the referral is wrong.").warnings


def test_a_summary_whose_side_a_second_look_doubts_is_flagged(ct: Volume, text: Any, segmenter: Any) -> None:
    summary = text.answers[Task.SUMMARY].text
    text.answers[Task.SUMMARY] = Answer(summary, True, other_side(summary))
    (warning,) = Chain(text, segmenter).run(ct, note="A note.").warnings
    assert "disagree about the summary on its side" in warning and summary not in warning
