"""LoRA linear layers and the gated MLP with fewer passes over memory.

A small model's step on a CPU is half multiplication and half moving activations. PEFT computes `W x + s B(A x)` as
three products, a scaling and an addition, each of which writes a tensor of the layer's output; Transformers' MLP keeps
three tensors of its widest size for the backward pass. Here

* a LoRA layer is one autograd function: the adapter's part is added to `W x` by the product itself, and its gradient
  to that of `W x` likewise; nothing is kept for the backward pass but `x` and `A x`,
* `silu(gate) * up` keeps `gate` and `up` and computes `silu(gate)` again.

Values differ from the originals in the last bits only. Not under ZeRO-3, whose hooks gather the weights of the modules
that are called: there the originals stay.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import nn


def fuse(lm: Any) -> int:
    """Give a causal LM's LoRA layers and gated MLPs the functions below; returns how many layers were changed.

    A LoRA layer with dropout, with several adapters or of another kind than the plain one stays as it is.
    """
    from peft.tuners.lora.layer import Linear
    from transformers.models.llama.modeling_llama import LlamaMLP

    changed = 0
    for part in lm.modules():
        if type(part) is Linear and _plain(part):
            part.forward = MethodType(_adapted_forward, part)
        elif isinstance(part, LlamaMLP) and part.config.hidden_act == "silu":
            part.forward = MethodType(_gated_forward, part)
        else:
            continue
        changed += 1
    return changed


def _plain(layer: Any) -> bool:
    names = layer.active_adapters
    return (
        len(names) == 1
        and not layer.lora_variant
        and not layer.fan_in_fan_out
        and isinstance(layer.lora_dropout[names[0]], nn.Identity)
        and layer.lora_B[names[0]].bias is None
    )


def _adapted_forward(layer: Any, values: torch.Tensor) -> torch.Tensor:
    usual = not (layer.disable_adapters or layer.merged) and len(layer.active_adapters) == 1
    if usual:
        (name,) = layer.active_adapters
        base, down, up = layer.base_layer, layer.lora_A[name].weight, layer.lora_B[name].weight
        # An adapter of another precision is cast to and fro by PEFT, and autocast casts by itself.
        usual = values.dtype == base.weight.dtype == down.dtype and not torch.is_autocast_enabled(values.device.type)
    if not usual:
        original: torch.Tensor = type(layer).forward(layer, values)
        return original
    result: torch.Tensor = AdaptedLinear.apply(  # type: ignore[no-untyped-call]
        values, base.weight, base.bias, down, up, layer.scaling[name]
    )
    return result


def _gated_forward(mlp: Any, values: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = mlp.down_proj(
        GatedUnit.apply(mlp.gate_proj(values), mlp.up_proj(values))  # type: ignore[no-untyped-call]
    )
    return result


class AdaptedLinear(torch.autograd.Function):
    """`W x + b + s B A x` with W and b frozen; x (..., I), W (O, I), A (r, I), B (O, r) of one dtype -> (..., O)."""

    @staticmethod
    def forward(
        ctx: Any,
        values: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        rows = values.flatten(0, -2)
        reduced = rows @ down.t()
        result = nn.functional.linear(rows, weight, bias).addmm_(reduced, up.t(), alpha=scale)
        ctx.save_for_backward(values, reduced, weight, down, up)
        ctx.scale = scale
        output: torch.Tensor = result.unflatten(0, values.shape[:-1])
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        values, reduced, weight, down, up = ctx.saved_tensors
        rows, given = values.flatten(0, -2), gradients[0].flatten(0, -2)
        inner = (given @ up).mul_(ctx.scale)
        of_values = None
        if ctx.needs_input_grad[0]:
            of_values = (given @ weight).addmm_(inner, down).unflatten(0, values.shape[:-1])
        of_up = (given.t() @ reduced).mul_(ctx.scale)
        return of_values, None, None, inner.t() @ rows, of_up, None


class GatedUnit(torch.autograd.Function):
    """`silu(gate) * up`, both of one shape."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return nn.functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        (given,) = gradients
        of_gate = torch.ops.aten.silu_backward(given * up, gate)
        return of_gate, nn.functional.silu(gate).mul_(given)
