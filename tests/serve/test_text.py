"""The running text batch: everybody's own answer, nobody's fault on others, and no work for those who left."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rollama.core.errors import DataError
from rollama.core.registry import Decoding, Task
from rollama.data.plan import parse_plan, render_plan
from rollama.text.adapters import read_artefacts
from rollama.text.continuous import Decoder
from rollama.text.generate import TextModel
from serve.release import Release
from serve.text import Batcher, TextDeployment
from tests.chain.tiny import make_models

TEXTS = ["Left breast.", "A long note about the right breast, pT2 N1. " * 5, "Right.", "None."]


@pytest.fixture(scope="module", params=[False, True], ids=["one look", "two looks"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TextModel:
    folder = make_models(tmp_path_factory.mktemp("models"), mirrored_look=request.param)
    model = TextModel.load({Task.SUMMARY: folder / "s", Task.PLAN: folder / "p"})
    if request.param:  # the tiny model's answers are cut at the limit; so both looks have an ending
        ends = set(range(0, int(model.models[Task.SUMMARY].config.vocab_size), 3))
        model.stop_tokens = lambda task: ends  # type: ignore[method-assign]
    return model


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
    expected = {text: model.generate(Task.PLAN, [text]) for text in TEXTS[:3]}

    def generate(task: Task, texts: list[str]) -> Any:
        if texts == [TEXTS[1]]:
            raise MemoryError
        return expected[texts[0]]

    def step(self: Decoder) -> Any:
        raise RuntimeError("of no text in particular")

    monkeypatch.setattr(Decoder, "step", step)
    monkeypatch.setattr(model, "generate", generate)
    found = ask(batcher, *((Task.PLAN, text) for text in TEXTS[:3]))
    assert isinstance(found[1], MemoryError) and found[::2] == [expected[TEXTS[n]][0] for n in (0, 2)]
    monkeypatch.undo()
    assert ask(batcher, (Task.PLAN, TEXTS[0])) == expected[TEXTS[0]]


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
    model.models[Task.PLAN] = TextModel.zero_shot("tiny").models[Task.PLAN]
    batcher = Batcher(model, 16_384)
    assert batcher.decoder is None
    assert ask(batcher, (Task.PLAN, "a"), (Task.SUMMARY, "b")) == [
        model.generate(task, [text])[0] for task, text in ((Task.PLAN, "a"), (Task.SUMMARY, "b"))
    ]
    batcher.close()


def test_a_second_release_answers_beside_the_first_on_one_base(model: TextModel, tmp_path: Path) -> None:
    folders = {Task.SUMMARY: "s", Task.PLAN: "p"}
    made = make_models(tmp_path, first_seed=10)
    alone = TextModel.load({task: made / name for task, name in folders.items()})
    batcher = Batcher(model, 16_384)
    before = set(model.shared_base().adapters)

    async def run() -> list[Any]:
        other = await batcher.adopt(read_artefacts({task: made / name for task, name in folders.items()}))
        assert other.shared_base() is model.shared_base()
        end = time.time() + 60
        asked = [batcher.generate(task, text, end, which) for task, text in ALL for which in (model, other)]
        waiting = [asyncio.create_task(one) for one in asked]
        await asyncio.sleep(0.05)
        await batcher.forget(other)  # while its texts are being written: it goes when they are
        return await asyncio.gather(*waiting)

    found = asyncio.run(run())
    batcher.close()
    for (task, text), first, second in zip(ALL, found[::2], found[1::2], strict=True):
        assert first == model.generate(task, [text])[0]
        assert second == alone.generate(task, [text])[0]
    assert any(first != second for first, second in zip(found[::2], found[1::2], strict=True))
    assert set(model.shared_base().adapters) == before, "the adapters of the second release are gone"


def test_artefacts_of_another_base_are_not_put_on_this_one(
    batcher: Batcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_models(tmp_path)
    artefacts = read_artefacts({Task.SUMMARY: made / "s"})
    stranger = replace(artefacts[Task.SUMMARY], base={"name": "other", "weights_hash": "0", "tokenizer_hash": "0"})
    assert asyncio.run(batcher.adopt({Task.SUMMARY: stranger})) is None


def test_plans_are_held_to_their_form_where_the_setting_says_so(tmp_path: Path, model: TextModel) -> None:
    folder = make_models(tmp_path)

    async def run() -> tuple[Any, Any, Any]:
        deployment = TextDeployment(16_384, Decoding.CONSTRAINED)
        release = Release.of_folder(folder)
        await deployment.reconfigure(release.model_dump())
        ((batcher, held),) = deployment.releases.held.values()
        held.limits[Task.PLAN] = 160
        plan, summary = await asyncio.gather(
            *(deployment.generate(task, TEXTS[0], time.time() + 60, release) for task in (Task.PLAN, Task.SUMMARY))
        )
        held.limits[Task.PLAN] = 12
        cut = await deployment.generate(Task.PLAN, TEXTS[0], time.time() + 60, release)
        await asyncio.to_thread(batcher.close)
        return plan, summary, cut

    plan, summary, cut = asyncio.run(run())
    assert plan.finished and render_plan(parse_plan(plan.text)) == plan.text
    assert summary == model.generate(Task.SUMMARY, [TEXTS[0]])[0]
    assert not cut.finished and plan.text.startswith(cut.text)
