from __future__ import annotations

import pytest
import torch

from rollama.data.tokenization import TokenRow
from rollama.text.attention import document_attention
from rollama.text.batch import collate
from rollama.text.method import build_method
from rollama.text.model import build_module
from tests.text.conftest import tiny_config

CPU = torch.device("cpu")


def test_equals_a_block_mask() -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, 12, 8, generator=generator)
    key, value = (torch.randn(1, 2, 12, 8, generator=generator) for _ in range(2))
    spans = ((0, 5), (5, 6), (6, 12))
    found, _ = document_attention(None, query, key, value, None, scaling=0.3, spans=spans)
    document = torch.tensor([index for index, (a, b) in enumerate(spans) for _ in range(a, b)])
    mask = (document[:, None] == document) & torch.ones(12, 12, dtype=torch.bool).tril()
    wanted = torch.nn.functional.scaled_dot_product_attention(
        query, key.repeat_interleave(2, 1), value.repeat_interleave(2, 1), attn_mask=mask, scale=0.3
    )
    assert torch.allclose(found, wanted.transpose(1, 2), atol=1e-6)


def test_what_it_cannot_do_is_refused() -> None:
    states = torch.zeros(2, 1, 4, 8)
    with pytest.raises(ValueError, match="no mask"):
        document_attention(None, states, states, states, torch.zeros(1))
    with pytest.raises(ValueError, match="one packed row, found 2"):
        document_attention(None, states, states, states, None, spans=((0, 4),))


def test_a_packed_document_cannot_tell_that_it_is_not_alone() -> None:
    """States, gradient and loss of documents in one row, with noise; none sees or moves another."""
    module, _, _ = build_module(tiny_config())
    rows = [TokenRow(name, tuple(range(4, 4 + length)), 3) for name, length in (("a", 17), ("b", 40), ("c", 5))]
    packed = module(collate(rows, [0] * 3, 1, 3, CPU), states_only=True)
    alone = torch.cat([module(collate([row], [0], 1, 1, CPU), states_only=True) for row in rows])
    assert torch.allclose(packed, alone, atol=1e-6)
    other = module(collate([TokenRow("a", (9,) * 17, 3), *rows[1:]], [0] * 3, 1, 3, CPU), states_only=True)
    assert torch.equal(other[14:], packed[14:]) and not torch.allclose(other[:14], packed[:14])
    method = build_method(tiny_config())
    losses = [method.forward(module, collate(rows, [0] * 3, 60, 3, CPU, packed=one))[0] for one in (True, False)]
    assert torch.allclose(*losses, rtol=1e-6)
