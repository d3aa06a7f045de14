"""The sentence space with the real encoder (all-MiniLM-L6-v2)."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoTokenizer

from rollama.core.errors import ConfigError
from rollama.data.tokenization import TokenRow
from rollama.language.base import load_tokenizer
from rollama.text.batch import collate
from rollama.text.method import build_method
from rollama.text.model import build_module, trained_parameters
from rollama.text.sentence import WINDOW, SentenceSpace, encoder_folder
from tests.text.conftest import tiny_config

CPU = torch.device("cpu")
TEXTS = (
    "Left breast cancer after lumpectomy.",
    "Carcinoma of the left breast, breast-conserving surgery.",
    "The weather was fine in Lisbon.",
)


@pytest.fixture(scope="module")
def space() -> SentenceSpace:
    return SentenceSpace.load("minilm", load_tokenizer("smollm2"), 49152, CPU)


def test_one_hot_predictions_are_read_by_their_meaning(space: SentenceSpace) -> None:
    tokenizer = load_tokenizer("smollm2")
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    expected = torch.cat([space.matrix[torch.tensor(row)] for row in ids])
    owner = torch.tensor([index for index, row in enumerate(ids) for _ in row])
    one, two, three = torch.nn.functional.normalize(space.encode(expected, owner, 3), dim=1)
    assert one @ two > one @ three + 0.3


def test_close_to_the_encoder_itself(space: SentenceSpace) -> None:
    """Words that both vocabularies have give the encoder's own sentence embedding, but for capitals and fragments."""
    reader = AutoTokenizer.from_pretrained(encoder_folder("minilm"))
    tokenizer = load_tokenizer("smollm2")
    text = " the left breast was treated after surgery"
    states = space.encoder(**reader(text, return_tensors="pt")).last_hidden_state.mean(1)
    expected = space.matrix[torch.tensor(tokenizer(text)["input_ids"])]
    found = space.encode(expected, torch.zeros(len(expected), dtype=torch.long), 1)
    assert torch.nn.functional.cosine_similarity(found, states).item() > 0.99


def test_long_answers_are_read_in_windows(space: SentenceSpace) -> None:
    tokens = space.matrix[100 : 100 + 2 * WINDOW + 3]
    owner = torch.zeros(len(tokens), dtype=torch.long)
    whole = space.encode(tokens, owner, 1)
    assert whole.shape == (1, 384) and torch.isfinite(whole).all()
    pairs = torch.cat([owner, torch.ones(5, dtype=torch.long)])
    both = space.encode(torch.cat([tokens, tokens[:5]]), pairs, 2)
    assert torch.allclose(both[:1], whole, atol=1e-5)


def test_consistency_has_a_gradient_and_vanishes_without_noise() -> None:
    module, tokenizer, _ = build_module(tiny_config())
    for name, parameter in trained_parameters(module).items():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05, generator=torch.Generator().manual_seed(0))
    space = SentenceSpace.load("minilm", tokenizer, len(module.head.weight), CPU)
    rows = [TokenRow("a", tuple(range(300, 330)), 5), TokenRow("b", tuple(range(310, 325)), 3)]
    batch = collate(rows, [0, 0], 37, 2, CPU)

    def step(**changes: object) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        loss, metrics = build_method(tiny_config(**changes), space).forward(module, batch)
        parameters = list(trained_parameters(module).values())
        return loss, metrics, torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)])

    loss, metrics, gradient = step(consistency="sbert", noise_alpha=15)
    without, _, base = step(method="neftune", noise_alpha=15)
    assert metrics["consistency"] > 0
    assert torch.allclose(loss - without, metrics["consistency"], atol=1e-6)
    assert (gradient - base).norm() > 1e-4 * base.norm()
    silent, metrics, gradient = step(consistency="sbert", noise_alpha=0)
    plain, _, base = step(method="plain")
    assert metrics["consistency"].abs() < 1e-5 and torch.allclose(silent, plain, atol=1e-5)
    assert torch.allclose(gradient, base, atol=1e-5)


def test_an_encoder_that_is_not_here_is_refused() -> None:
    with pytest.raises(ConfigError, match="sentence_encoder 'nowhere'"):
        encoder_folder("nowhere")
    with pytest.raises(ValueError, match="needs a sentence encoder"):
        build_method(tiny_config(consistency="sbert"))
