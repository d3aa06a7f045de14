"""One batch for both tasks: whoever joins or leaves when, everybody's answer is the one that it gets alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rollama.core.errors import ConfigError, DataError
from rollama.core.registry import Task
from rollama.text.continuous import Decoder
from rollama.text.forms import Generation
from rollama.text.generate import TextModel
from rollama.text.lean import Lean
from rollama.text.phrases import Phrases
from tests.chain.tiny import make_models

TEXTS = [
    "Left breast.",
    "A long note about the right breast, pT2 N1, conserving surgery, clear margins. " * 4,
    "Right.",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TextModel:
    folder = make_models(tmp_path_factory.mktemp("models"))
    return TextModel.load({Task.SUMMARY: folder / "s", Task.PLAN: folder / "p"})


def alone(model: TextModel) -> dict[tuple[Task, int], Generation]:
    return {(task, n): model.generate(task, [text])[0] for task in Task for n, text in enumerate(TEXTS)}


def finish(decoder: Decoder, found: dict[object, Generation]) -> None:
    for _ in range(100):
        found |= decoder.step()
        if not decoder.rows and not decoder.waiting:
            return
    raise AssertionError("never ends")


def test_both_tasks_in_one_batch_equal_each_alone(model: TextModel) -> None:
    expected = alone(model)
    assert len({answer.text for answer in expected.values()}) >= 5  # adapters and texts differ
    assert expected[Task.SUMMARY, 0] != expected[Task.PLAN, 0]
    decoder, found = Decoder(model), {}
    for task, number in expected:
        decoder.add((task, number), task, TEXTS[number])
    finish(decoder, found)
    assert found == expected


@pytest.mark.parametrize("every", [1, 3, 5])
def test_joining_a_running_batch_changes_nothing(model: TextModel, every: int) -> None:
    expected = alone(model)
    decoder, found = Decoder(model), {}
    for task, number in reversed(expected):
        decoder.add((task, number), task, TEXTS[number])
        for _ in range(every):
            found |= decoder.step()
    finish(decoder, found)
    assert found == expected
    decoder.add("again", Task.PLAN, TEXTS[0])  # an empty batch is as good as new
    finish(decoder, found)
    assert found["again"] == expected[Task.PLAN, 0]


def test_leaving_early_changes_nothing_for_the_others(model: TextModel) -> None:
    expected = alone(model)
    decoder, found = Decoder(model), {}
    decoder.add("long", Task.SUMMARY, TEXTS[1])
    decoder.add("short", Task.PLAN, TEXTS[0])
    decoder.add("never", Task.PLAN, TEXTS[2])
    decoder.remove("never")
    size = decoder.size()
    assert decoder.size([10]) == size // 2 * 3 and decoder.size([2 * size]) == 6 * size
    decoder.step()
    decoder.remove("long")
    assert decoder.size() < size / 2  # its length went with it
    assert len(decoder.slots.lengths) == 1
    finish(decoder, found)
    assert found == {"short": expected[Task.PLAN, 0]}


def test_refusals(model: TextModel, trained: Callable[[Task], Path]) -> None:
    decoder = Decoder(model)
    with pytest.raises(DataError, match="is empty"):
        decoder.add("a", Task.PLAN, "  ")
    with pytest.raises(DataError, match="tokens"):
        decoder.cost(Task.PLAN, "word " * 9000)
    assert sum(decoder.cost(Task.PLAN, "a")) > model.limits[Task.PLAN]
    assert decoder.step() == {} and decoder.size() == 0
    whole = TextModel.zero_shot("tiny")
    whole.models[Task.PLAN] = TextModel.zero_shot("tiny").models[Task.PLAN]
    with pytest.raises(ConfigError, match="only adapters"):
        Decoder(whole)
    with pytest.raises(ConfigError, match="no model for task"):
        Decoder(TextModel.load({Task.PLAN: trained(Task.PLAN)})).add("a", Task.SUMMARY, "text")


def test_guesses_save_passes_and_change_nothing(model: TextModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows with many, few, wrong and no guesses side by side."""
    expected = alone(model)
    passes = []
    real = Lean.states

    def states(self: Lean, tokens: Any, *rest: Any, **more: Any) -> Any:
        passes.append([len(row) for row in tokens])
        return real(self, tokens, *rest, **more)

    monkeypatch.setattr(Lean, "states", states)

    def run(most: int) -> int:
        passes.clear()
        decoder, found = Decoder(model), {}
        decoder.most = most
        for task, number in expected:
            decoder.add((task, number), task, TEXTS[number])
        finish(decoder, found)
        assert found == expected
        return len(passes)

    monkeypatch.setattr(model, "phrases", {task: Phrases() for task in Task})
    plain = run(64)
    for number, row in enumerate(written(model, expected)):
        for _ in range(3):
            model.phrases[row[0]].learn([*row[1][: 5 + number], 7, *row[1][5 + number :]])
    assert run(64) < plain
    assert any(len(set(lengths)) > 1 for lengths in passes[len(expected) :])
    assert run(1) == plain and all(set(lengths) == {1} for lengths in passes[len(expected) :])


def written(model: TextModel, expected: dict[tuple[Task, int], Generation]) -> list[tuple[Task, list[int]]]:
    """The tokens of all answers."""
    decoder, found = Decoder(model), dict[object, Generation]()
    for task, number in expected:
        decoder.add((task, number), task, TEXTS[number])
    rows = list(decoder.waiting)
    finish(decoder, found)
    return [(task, row.written) for (task, _), row in zip(expected, rows, strict=True)]
