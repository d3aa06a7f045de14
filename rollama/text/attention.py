"""Causal attention inside each document of a packed row.

Several documents in one row must not see each other. The usual ways are a block mask of T x T (which computes and
throws away most of it, and turns the fast kernels off) or a kernel for variable lengths (GPU only, another package).
Attention is the only operation of the model that mixes tokens, so it is enough to run it once a document; everything
else works on the whole row at once. Cost is the sum of the squares of the lengths, not the square of the sum.

The function is registered with Transformers under `DOCUMENTS`; the model hands it `spans` as a keyword argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

DOCUMENTS = "rollama_documents"


def document_attention(
    module: Any,  # noqa: ARG001 (Transformers' signature)
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    spans: Sequence[tuple[int, int]] | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each span.

    Args:
        query: (B, heads, T, D).
        key, value: (B, key-value heads, T, D).
        attention_mask: has to be None: what is masked is said by `spans`.
        spans: (first, end) of the documents in a batch of one row; None: each row is one document.

    Returns:
        ((B, T, heads, D), None), as Transformers wants it.

    Raises:
        ValueError: a mask is given, or spans with more than one row.
    """
    if attention_mask is not None:
        raise ValueError("document attention takes no mask")
    if spans is None:
        return _causal(query, key, value, scaling), None
    if len(query) != 1:
        raise ValueError(f"spans describe one packed row, found {len(query)} rows")
    parts = [_causal(query[:, :, a:b], key[:, :, a:b], value[:, :, a:b], scaling) for a, b in spans]
    return torch.cat(parts, dim=1), None


def _causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None) -> torch.Tensor:
    grouped = key.shape[1] != query.shape[1]
    mixed = functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped
    )
    return mixed.transpose(1, 2)


def use_document_attention(lm: Any) -> None:
    """Let a Transformers causal LM attend by `document_attention`."""
    from transformers import AttentionInterface

    AttentionInterface.register(DOCUMENTS, document_attention)
    lm.set_attn_implementation(DOCUMENTS)
