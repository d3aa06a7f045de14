from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rollama.core.errors import CheckpointError, ConfigError, DataError
from rollama.core.registry import Task
from rollama.language.base import load_base, load_tokenizer
from rollama.text.forms import Generation
from rollama.text.generate import TextModel
from rollama.text.trainer import train_text
from tests.chain.tiny import make_models
from tests.text.conftest import local_worker, record, tiny_config

TEXTS = [record(number)["summary"] + " More." * (number % 3) for number in range(7)]


@pytest.fixture(scope="module")
def model(trained: Callable[[Task], Path]) -> TextModel:
    return TextModel.load({task: trained(task) for task in Task})


def test_greedy_equals_transformers() -> None:
    base, _, _ = load_base("tiny")
    model = TextModel.zero_shot("tiny", max_new_tokens=9)
    for text, found in zip(TEXTS, model.generate(Task.SUMMARY, TEXTS), strict=True):
        prompt, stop = model.prompt(Task.SUMMARY, text), sorted(model.stop_tokens(Task.SUMMARY))
        with torch.inference_mode():
            output = base.generate(
                torch.tensor([prompt]), max_new_tokens=9, do_sample=False, eos_token_id=stop, pad_token_id=0
            )
        written = output[0, len(prompt) :].tolist()
        assert found == Generation(model.decode([token for token in written if token not in stop]), written[-1] in stop)


def test_rows_that_finish_leave_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, taken = TextModel.load({Task.SUMMARY: make_models(tmp_path) / "s"}), list[list[int]]()

    def decode(tokens: list[int]) -> str:
        taken.append(tokens)
        return str(tokens)

    monkeypatch.setattr(model, "decode", decode)
    free = model.generate(Task.SUMMARY, TEXTS)
    assert len({answer.text for answer in free}) > 1
    stop = taken[0][3]  # of the shortest text
    monkeypatch.setattr(model, "stop_tokens", lambda task: {stop})
    model.batch = 3  # the others join as these leave
    for whole, found in zip(free, model.generate(Task.SUMMARY, TEXTS), strict=True):
        tokens = json.loads(whole.text)
        cut = tokens[: tokens.index(stop)] if stop in tokens else tokens
        assert found == Generation(str(cut), stop in tokens)


def test_what_was_answered_before_changes_no_answer(model: TextModel) -> None:
    first = [model.generate(Task.PLAN, [text])[0] for text in TEXTS]
    assert model.phrases[Task.PLAN].seen
    assert [model.generate(Task.PLAN, [text])[0] for text in TEXTS * 2] == first * 2


def test_order_and_neighbours_do_not_matter(model: TextModel) -> None:
    together = model.generate(Task.PLAN, TEXTS)
    assert [model.generate(Task.PLAN, [text])[0] for text in TEXTS] == together
    assert model.generate(Task.PLAN, TEXTS[::-1]) == together[::-1]


def test_each_task_uses_its_adapter(model: TextModel, trained: Callable[[Task], Path]) -> None:
    both = {task: model.generate(task, TEXTS) for task in Task}
    for task in Task:
        assert TextModel.load({task: trained(task)}).generate(task, TEXTS) == both[task]


def test_progress_counts_texts(model: TextModel) -> None:
    seen: list[tuple[int, int]] = []
    model.generate(Task.SUMMARY, TEXTS, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(count, len(TEXTS)) for count in range(1, len(TEXTS) + 1)]


def test_cut_answer_is_not_finished(model: TextModel) -> None:
    assert model.generate(Task.PLAN, ["x"], max_new_tokens=1)[0].finished is False


def test_text_beyond_the_context_is_named_by_index(model: TextModel) -> None:
    with pytest.raises(DataError, match=r"text 1 for task s has \d+ tokens") as caught:
        model.generate(Task.SUMMARY, ["short", "secret " * 2000])
    assert "secret" not in str(caught.value)
    with pytest.raises(DataError, match="text 0 for task s is empty"):
        model.generate(Task.SUMMARY, [" "])


def test_missing_and_swapped_models(trained: Callable[[Task], Path]) -> None:
    with pytest.raises(ConfigError, match="no model for task s"):
        TextModel.load({Task.PLAN: trained(Task.PLAN)}).generate(Task.SUMMARY, ["x"])
    with pytest.raises(CheckpointError, match="is a model for task p"):
        TextModel.load({Task.SUMMARY: trained(Task.PLAN)})


def test_zero_shot_answers_without_training() -> None:
    model = TextModel.zero_shot("tiny", max_new_tokens=3)
    answers = model.generate(Task.SUMMARY, TEXTS[:2])
    assert len(answers) == 2 and all(isinstance(answer, Generation) for answer in answers)


def test_wholly_trained_model(dataset: Path, tmp_path: Path) -> None:
    config = tiny_config(lora={"enabled": False}, steps=60, lr=0.01, method="plain")
    train_text(config, Task.PLAN, dataset, tmp_path / "model", local_worker(tmp_path))
    model = TextModel.load({Task.PLAN: tmp_path / "model"})
    case = record(2)
    assert model.generate(Task.PLAN, [case["summary"]])[0] == Generation(case["plan_text"], True)
    assert load_tokenizer("tiny").eos_token_id == 2
