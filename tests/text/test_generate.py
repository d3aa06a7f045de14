from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rollama.core.errors import CheckpointError, ConfigError, DataError
from rollama.core.registry import Task
from rollama.language.base import load_base, load_tokenizer
from rollama.text.generate import Generation, TextModel, greedy
from rollama.text.trainer import train_text
from tests.text.conftest import local_worker, record, tiny_config

TEXTS = [record(number)["summary"] + " More." * (number % 3) for number in range(7)]


@pytest.fixture(scope="module")
def model(trained: Callable[[Task], Path]) -> TextModel:
    return TextModel.load({task: trained(task) for task in Task})


def test_greedy_equals_transformers() -> None:
    base, tokenizer, _ = load_base("tiny")
    prompts = [tokenizer(text)["input_ids"] for text in TEXTS]
    found: dict[int, list[int]] = {}
    with torch.inference_mode():
        greedy(base, prompts, 9, {511}, lambda row, ids, ended: found.__setitem__(row, ids))
        for row, prompt in enumerate(prompts):
            output = base.generate(
                torch.tensor([prompt]), max_new_tokens=9, do_sample=False, eos_token_id=511, pad_token_id=0
            )
            assert found[row] == [token for token in output[0, len(prompt) :].tolist() if token != 511]


def test_rows_that_finish_leave_and_the_others_go_on() -> None:
    base, tokenizer, _ = load_base("tiny")
    prompts = [tokenizer(text)["input_ids"] for text in TEXTS]
    free: dict[int, list[int]] = {}
    stopped: dict[int, tuple[list[int], bool]] = {}
    with torch.inference_mode():
        greedy(base, prompts, 8, set(), lambda row, ids, ended: free.__setitem__(row, ids))
        stop = free[0][3]
        greedy(base, prompts, 8, {stop}, lambda row, ids, ended: stopped.__setitem__(row, (ids, ended)))
    for row, ids in free.items():
        ended = stop in ids
        assert stopped[row] == (ids[: ids.index(stop)] if ended else ids, ended)


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
