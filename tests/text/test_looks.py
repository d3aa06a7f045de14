"""A second look at the mirrored text: when it is taken, which answer wins, and that the batch changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from rollama.cli.centres import app
from rollama.core.errors import ConfigError, DataError
from rollama.core.registry import Task
from rollama.core.storage import locate
from rollama.data.dataset import open_texts
from rollama.data.sides import other_side
from rollama.language.base import load_base
from rollama.lineage.events import Trained
from rollama.lineage.ledger import open_ledger
from rollama.text.adapters import put_adapter
from rollama.text.applied import answering, apply_again
from rollama.text.checkpoint import load_text_model
from rollama.text.continuous import Decoder
from rollama.text.forms import Generation
from rollama.text.generate import TextModel
from rollama.text.looks import candidates, log_likelihoods, other_answer, settled
from rollama.training.artefact import WEIGHTS, read_manifest
from rollama.training.runs import is_trained, run_hash
from tests.chain.tiny import make_models
from tests.text.conftest import make_dataset, record

NOTES = ["Left breast. Margins clear.", "Carcinoma of the right breast, pT2 N1. " * 3, "No side is named."]
MANY = [f"{note} {number}" for number in range(4) for note in NOTES]


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
    assert other_answer(Generation("Left", False), Generation("Left breast cancer.", True)) is None
    assert other_answer(own, Generation(" ", True)) is None


def test_the_likelier_answer_of_both_looks_is_taken_and_the_other_remembered() -> None:
    own = Generation("Left.", True)
    assert candidates("Left.", "Right.") == (("Left.", "Right."), ("Right.", "Left."))
    assert settled(own, "Right.", [[-1.0, -6.0], [-5.0, -0.5]]) == Generation("Left.", True, "Right.")
    assert settled(own, "Right.", [[-1.0, -6.0], [-9.0, -0.5]]) == Generation("Right.", True, "Left.")


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
    owns, mirrored = (once.generate(Task.SUMMARY, notes) for notes in (MANY, [other_side(note) for note in MANY]))
    expected = []
    for note, own, back in zip(MANY, owns, mirrored, strict=True):
        other = other_answer(own, back) if other_side(note) != note else None
        if other is None:
            expected.append(own)
            continue
        scores = [
            log_likelihoods(
                once.models[Task.SUMMARY], once.names[Task.SUMMARY], once.prompt(Task.SUMMARY, text),
                [once.answer(Task.SUMMARY, answer) for answer in answers],
            )
            for text, answers in zip((note, other_side(note)), candidates(own.text, other), strict=True)
        ]  # fmt: skip
        expected.append(settled(own, other, scores))
    assert any(answer.other is not None for answer in expected)  # else this shows nothing
    assert [twice.generate(Task.SUMMARY, [note])[0] for note in MANY] == expected
    decoder, found = Decoder(twice), {}
    for number, note in enumerate(MANY):
        decoder.add(number, Task.SUMMARY, note)
    decoder.add("plan", Task.PLAN, NOTES[0])
    decoder.add("gone", Task.SUMMARY, NOTES[0])
    assert len(decoder.waiting) == 4 * 5 + 3
    found |= decoder.step()
    decoder.remove("gone")
    for _ in range(100):
        found |= decoder.step()
    assert {key: found[key] for key in range(len(MANY))} == dict(enumerate(expected))
    assert set(found) == {*range(len(MANY)), "plan"} and not decoder.rows


def test_what_it_costs(models: Path) -> None:
    twice = load(models, looks=True)
    decoder = Decoder(twice)
    assert [len(decoder.cost(Task.SUMMARY, note)) for note in NOTES] == [2, 2, 1]
    decoder.add("a", Task.SUMMARY, NOTES[0])
    assert decoder.size() == 2 * max(decoder.cost(Task.SUMMARY, NOTES[0]))


def test_a_trained_model_is_given_a_second_look_without_training(
    trained: Callable[[Task], Path], dataset: Path, tmp_path: Path
) -> None:
    model, content, changes = trained(Task.SUMMARY), open_texts(dataset).info.content_hash, ["mirrored_look=true"]
    made = load_text_model(apply_again(model, dataset, tmp_path / "s", changes))
    before = load_text_model(model)
    assert made.config == before.config.updated(mirrored_look=True) and made.task is Task.SUMMARY
    assert made.manifest["applied"] == {"changes": changes}
    assert is_trained(made.folder, run_hash(made.config, "s", content))  # training with this key does nothing again
    assert made.manifest["files"] == before.manifest["files"]
    assert answering(made.folder) != answering(model)  # or the evaluation of one would show the other's answers
    again = load_text_model(apply_again(made.folder, dataset, tmp_path / "again", ["mirrored_look=false"]))
    assert again.config == before.config and len(again.manifest["applied"]["changes"]) == 2
    assert answering(again.folder) == answering(model)
    with pytest.raises(ConfigError, match=r"--set lr: decides how a model is trained.*accepted: mirrored_look, max_"):
        apply_again(made.folder, dataset, tmp_path / "other", ["lr=0.1"])
    with pytest.raises(ConfigError, match="nothing to measure"):
        apply_again(made.folder, dataset, tmp_path / "other", [])
    another = make_dataset(tmp_path / "data", [record(number) for number in range(20, 34)])
    with pytest.raises(DataError, match="was trained on"):
        apply_again(model, another, tmp_path / "other", changes)
    assert not (tmp_path / "other").exists()


def test_the_command_that_does_so(trained: Callable[[Task], Path], dataset: Path, tmp_path: Path) -> None:
    asked = ["measure", str(trained(Task.SUMMARY)), "--dataset", str(dataset), "--out", str(tmp_path / "models" / "s")]
    asked += ["--workspace", str(tmp_path)]
    done = CliRunner().invoke(app, [*asked, "--set", "mirrored_look=true"])
    assert done.exit_code == 0, done.output
    manifest = read_manifest(tmp_path / "models" / "s")
    assert manifest["config"]["mirrored_look"] is True
    (told,) = [event for event in open_ledger(locate(str(tmp_path))).events() if isinstance(event, Trained)]
    assert (told.model, told.data, told.run) == (
        manifest["files"][WEIGHTS], manifest["data"]["content_hash"], manifest["config_hash"],
    )  # fmt: skip
    for more, words in ((["--set", "steps=1"], "accepted: mirrored_look"), (["--only", "a"], "--only")):
        refused = CliRunner().invoke(app, [*asked, *more])
        assert refused.exit_code != 0 and words in str(refused.exception)


def test_many_texts_at_once_and_a_smaller_limit(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twice = load(models, looks=True)
    ends = set(range(0, int(twice.models[Task.SUMMARY].config.vocab_size), 3))
    monkeypatch.setattr(twice, "stop_tokens", lambda task: ends)
    monkeypatch.setattr(twice, "batch", 3)  # odd, while most texts have two rows
    alone = [twice.generate(Task.SUMMARY, [text])[0] for text in MANY]
    assert twice.generate(Task.SUMMARY, MANY) == alone and any(answer.other is not None for answer in alone)
    usual = twice.limits[Task.SUMMARY]
    which = next(number for number, answer in enumerate(alone) if answer.other is not None)
    longest = max(len(prompt) for prompt in twice.prompts(Task.SUMMARY, MANY[which]))
    monkeypatch.setattr(twice, "limits", {Task.SUMMARY: 100})
    monkeypatch.setattr(twice, "context", longest + usual)  # too little for the limit of 100
    assert twice.generate(Task.SUMMARY, [MANY[which]], max_new_tokens=usual) == [alone[which]]
