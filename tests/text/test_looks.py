"""A second look at the mirrored text: when it is taken, which answer wins, and that the batch changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rollama.core.errors import ConfigError
from rollama.core.registry import Task
from rollama.data.sides import other_side
from rollama.language.base import load_base
from rollama.text.adapters import put_adapter
from rollama.text.applied import apply_again
from rollama.text.checkpoint import load_text_model
from rollama.text.continuous import Decoder
from rollama.text.forms import Generation
from rollama.text.generate import TextModel
from rollama.text.looks import log_likelihoods, other_answer, questions, settled
from tests.chain.tiny import make_models

NOTES = ["Left breast. Margins clear.", "Carcinoma of the right breast, pT2 N1. " * 3, "No side is named."]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights twice, in `once` and in `twice`, which takes the second look."""
    folder = tmp_path_factory.mktemp("models")
    make_models(folder / "once")
    make_models(folder / "twice", mirrored_look=True)
    return folder


def load(models: Path, looks: bool) -> TextModel:
    folder = models / ("twice" if looks else "once")
    return TextModel.load({Task.SUMMARY: folder / "s", Task.PLAN: folder / "p"})


def test_agreeing_looks_leave_the_answer_alone() -> None:
    own = Generation("Left breast cancer.", True)
    assert other_answer(own, Generation("Right breast cancer.", True)) is None
    assert other_answer(own, Generation("Left breast cancer.", True)) == "Right breast cancer."
    assert other_answer(own, Generation("Left breast", False)) is None  # cut: no answer to compare
    assert other_answer(own, Generation(" ", True)) is None


def test_the_likelier_answer_of_both_looks_is_taken_and_the_other_remembered() -> None:
    own = Generation("Left.", True)
    assert questions("The left.", "Left.", "Right.") == [
        ("The left.", ("Left.", "Right.")),
        ("The right.", ("Right.", "Left.")),
    ]
    assert settled(own, "Right.", [[-1.0, -6.0], [-5.0, -0.5]]) == Generation("Left.", True, "Right.")
    assert settled(own, "Right.", [[-1.0, -6.0], [-9.0, -0.5]]) == Generation("Right.", True, "Left.")
    cut = Generation("Left.", False)
    assert settled(cut, "Right.", [[-1.0, -6.0], [-5.0, -0.5]]) == Generation("Right.", True, "Left.")


def test_log_likelihoods_are_those_of_one_plain_pass(models: Path) -> None:
    model = load(models, looks=False)
    prompt = model.prompt(Task.SUMMARY, NOTES[0])
    answers = [model.answer(Task.SUMMARY, text) for text in ("Left, pN0.", "Right breast, 3 of 12 nodes, grade 2.")]
    found = log_likelihoods(model.models[Task.SUMMARY], model.names[Task.SUMMARY], prompt, answers)
    causal = put_adapter(load_base("tiny")[0], model.artefacts[Task.SUMMARY])
    for answer, score in zip(answers, found, strict=True):
        with torch.inference_mode():
            logits = causal(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        wanted = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum()
        assert score == pytest.approx(float(wanted), abs=1e-3)
    assert found[0] != pytest.approx(found[1], abs=1.0)


def test_a_model_answers_as_its_two_looks_and_their_scores_say(models: Path) -> None:
    once, twice = load(models, looks=False), load(models, looks=True)
    assert [len(twice.prompts(Task.SUMMARY, note)) for note in NOTES] == [2, 2, 1]
    assert len(twice.prompts(Task.PLAN, NOTES[0])) == 1  # its artefact does not say so
    # The tiny model's answers are cut at the limit; with these words as ends both looks have an ending.
    ends = set(range(0, int(once.models[Task.SUMMARY].config.vocab_size), 3))
    for model in (once, twice):
        model.stop_tokens = lambda task: ends  # type: ignore[method-assign]
    owns, mirrored = (once.generate(Task.SUMMARY, notes) for notes in (NOTES, [other_side(note) for note in NOTES]))
    expected = []
    for note, own, back in zip(NOTES, owns, mirrored, strict=True):
        other = other_answer(own, back) if other_side(note) != note else None
        if other is None:
            expected.append(own)
            continue
        scores = [
            log_likelihoods(
                once.models[Task.SUMMARY], once.names[Task.SUMMARY], once.prompt(Task.SUMMARY, text),
                [once.answer(Task.SUMMARY, answer) for answer in answers],
            )
            for text, answers in questions(note, own.text, other)
        ]  # fmt: skip
        expected.append(settled(own, other, scores))
    assert any(answer.other is not None for answer in expected)  # else this shows nothing
    assert [twice.generate(Task.SUMMARY, [note])[0] for note in NOTES] == expected
    decoder, found = Decoder(twice), {}
    for number, note in enumerate(NOTES):
        decoder.add(number, Task.SUMMARY, note)
    decoder.add("plan", Task.PLAN, NOTES[0])
    decoder.add("gone", Task.SUMMARY, NOTES[0])
    assert len(decoder.waiting) == 8
    found |= decoder.step()
    decoder.remove("gone")
    for _ in range(100):
        found |= decoder.step()
    assert {key: found[key] for key in range(3)} == dict(enumerate(expected))
    assert set(found) == {0, 1, 2, "plan"} and not decoder.rows


def test_what_it_costs(models: Path) -> None:
    twice = load(models, looks=True)
    decoder = Decoder(twice)
    assert [len(decoder.cost(Task.SUMMARY, note)) for note in NOTES] == [2, 2, 1]
    decoder.add("a", Task.SUMMARY, NOTES[0])
    assert decoder.size() == 2 * max(decoder.cost(Task.SUMMARY, NOTES[0]))


def test_a_trained_model_is_given_a_second_look_without_training(models: Path, tmp_path: Path) -> None:
    changes = ["mirrored_look=true"]
    made = load_text_model(apply_again(models / "once" / "s", tmp_path / "s", changes))
    before = load_text_model(models / "once" / "s")
    assert made.config == before.config.updated(mirrored_look=True) and made.task is Task.SUMMARY
    assert made.manifest["applied"] == {"changes": changes}
    assert made.manifest["config_hash"] != before.manifest["config_hash"]
    assert made.manifest["files"] == before.manifest["files"]
    again = load_text_model(apply_again(made.folder, tmp_path / "again", ["mirrored_look=false"]))
    assert again.config == before.config and len(again.manifest["applied"]["changes"]) == 2
    with pytest.raises(ConfigError, match=r"--set lr: decides how a model is trained.*accepted: mirrored_look, max_"):
        apply_again(made.folder, tmp_path / "other", ["lr=0.1"])
    with pytest.raises(ConfigError, match="nothing to measure"):
        apply_again(made.folder, tmp_path / "other", [])
    assert not (tmp_path / "other").exists()
