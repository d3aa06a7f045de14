"""Which centres are trained on, and how often each is drawn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rollama.core.errors import ConfigError, DataError
from rollama.data.case import Split, TextCase
from rollama.data.dataset import DatasetInfo, Opened
from rollama.training.centres import case_counts, restricted, row_weights
from rollama.training.config import CentresSection
from rollama.training.sampler import AGAIN, BatchOrder, Draw

SIZES = {"a": 12, "b": 4, "c": 8}


def data() -> Opened[TextCase]:
    cases = [
        TextCase(case_id=f"{centre}-{split[0]}{number:02d}", centre=centre, split=split, plan=None)
        for centre, size in SIZES.items()
        for split in (Split.TRAIN, Split.VALIDATION, Split.TEST)
        for number in range(size)
    ]
    info = DatasetInfo(
        name="x", version="1", synthetic=True, label="none", notice="n", centres=tuple(SIZES), content_hash="0"
    )
    return Opened(Path("x"), info, tuple(cases))


def chosen(seed: int = 0, **values: Any) -> Opened[TextCase]:
    return restricted(data(), CentresSection.model_validate(values), seed)


def counts(found: Opened[TextCase], split: Split) -> dict[str, int]:
    return case_counts(found.select(split))


def test_left_out_centres_decide_nothing_but_stay_for_testing() -> None:
    for found in (chosen(leave_out=["b"]), chosen(only=["a", "c"])):
        assert counts(found, Split.TRAIN) == counts(found, Split.VALIDATION) == {"a": 12, "c": 8}
        assert counts(found, Split.TEST) == SIZES
    assert chosen().cases == data().cases


def test_few_shot_cases_are_nested_and_follow_the_seed() -> None:
    ids = [{case.case_id for case in chosen(only=["a"], cases=n).select(Split.TRAIN)} for n in (1, 3, 10, 99)]
    assert [len(found) for found in ids] == [1, 3, 10, 12]
    assert ids[0] < ids[1] < ids[2] < ids[3]
    assert ids[1] != {case.case_id for case in chosen(seed=1, only=["a"], cases=3).select(Split.TRAIN)}


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        ({"only": ["d"]}, ConfigError, r"centres.only: no centre d; there are a, b, c"),
        ({"weights": {"d": 2}}, ConfigError, r"centres.weights: no centre d"),
        ({"leave_out": ["a", "b", "c"]}, DataError, r"no case in the training split with"),
    ],
)
def test_wrong_choices_are_told(values: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        chosen(**values)


def test_a_centre_is_not_both_taken_and_left_out() -> None:
    with pytest.raises(ValueError, match="both name a"):
        CentresSection(only=("a",), leave_out=("a",))


def drawn(order: BatchOrder, centres: list[str], epochs: int) -> Counter[str]:
    return Counter(centres[draw.row] for step in range(order.rows * epochs // order.batch) for draw in order.step(step))


def test_equal_weights_draw_every_centre_alike() -> None:
    cases = data().select(Split.TRAIN)
    section = CentresSection(weights="equal")
    order = BatchOrder(24, 8, 0, row_weights(cases, section))
    found = drawn(order, [case.centre for case in cases], 30)
    assert sum(found.values()) == 720
    assert all(abs(count - 240) < 12 for count in found.values())


def test_weights_are_relative_to_one() -> None:
    cases = data().select(Split.TRAIN)
    order = BatchOrder(24, 8, 0, row_weights(cases, CentresSection(weights={"b": 4.0})))
    found = drawn(order, [case.centre for case in cases], 40)
    shares = {"a": 12 / 36, "b": 16 / 36, "c": 8 / 36}
    assert all(abs(found[centre] / 960 - share) < 0.01 for centre, share in shares.items())


def test_nothing_is_weighted_without_a_reason() -> None:
    cases = data().select(Split.TRAIN, centre="a")
    assert row_weights(cases, CentresSection(weights="equal")) == ()
    assert row_weights(cases, CentresSection(weights={"b": 2.0})) == ()


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_weighted_draws_depend_on_the_step_alone(world: int) -> None:
    order = BatchOrder(5, 4, 3, (1.0, 1.0, 1.0, 1.0, 6.0))
    for step in (7, 0, 7):
        shards = [draw for rank in range(world) for draw in order.shard(step, rank, world)]
        key = lambda draw: (draw.epoch, draw.row)  # noqa: E731
        assert sorted(shards, key=key) == sorted(BatchOrder(5, 4, 3, order.weights).step(step), key=key)


def test_a_row_drawn_again_in_an_epoch_has_a_key_of_its_own() -> None:
    order = BatchOrder(5, 5, 0, (1.0, 1.0, 1.0, 1.0, 6.0))
    draws = [draw for step in range(10) for draw in order.step(step)]
    assert len(set(draws)) == len(draws)
    assert any(draw.epoch >= AGAIN for draw in draws)
    assert {draw.epoch % AGAIN for draw in order.step(3)} == {3}
    assert Draw(3, 4) in draws


def test_weights_must_fit_the_rows() -> None:
    with pytest.raises(ValueError, match="positive weight for each of 3 rows"):
        BatchOrder(3, 2, 0, (1.0, 2.0))
    with pytest.raises(ValueError, match="positive weight"):
        BatchOrder(2, 2, 0, (1.0, 0.0))
