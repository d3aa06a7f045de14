import pytest
import torch

from rollama.core.errors import CheckpointError
from rollama.language.base import load_base
from rollama.language.bundled import check_greedy


@pytest.fixture(scope="module")
def smollm2():
    return load_base("smollm2")


def test_smollm2_speaks_as_known(smollm2):
    model, tokenizer, info = smollm2
    check_greedy(model, tokenizer)
    assert "Q4_1" in info.remark
    assert model.config.hidden_size == 576
    assert sum(p.numel() for p in model.parameters()) == 134_515_008


def test_a_wrong_permutation_of_the_query_weights_is_noticed(smollm2):
    model, tokenizer, _ = smollm2
    weight = model.model.layers[0].self_attn.q_proj.weight
    kept = weight.detach().clone()
    with torch.no_grad():  # the layout that llama.cpp stores: rotary halves interleaved
        for layer in model.model.layers:
            w = layer.self_attn.q_proj.weight
            w.copy_(w.view(9, 2, 32, 576).transpose(1, 2).reshape(576, 576))
    try:
        with pytest.raises(CheckpointError, match="expected"):
            check_greedy(model, tokenizer)
    finally:
        with torch.no_grad():
            for layer in model.model.layers:
                w = layer.self_attn.q_proj.weight
                w.copy_(w.view(9, 32, 2, 576).transpose(1, 2).reshape(576, 576))
    assert torch.equal(weight, kept)
