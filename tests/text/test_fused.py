"""The fused layers against those of PEFT and Transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rollama.core.registry import Task
from rollama.data.case import Case
from rollama.data.tokenization import tokenize_cases
from rollama.text.batch import TextBatches
from rollama.text.fused import AdaptedLinear, GatedUnit, fuse
from rollama.text.method import build_method
from rollama.text.model import build_module, trained_parameters
from rollama.training.sampler import BatchOrder
from tests.text.conftest import tiny_config


def test_gradients_by_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)

    weight, bias = draw(4, 3).detach(), draw(4).detach()
    values, down, up = draw(2, 5, 3), draw(2, 3), draw(4, 2)
    assert torch.autograd.gradcheck(lambda x, a, b: AdaptedLinear.apply(x, weight, bias, a, b, 0.7), (values, down, up))
    assert torch.autograd.gradcheck(GatedUnit.apply, (draw(2, 5), draw(2, 5)))


def _step(
    cases: list[Case], fused: bool, matched: bool = True, **changes: Any
) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of a CEFTune step, with an adapter whose two halves are both non-zero."""
    module, tokenizer, _ = build_module(tiny_config(zero={"stage": 3}, **changes))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in trained_parameters(module).items():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator).to(parameter)
    if matched:
        module.to(module.head.weight.dtype)  # as DeepSpeed does; PEFT makes adapters float32
    if fused:
        assert fuse(module.lm) > 0
    rows = tokenize_cases(tokenizer, Task.PLAN, cases, 200)
    batch = next(iter(TextBatches(rows, BatchOrder(len(rows), 4, 0), 4, 0, 1, torch.device("cpu")).step(0)))
    loss, _ = build_method(tiny_config()).forward(module, batch)
    loss.backward()
    return loss.item(), {
        name: value.grad for name, value in trained_parameters(module).items() if value.grad is not None
    }


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 4e-2)])
@pytest.mark.parametrize("recompute", [False, True])
def test_loss_and_gradients_equal_those_of_the_originals(
    cases: list[Case], dtype: str, tolerance: float, recompute: bool
) -> None:
    plain, wanted = _step(cases, False, dtype=dtype, activation_checkpointing=recompute)
    loss, found = _step(cases, True, dtype=dtype, activation_checkpointing=recompute)
    assert loss == pytest.approx(plain, rel=tolerance) and found.keys() == wanted.keys() and found
    for name, value in found.items():
        scale = wanted[name].norm()
        assert scale > 0 and (value - wanted[name]).norm() < tolerance * scale, name


def test_an_adapter_of_another_precision_goes_through_peft(cases: list[Case]) -> None:
    plain, wanted = _step(cases, False, matched=False, dtype="bfloat16")
    loss, found = _step(cases, True, matched=False, dtype="bfloat16")
    assert loss == pytest.approx(plain, rel=1e-2)
    assert {value.dtype for value in found.values()} == {torch.float32} and found.keys() == wanted.keys()


def test_what_is_fused(cases: list[Case]) -> None:
    del cases

    def changed(**changes: Any) -> set[str]:
        module, _, _ = build_module(tiny_config(**changes))
        return {type(part).__name__ for part in module.modules() if "forward" in vars(part)}

    assert changed() == {"Linear", "LlamaMLP"}
    assert changed(lora={"dropout": 0.1}) == {"LlamaMLP"}  # the layers with dropout stay
    assert changed(zero={"stage": 3}) == set()


def test_a_disabled_and_a_merged_adapter_are_left_to_peft(cases: list[Case]) -> None:
    del cases
    module, _, _ = build_module(tiny_config())
    for name, parameter in trained_parameters(module).items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        adapted = module.lm(input_ids=ids).logits
        with module.lm.disable_adapter():
            base = module.lm(input_ids=ids).logits
        module.lm.merge_adapter()
        merged = module.lm(input_ids=ids).logits
    assert (adapted - base).abs().max() > 1e-3
    torch.testing.assert_close(merged, adapted, rtol=1e-4, atol=1e-5)
