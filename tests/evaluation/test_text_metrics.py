"""ROUGE, plan fields and baselines."""

import math

import pytest

from rollama.core.errors import DataError
from rollama.data.plan import Plan, parse_plan
from rollama.evaluation.baselines import lead_words, most_frequent, nearest
from rollama.evaluation.fields import GETTERS, compare_plans, flags, read_generated
from rollama.evaluation.rouge import rouge

TEXT = (
    "Side: left. Surgery: breast-conserving. Volumes: whole breast. Nodes: L3, L4. Boost: sequential 10 Gy in 5 "
    "fractions. Prescription: 40.05 Gy in 15 fractions. Technique: VMAT."
)


def plan(text: str = TEXT) -> Plan:
    return parse_plan(text)


def test_rouge_by_hand() -> None:
    scores = rouge("left breast cancer", "left cancer breast")
    assert scores["rouge1"] == 1.0
    assert scores["rouge2"] == 0.0
    assert scores["rougeL"] == pytest.approx(2 / 3)


def test_rouge_takes_the_reference_first_and_stems() -> None:
    assert rouge("nodes were involved", "node was involving")["rouge1"] == pytest.approx(2 / 3)


def test_empty_prediction_scores_zero() -> None:
    assert rouge("left breast", "") == {"rouge1": 0.0, "rouge2": 0.0, "rougeL": 0.0}


def test_equal_plans_are_right_in_all_fields() -> None:
    scores = compare_plans(plan(), read_generated(TEXT))
    assert scores["fields_mean"] == scores["fields_all"] == 1.0
    assert scores["unparsed"] == 0.0


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("left", "right", "side"),
        ("breast-conserving", "mastectomy", "surgery"),
        ("whole breast", "chest wall", "volumes"),
        ("L3, L4", "L4", "levels"),
        ("sequential", "simultaneous", "boost"),
        ("40.05", "50", "dose"),
        ("15 fractions", "25 fractions", "fractions"),
        ("VMAT", "3D-CRT", "technique"),
    ],
)
def test_one_wrong_field_is_that_field_only(old: str, new: str, field: str) -> None:
    scores = compare_plans(plan(), read_generated(TEXT.replace(old, new)))
    assert [name for name in GETTERS if scores[name] == 0] == [field]
    assert scores["fields_all"] == 0.0


def test_text_that_does_not_parse_is_wrong_in_every_field() -> None:
    scores = compare_plans(plan(), read_generated("Side: left. The rest follows."))
    assert all(scores[name] == 0 for name in GETTERS)
    assert scores["unparsed"] == 1.0


def test_unparsed_reference_is_excluded_not_scored() -> None:
    assert math.isnan(compare_plans(None, plan())["fields_mean"])


def test_a_wrong_side_is_unflagged_only_when_nothing_says_so() -> None:
    left, right = plan(), plan().mirrored()
    told, silent = "Left breast cancer.", "Breast cancer."
    calm = {"contradicts": 0.0, "side_doubted": 0.0, "side_unflagged": 0.0}
    assert flags(left, left, told) == calm
    assert flags(left, right, told) == {**calm, "contradicts": 1.0}
    assert flags(left, right, silent) == {**calm, "side_unflagged": 1.0}
    assert flags(left, right, silent, doubted=True) == {**calm, "side_doubted": 1.0}
    assert flags(left, right, silent, warned=True) == calm
    assert flags(right, right, told) == {**calm, "contradicts": 1.0}
    unparsed, unknown = flags(left, None, told), flags(None, left, told)
    assert math.isnan(unparsed["contradicts"]) and unparsed["side_unflagged"] == 0.0
    assert math.isnan(unknown["side_unflagged"]) and unknown["contradicts"] == 0.0


def test_lead_is_as_long_as_the_mean_summary() -> None:
    assert lead_words(["a b c d e"], ["x x", "x x x x"]) == ["a b c"]


def test_most_frequent_and_nearest() -> None:
    assert most_frequent(["p", "q", "q"]) == "q"
    answers = nearest(["tumour of the left side"], ["right side tumour", "the left side tumour"], ["R", "L"])
    assert answers == ["L"]


def test_baselines_need_training_cases() -> None:
    with pytest.raises(DataError, match="no training cases"):
        nearest(["a"], [], [])
