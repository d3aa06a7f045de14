from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from rollama.text.loss import AnswerHead, hidden_distance


@pytest.fixture
def parts() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(23, 8, generator=generator, dtype=torch.float64).float()
    clean = hidden + 0.3 * torch.randn(23, 8, generator=generator)
    return hidden, clean, torch.randint(0, 31, (23,), generator=generator), torch.randn(31, 8, generator=generator)


def reference(
    hidden: torch.Tensor, clean: torch.Tensor, targets: torch.Tensor, head: torch.Tensor, weight: float
) -> tuple[torch.Tensor, torch.Tensor]:
    noisy = functional.log_softmax(hidden @ head.T, -1)
    soft = functional.log_softmax(clean @ head.detach().T, -1)
    return functional.nll_loss(noisy, targets, reduction="sum"), (soft.exp() * (soft - noisy)).sum() * weight


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("chunk", [5, 23, 100])
@pytest.mark.parametrize("trained", [False, True])
def test_value_and_gradient_equal_autograd(
    parts: tuple[torch.Tensor, ...], weight: float, chunk: int, trained: bool
) -> None:
    hidden, clean, targets, weights = parts
    first, second = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    head, other = (nn.Parameter(weights.clone(), requires_grad=trained) for _ in range(2))
    total, cross_entropy, divergence = AnswerHead(head, chunk)(first, targets, clean, weight)
    (total / 7).backward()
    wanted_ce, wanted_kl = reference(second, clean, targets, other, weight)
    ((wanted_ce + wanted_kl) / 7).backward()
    assert torch.allclose(cross_entropy, wanted_ce, rtol=1e-5)
    assert torch.allclose(total, wanted_ce + wanted_kl, rtol=1e-5)
    assert torch.allclose(divergence * weight, wanted_kl, rtol=1e-4)
    assert first.grad is not None and second.grad is not None
    assert torch.allclose(first.grad, second.grad, atol=1e-6)
    if trained:
        assert head.grad is not None and other.grad is not None and torch.allclose(head.grad, other.grad, atol=1e-5)
    else:
        assert head.grad is None


def test_equal_states_have_no_divergence(parts: tuple[torch.Tensor, ...]) -> None:
    hidden, _, targets, weights = parts
    head = AnswerHead(nn.Parameter(weights, requires_grad=False), 6)
    total, cross_entropy, divergence = head(hidden, targets, hidden.clone(), 1.0)
    assert divergence.item() == 0 and total.item() == cross_entropy.item()


def test_hidden_distance_is_per_document() -> None:
    noisy = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    clean = torch.tensor([[3.0, 0.0], [0.0, 3.0], [0.0, -1.0]])
    distance = hidden_distance(noisy, clean, torch.tensor([0, 0, 1]), 2)
    assert torch.allclose(distance, torch.tensor(1 - 0.5**0.5 + 2))
