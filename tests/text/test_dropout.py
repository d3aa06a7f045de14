from __future__ import annotations

import pytest
import torch

from rollama.data.tokenization import TokenRow
from rollama.text.batch import collate
from rollama.text.dropout import CurrentBatch, DocumentDropout
from rollama.text.method import build_method
from rollama.text.model import TextModule, build_module, trained_parameters
from tests.text.conftest import tiny_config

CPU = torch.device("cpu")
A, B = TokenRow("a", tuple(range(4, 24)), 5), TokenRow("b", tuple(range(4, 13)), 3)


def masked(rows: list[TokenRow], packed: bool, layer: str = "x", seed: int = 0) -> torch.Tensor:
    current = CurrentBatch()
    current.batch = collate(rows, [0] * len(rows), 1, len(rows), CPU, packed)
    ones = torch.ones(*current.batch.ids.shape, 500)
    return DocumentDropout(0.25, seed, layer, current).train()(ones)


def test_mask_belongs_to_the_document_and_the_layer() -> None:
    alone = masked([B], True)
    assert torch.equal(masked([A, B], True)[:, 20:], alone) and torch.equal(masked([A, B], False)[1:, :9], alone)
    assert not torch.equal(masked([B], True, layer="y"), alone)
    assert not torch.equal(masked([B], True, seed=1), alone)


def test_share_and_scale() -> None:
    values = masked([A, B], True)
    assert values.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (values == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_nothing_in_evaluation_and_an_error_without_a_batch() -> None:
    layer = DocumentDropout(0.5, 0, "x", CurrentBatch())
    ones = torch.ones(1, 2, 3)
    assert layer.eval()(ones) is ones
    with pytest.raises(RuntimeError, match="without a batch"):
        layer.train()(ones)


@pytest.fixture(scope="module")
def module() -> TextModule:
    built, _, _ = build_module(tiny_config(lora={"dropout": 0.5}, activation_checkpointing=True))
    for name, parameter in trained_parameters(built).items():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05, generator=torch.Generator().manual_seed(0))
    return built


def gradient(module: TextModule, groups: list[list[TokenRow]], packed: bool) -> torch.Tensor:
    """Of CEFTune with noise and dropout, accumulated over micro-batches."""
    method = build_method(tiny_config(lora={"dropout": 0.5}))
    tokens = A.answer_length + B.answer_length
    module.zero_grad()
    for rows in groups:
        method.forward(module, collate(rows, [0] * len(rows), tokens, 2, CPU, packed))[0].backward()
    return torch.cat([p.grad.flatten() for p in trained_parameters(module).values() if p.grad is not None])


def test_gradient_with_noise_and_dropout_is_the_same_packed_padded_and_accumulated(module: TextModule) -> None:
    whole = gradient(module, [[A, B]], packed=True)
    assert whole.norm() > 0
    for groups, packed in (([[A, B]], False), ([[A], [B]], True), ([[B], [A]], False)):
        assert torch.allclose(gradient(module, groups, packed), whole, atol=1e-6)
    assert torch.equal(gradient(module, [[A, B]], packed=True), whole)
