from __future__ import annotations

import pytest
import torch

from rollama.core.errors import CheckpointError
from rollama.data.tokenization import TokenRow
from rollama.text.batch import collate
from rollama.text.model import build_meta, build_module, lora_targets_found, portable_names, trained_parameters
from tests.text.conftest import tiny_config

CPU = torch.device("cpu")
A, B = TokenRow("a", tuple(range(4, 24)), 5), TokenRow("b", tuple(range(4, 13)), 3)


def test_adapter_is_on_every_linear_layer_and_nothing_else_is_trained() -> None:
    module, _, _ = build_module(tiny_config())
    linears = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert lora_targets_found(module) == dict.fromkeys(linears, 2)
    assert all(".lora_" in name for name in trained_parameters(module))


def test_adapter_start_depends_on_the_seed_only() -> None:
    torch.manual_seed(1)
    first = build_module(tiny_config())[0].state_dict()
    before = torch.get_rng_state()
    second = build_module(tiny_config())[0].state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    other = build_module(tiny_config(seed=1))[0].state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_padding_changes_nothing() -> None:
    module, _, _ = build_module(tiny_config())
    together = module(collate([A, B], [0, 0], 1, 2, CPU), states_only=True)
    alone = module(collate([B], [0], 1, 1, CPU), states_only=True)
    assert torch.allclose(together[A.answer_length :], alone, atol=1e-5)


def test_loss_equals_transformers() -> None:
    module, _, _ = build_module(tiny_config())
    result = module(collate([A], [0], 1, 1, CPU))
    ids = torch.tensor([A.ids])
    labels = ids.clone()
    labels[:, : A.prompt_length] = -100
    expected = module.lm(input_ids=ids, labels=labels).loss * A.answer_length
    assert torch.allclose(result.total, expected, rtol=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_activation_checkpointing_gives_the_same_gradient(checkpointing: bool) -> None:
    module, _, _ = build_module(tiny_config(activation_checkpointing=checkpointing))
    module(collate([A, B], [0, 0], 1, 2, CPU)).total.backward()
    norm = sum(float(p.grad.square().sum()) for p in trained_parameters(module).values() if p.grad is not None)
    plain, _, _ = build_module(tiny_config())
    plain(collate([A, B], [0, 0], 1, 2, CPU)).total.backward()
    wanted = sum(float(p.grad.square().sum()) for p in trained_parameters(plain).values() if p.grad is not None)
    assert norm == pytest.approx(wanted, rel=1e-5) and norm > 0


def test_seven_billion_parameters_on_the_meta_device() -> None:
    module = build_meta(tiny_config(base="meta-llama/Llama-2-7b-chat-hf", dtype="bfloat16"))
    base = sum(p.numel() for name, p in module.named_parameters() if ".lora_" not in name)
    assert base == 6_738_415_616
    assert set(lora_targets_found(module).values()) == {32}
    assert sum(p.numel() for p in trained_parameters(module).values()) == 39_976_960


def test_untrained_adapter_is_not_saved() -> None:
    with pytest.raises(CheckpointError, match="lora_B"):
        portable_names({"lm.x.lora_B.default.weight": torch.zeros(2), "lm.x.lora_A.default.weight": torch.ones(2)})
    named = portable_names({"lm.base_model.model.x.lora_B.default.weight": torch.ones(2)})
    assert list(named) == ["base_model.model.x.lora_B.weight"]
