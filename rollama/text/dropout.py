"""Dropout on the adapter whose masks belong to documents.

`torch.nn.Dropout` draws from the global generator: its mask of a text depends on the texts beside it, on the rank and
on what was drawn before, so a packed, resharded or resumed run is another run. Here the mask of a document in a layer
is drawn from a generator keyed by (seed, epoch, case id, layer). The same key gives the same mask when activations are
computed again in the backward pass.

Masks are drawn on the device of the activations: equal on any number of devices of one kind, but a CPU and a GPU draw
different ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from rollama.core.seeding import derive_seed
from rollama.text.batch import TextBatch


class CurrentBatch:
    """Which batch is in the module now; set before each pass, read by every dropout layer."""

    batch: TextBatch | None = None


class DocumentDropout(nn.Module):
    """Zero each element with probability `p` and scale the rest by 1 / (1 - p), in training mode only."""

    def __init__(self, p: float, seed: int, layer: str, current: CurrentBatch) -> None:
        super().__init__()
        self.p, self.seed, self.layer, self.current = p, seed, layer, current

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(B, T, C) -> (B, T, C).

        Raises:
            RuntimeError: in training mode outside a pass of `TextModule`.
        """
        if not self.training:
            return values
        if self.current.batch is None:
            raise RuntimeError(f"{self.layer}: dropout without a batch to key it by")
        mask = torch.zeros_like(values)
        for document in self.current.batch.documents:
            key = derive_seed(self.seed, document.epoch, document.case_id, "dropout", self.layer)
            generator = torch.Generator(values.device).manual_seed(key)
            drawn = torch.rand(document.length, values.shape[-1], generator=generator, device=values.device)
            mask[document.place] = (drawn >= self.p).to(values.dtype)
        return values * mask / (1 - self.p)


def key_dropout(lm: Any, seed: int, current: CurrentBatch) -> int:
    """Replace the LoRA dropout of every layer of a PEFT model; returns how many were replaced."""
    from peft.tuners.lora import LoraLayer

    replaced = 0
    for name, layer in lm.named_modules():
        if isinstance(layer, LoraLayer):
            for adapter, part in layer.lora_dropout.items():
                if isinstance(part, nn.Dropout):
                    layer.lora_dropout[adapter] = DocumentDropout(part.p, seed, name, current)
                    replaced += 1
    return replaced
