"""The running text batch: everybody's own answer, nobody's fault on others, and no work for those who left."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rollama.core.errors import DataError
from rollama.core.registry import Decoding, Task
from rollama.data.plan import parse_plan, render_plan
from rollama.text.continuous import Decoder
from rollama.text.generate import TextModel
from serve.text import Batcher, TextDeployment
from tests.chain.tiny import make_models

TEXTS = ["Left breast.", "A long note about the right breast, pT2 N1. " * 5, "Right.", "None."]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TextModel:
    folder = make_models(tmp_path_factory.mktemp("models"))
    return TextModel.load({Task.SUMMARY: folder / "s", Task.PLAN: folder / "p"})


@pytest.fixture
def batcher(model: TextModel) -> Iterator[Batcher]:
    made = Batcher(model, 16_384)
    yield made
    made.close()


def ask(batcher: Batcher, *asked: tuple[Task, str], seconds: float = 60.0) -> list[Any]:
    async def run() -> list[Any]:
        end = time.time() + seconds
        return await asyncio.gather(*(batcher.generate(*item, end) for item in asked), return_exceptions=True)

    return asyncio.run(run())


ALL = [(task, text) for text in TEXTS for task in Task]


@pytest.mark.parametrize(("tokens", "rows"), [(16_384, 16), (300, 16), (16_384, 2)])
def test_everybody_gets_the_answer_that_they_get_alone(model: TextModel, tokens: int, rows: int) -> None:
    batcher = Batcher(model, tokens, rows)
    assert ask(batcher, *ALL) == [model.generate(task, [text])[0] for task, text in ALL]
    batcher.close()
    assert not batcher.running and not batcher.held


def test_a_text_that_cannot_be_answered_is_only_its_own_fault(batcher: Batcher, model: TextModel) -> None:
    found = ask(batcher, (Task.PLAN, TEXTS[0]), (Task.PLAN, "word " * 9000), (Task.SUMMARY, " "), (Task.PLAN, TEXTS[2]))
    assert [isinstance(item, DataError) for item in found] == [False, True, True, False]
    assert found[0] == model.generate(Task.PLAN, [TEXTS[0]])[0]


def test_a_failing_batch_is_tried_one_by_one(
    batcher: Batcher, model: TextModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = model.generate

    def generate(task: Task, texts: list[str]) -> Any:
        if texts == [TEXTS[1]]:
            raise MemoryError
        return real(task, texts)

    def step(self: Decoder) -> Any:
        raise RuntimeError("of no text in particular")

    monkeypatch.setattr(Decoder, "step", step)
    monkeypatch.setattr(model, "generate", generate)
    found = ask(batcher, *((Task.PLAN, text) for text in TEXTS[:3]))
    assert isinstance(found[1], MemoryError) and found[::2] == [real(Task.PLAN, [TEXTS[n]])[0] for n in (0, 2)]
    monkeypatch.undo()
    assert ask(batcher, (Task.PLAN, TEXTS[0])) == [real(Task.PLAN, [TEXTS[0]])[0]]


def test_who_left_or_is_too_late_costs_nothing(
    batcher: Batcher, model: TextModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go_on = threading.Event(), threading.Event()
    real = Decoder.step

    def step(self: Decoder) -> Any:
        entered.set()
        go_on.wait(10)
        return real(self)

    monkeypatch.setattr(Decoder, "step", step)

    async def run() -> list[Any]:
        end = time.time() + 60
        stays, leaves = (asyncio.create_task(batcher.generate(Task.PLAN, text, end)) for text in TEXTS[:2])
        await asyncio.to_thread(entered.wait, 10)
        late = asyncio.create_task(batcher.generate(Task.PLAN, TEXTS[2], time.time() - 1))
        leaves.cancel()
        await asyncio.sleep(0)
        go_on.set()
        return await asyncio.gather(stays, leaves, late, return_exceptions=True)

    stayed, left, late = asyncio.run(run())
    assert stayed == model.generate(Task.PLAN, [TEXTS[0]])[0]
    assert isinstance(left, asyncio.CancelledError) and isinstance(late, TimeoutError)
    assert not batcher.running and not batcher.held


def test_wholly_trained_models_are_asked_one_after_the_other() -> None:
    model = TextModel.zero_shot("tiny", max_new_tokens=4)
    batcher = Batcher(model, 16_384)
    assert batcher.decoder is None
    assert ask(batcher, (Task.PLAN, "a"), (Task.SUMMARY, "b")) == [
        model.generate(task, [text])[0] for task, text in ((Task.PLAN, "a"), (Task.SUMMARY, "b"))
    ]
    batcher.close()


def test_plans_are_held_to_their_form_where_the_setting_says_so(tmp_path: Path, model: TextModel) -> None:
    folder = make_models(tmp_path)
    deployment = TextDeployment(folder, 16_384, Decoding.CONSTRAINED)
    deployment.batcher.model.limits[Task.PLAN] = 160
    plan, summary = ask(deployment.batcher, (Task.PLAN, TEXTS[0]), (Task.SUMMARY, TEXTS[0]))
    assert plan.finished and render_plan(parse_plan(plan.text)) == plan.text
    assert summary == model.generate(Task.SUMMARY, [TEXTS[0]])[0]
    deployment.batcher.model.limits[Task.PLAN] = 12
    (cut,) = ask(deployment.batcher, (Task.PLAN, TEXTS[0]))
    assert not cut.finished and plan.text.startswith(cut.text)
    deployment.batcher.close()
