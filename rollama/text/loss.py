"""Cross-entropy and KL to a clean pass, over answer tokens, without ever storing full-vocabulary logits.

With a vocabulary of 128k the logits of 2,048 tokens take 1 GB in float32, and their gradients as much again. Here the
head runs on chunks of answer tokens. For each chunk the loss is

    sum_a  -log p_n[y_a]  +  lambda * KL(p_c || p_n)           p_n noisy, p_c clean (constant)

with the closed-form gradient  d/dh = ((1 + lambda) p_n - onehot(y) - lambda p_c) W  with respect to the noisy hidden
state. When the head is frozen (LoRA), this gradient is computed in the forward pass, chunk by chunk, and nothing but a
tensor of the hidden states' size is kept. When the head is trained, each chunk is recomputed in the backward pass.

The `sbert` space of consistency needs the expected embedding `p_n M` of each answer token in another model's space (M
has one row a token of the vocabulary, see `sentence`); it is computed from the same chunks.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

Sums = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""(cross-entropy + lambda * KL, cross-entropy, KL), each summed over the answer tokens."""


class Expected(NamedTuple):
    """Cross-entropy summed over the answer, and each answer token's expected embedding, noisy and clean: (A, S)."""

    cross_entropy: torch.Tensor
    noisy: torch.Tensor
    clean: torch.Tensor


class AnswerHead(nn.Module):
    """The language-model head applied to answer tokens only, with the loss.

    It holds the head's weight as its own (shared) parameter, so that ZeRO-3, which gathers parameters for the module
    that owns them, has it gathered here exactly once per pass, however many chunks there are.
    """

    def __init__(self, weight: nn.Parameter, chunk: int) -> None:
        super().__init__()
        self.weight = weight
        self.chunk = chunk

    def forward(
        self,
        hidden: torch.Tensor,
        targets: torch.Tensor,
        clean: torch.Tensor | None = None,
        weight: float = 0.0,
        matrix: torch.Tensor | None = None,
    ) -> Sums | Expected:
        """Sums over the answer; with a `matrix`, cross-entropy and the predictions in another embedding space.

        Args:
            hidden: (A, H) last hidden states at the positions that predict the answer.
            targets: (A,) answer tokens.
            clean: (A, H) the clean pass's states, or None for no KL.
            weight: lambda.
            matrix: (V, S) embedding of each token of the vocabulary in the other space, float32; needs `clean`.
        """
        if matrix is not None and clean is not None:
            return self._expect(hidden, targets, clean, matrix)
        if self.weight.requires_grad and torch.is_grad_enabled():
            return _trained_head(hidden, self.weight, targets, clean, weight, self.chunk)
        sums: Sums = _FrozenHead.apply(  # type: ignore[no-untyped-call]
            hidden, self.weight, targets, clean, weight, self.chunk
        )
        return sums

    def _expect(
        self, hidden: torch.Tensor, targets: torch.Tensor, clean: torch.Tensor, matrix: torch.Tensor
    ) -> Expected:
        entropy = hidden.new_zeros((), dtype=torch.float32)
        noisy, constant = [], []
        for first in range(0, len(targets), self.chunk):
            part = slice(first, first + self.chunk)
            one, two = checkpoint(_expect, hidden[part], self.weight, targets[part], matrix, use_reentrant=False)
            entropy = entropy + one
            noisy.append(two)
            with torch.no_grad():
                constant.append(_expect(clean[part], self.weight, targets[part], matrix)[1])
        return Expected(entropy, torch.cat(noisy), torch.cat(constant))


