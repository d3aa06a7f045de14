"""Hiding a part of the input: what it changes, and that it changes nothing else."""

from __future__ import annotations

import pytest
import torch

from rollama.core.registry import Task
from rollama.language.base import load_base
from rollama.text.adapters import put_adapter
from rollama.text.generate import TextModel
from tests.chain.tiny import make_models

NOTE = "Left breast. Margins clear. Nodes 0 of 3."
ANSWER = "Left, pN0."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TextModel:
    folder = make_models(tmp_path_factory.mktemp("models"))
    return TextModel.load({Task.SUMMARY: folder / "s", Task.PLAN: folder / "p"})


def test_nothing_hidden_changes_nothing_and_something_does(model: TextModel) -> None:
    parts = [(0, 12), (13, 13), (13, 27), (0, len(NOTE))]
    spans = [(0, 4), (6, len(ANSWER)), (0, len(ANSWER))]
    fall = model.knockout(Task.SUMMARY, NOTE, ANSWER, parts, spans)
    assert fall.shape == (4, 3) and bool(fall.isfinite().all())
    assert fall[1].abs().max() < 1e-5
    assert all(row.abs().max() > 1e-3 for row in (fall[0], fall[2], fall[3]))
    assert not torch.allclose(fall[0], fall[2], atol=1e-3)
    alone = torch.cat([model.knockout(Task.SUMMARY, NOTE, ANSWER, [part], spans) for part in parts])
    torch.testing.assert_close(alone, fall, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(model.knockout(Task.PLAN, NOTE, ANSWER, parts, spans), fall, atol=1e-3)
    assert model.knockout(Task.SUMMARY, NOTE, ANSWER, parts, []).shape == (4, 0)


def test_it_is_the_answer_read_with_attention_cut(model: TextModel) -> None:
    """The same from one plain pass over prompt and answer, with a mask of its own for every query."""
    form, artefact = model._forms[Task.SUMMARY], model.artefacts[Task.SUMMARY]
    causal = put_adapter(load_base("tiny")[0], artefact)
    prompt, places = form.placed_prompt(Task.SUMMARY, NOTE)
    assert prompt == form.prompt(Task.SUMMARY, NOTE)
    answer = form.ids(ANSWER, special=False)
    ids = torch.tensor([prompt + answer])
    cut = [number for number, (start, end) in enumerate(places) if start < 27 and end > 13]
    assert cut and all(places[number][0] + 1 >= 13 and places[number][1] <= 28 for number in cut)
    likely = []
    for hide in (False, True):
        mask = torch.full((ids.shape[1],) * 2, -torch.inf).triu(1)
        if hide:
            mask[len(prompt) - 1 :, cut] = -torch.inf
        with torch.inference_mode():
            logits = causal(input_ids=ids, attention_mask=mask[None, None]).logits[0, len(prompt) - 1 : -1]
        likely.append(logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum())
    fall = model.knockout(Task.SUMMARY, NOTE, ANSWER, [(13, 27)], [(0, len(ANSWER))])
    torch.testing.assert_close(fall[0, 0], likely[0] - likely[1], atol=1e-4, rtol=1e-4)
