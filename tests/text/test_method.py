from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from rollama.data.tokenization import TokenRow
from rollama.text.batch import TextBatch, collate
from rollama.text.method import build_method
from rollama.text.model import TextModule, build_module, trained_parameters
from rollama.training.loop import evaluating
from tests.text.conftest import tiny_config

ROWS = [TokenRow("a", tuple(range(4, 24)), 5), TokenRow("b", tuple(range(4, 13)), 3)]


def batch() -> TextBatch:
    return collate(ROWS, [0, 0], sum(row.answer_length for row in ROWS), 2, torch.device("cpu"))


@pytest.fixture(scope="module")
def module() -> TextModule:
    built, _, _ = build_module(tiny_config())
    generator = torch.Generator().manual_seed(0)
    for name, parameter in trained_parameters(built).items():
        if "lora_B" in name:  # an adapter that has learned something
            parameter.data.normal_(0, 0.05, generator=generator)
    return built


def value(module: TextModule, **changes: object) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    return build_method(tiny_config(**changes)).forward(module, batch())


def gradient(module: TextModule, loss: torch.Tensor) -> torch.Tensor:
    parameters = list(trained_parameters(module).values())
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)])


@pytest.mark.parametrize("space", ["kl", "hidden"])
def test_consistency_has_a_gradient_on_the_adapter(module: TextModule, space: str) -> None:
    with_r, metrics = value(module, method="ceftune", consistency=space, noise_alpha=15)
    without, _ = value(module, method="neftune", noise_alpha=15)
    assert metrics["consistency"] > 0 and not metrics["consistency"].requires_grad
    assert torch.allclose(with_r - without, metrics["consistency"], rtol=1e-3, atol=1e-6)
    difference = gradient(module, with_r) - gradient(module, without)
    assert difference.norm() > 1e-3 * gradient(module, value(module, method="neftune", noise_alpha=15)[0]).norm()


@pytest.mark.parametrize("space", ["kl", "hidden"])
def test_without_noise_it_is_plain_training(module: TextModule, space: str) -> None:
    plain, _ = value(module, method="plain")
    loss, metrics = value(module, method="ceftune", consistency=space, noise_alpha=0)
    assert metrics["consistency"].abs() < 1e-6 and torch.allclose(loss, plain, atol=1e-6)
    assert metrics["noise_ratio"] == 0


@pytest.mark.parametrize("space", ["kl", "hidden"])
def test_weight_zero_is_neftune(module: TextModule, space: str) -> None:
    neftune, _ = value(module, method="neftune")
    loss, _ = value(module, method="ceftune", consistency=space, consistency_weight=0)
    assert loss.item() == neftune.item()
    assert torch.allclose(gradient(module, loss), gradient(module, value(module, method="neftune")[0]))


def test_clean_pass_leaves_modes_and_generator(module: TextModule) -> None:
    module.train()
    part = next(iter(module.lm.modules()))
    part.training = False
    modes = [child.training for child in module.modules()]
    state = torch.get_rng_state()
    value(module, method="ceftune", lora={"dropout": 0.1})
    assert [child.training for child in module.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


def test_evaluating_restores_after_an_error() -> None:
    layer = nn.Sequential(nn.Dropout(0.5)).train()
    with pytest.raises(RuntimeError), evaluating(layer):
        assert not layer[0].training
        raise RuntimeError
    assert layer.training and layer[0].training


def test_shares_add_up_to_the_mean_over_all_answer_tokens(module: TextModule) -> None:
    whole, _ = value(module, method="ceftune")
    method = build_method(tiny_config(method="ceftune"))
    tokens = sum(row.answer_length for row in ROWS)
    parts = [method.forward(module, collate([row], [0], tokens, 2, torch.device("cpu")))[0] for row in ROWS]
    assert torch.allclose(sum(parts), whole, rtol=1e-5)


def test_clean_pass_on_every_nth_step_with_n_times_the_weight(module: TextModule) -> None:
    always, metrics = value(module, method="ceftune")
    neftune, _ = value(module, method="neftune")
    method = build_method(tiny_config(method="ceftune", consistency_every=3))
    now, seen = method.forward(module, batch())
    later, unseen = method.forward(module, replace(batch(), step=1))
    assert torch.allclose(now - neftune, 3 * (always - neftune), rtol=1e-4) and later.item() == neftune.item()
    assert seen["consistency"] == metrics["consistency"] and "consistency" not in unseen