class _FrozenHead(torch.autograd.Function):
    """Loss and its gradient with respect to `hidden`, both in the forward pass; the weight gets no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        head: torch.Tensor,
        targets: torch.Tensor,
        clean: torch.Tensor | None,
        weight: float,
        chunk: int,
    ) -> Sums:
        cross_entropy = hidden.new_zeros((), dtype=torch.float32)
        divergence = torch.zeros_like(cross_entropy)
        gradient = torch.empty_like(hidden)
        vocabulary = functools.partial(hidden.new_empty, (min(chunk, len(targets)), len(head)))
        # The same memory for all chunks: fresh pages would cost more time than the arithmetic.
        raw, push = vocabulary(dtype=head.dtype), vocabulary(dtype=torch.float32)
        soft, gap = (vocabulary(dtype=torch.float32) if clean is not None else push for _ in range(2))
        for first in range(0, len(targets), chunk):
            part = slice(first, first + chunk)
            target = targets[part, None]
            rows = len(target)
            noisy = _log_probabilities(hidden[part], head, raw[:rows], push[:rows])
            cross_entropy -= noisy.gather(1, target).sum()
            if clean is None:
                noisy.exp_()
            else:
                log_clean = _log_probabilities(clean[part], head, raw[:rows], gap[:rows])
                torch.exp(log_clean, out=soft[:rows])
                divergence += log_clean.sub_(noisy).mul_(soft[:rows]).sum()
                noisy.exp_().mul_(1 + weight).sub_(soft[:rows], alpha=weight)
            noisy.scatter_add_(1, target, noisy.new_full(target.shape, -1.0))  # now the gradient of the logits
            gradient[part] = noisy.to(head.dtype) @ head
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(cross_entropy, divergence)
        return cross_entropy + weight * divergence, cross_entropy, divergence

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0].to(gradient.dtype), None, None, None, None, None


def _log_probabilities(hidden: torch.Tensor, head: torch.Tensor, raw: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Log softmax of the head's logits in float32, written to `out` (A, V); `raw` (A, V) holds the logits."""
    torch.mm(hidden, head.t(), out=raw)
    return torch.log_softmax(raw, -1, dtype=torch.float32, out=out)


def _trained_head(
    hidden: torch.Tensor,
    head: torch.Tensor,
    targets: torch.Tensor,
    clean: torch.Tensor | None,
    weight: float,
    chunk: int,
) -> Sums:
    zero = hidden.new_zeros((), dtype=torch.float32)
    total, cross_entropy, divergence = zero, zero, zero
    for first in range(0, len(targets), chunk):
        part = slice(first, first + chunk)
        states = None if clean is None else clean[part]
        one, two, three = checkpoint(_chunk, hidden[part], head, targets[part], states, weight, use_reentrant=False)
        total, cross_entropy, divergence = total + one, cross_entropy + two.detach(), divergence + three.detach()
    return total, cross_entropy, divergence


def _chunk(
    hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, clean: torch.Tensor | None, weight: float
) -> Sums:
    log_noisy = functional.log_softmax(functional.linear(hidden, head).float(), dim=-1)
    cross_entropy = functional.nll_loss(log_noisy, targets, reduction="sum")
    divergence = torch.zeros_like(cross_entropy)
    if clean is not None:
        with torch.no_grad():  # the clean pass is a constant, also with respect to the head
            log_clean = functional.log_softmax(functional.linear(clean, head).float(), dim=-1)
        divergence = functional.kl_div(log_noisy, log_clean, reduction="sum", log_target=True)
    return cross_entropy + weight * divergence, cross_entropy, divergence


def _expect(
    hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, matrix: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = functional.linear(hidden, head).float()
    return functional.cross_entropy(logits, targets, reduction="sum"), logits.softmax(-1) @ matrix


def hidden_distance(
    noisy: torch.Tensor, clean: torch.Tensor, answer_document: torch.Tensor, documents: int
) -> torch.Tensor:
    """Sum over documents of 1 - cos of the mean-pooled answer states: (A, H), (A, H) -> ()."""
    counts = torch.bincount(answer_document, minlength=documents).clamp(min=1).unsqueeze(1)

    def pool(states: torch.Tensor) -> torch.Tensor:
        empty = states.new_zeros(documents, states.shape[1], dtype=torch.float32)
        return empty.index_add(0, answer_document, states.float()) / counts

    return (1 - functional.cosine_similarity(pool(noisy), pool(clean), dim=1)).sum()
