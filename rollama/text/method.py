"""Plain fine-tuning, NEFTune and CEFTune as objects with one `forward`; the loop knows none of them.

    plain     CE(clean)
    NEFTune   CE(noisy)                                                        arXiv 2310.05914
    CEFTune   CE(noisy) + lambda * R(noisy, stopgrad(clean))                   arXiv 2311.15876

R compares predictions from noisy and clean embeddings under the same weights. The paper's R could not be read in
full; `kl` is KL(clean || noisy) of the token distributions over the answer, `hidden` is 1 - cos of the mean-pooled last
hidden states over the answer. Both are logged: a value near zero means that the term does nothing.

Sums are divided by the answer tokens (`hidden`: rows) of the whole optimizer step, so adding up the micro-batches of
all workers gives the exact mean whatever the accumulation and sharding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import nn

from rollama.core.registry import Consistency, TextMethod
from rollama.core.seeding import derive_seed
from rollama.text.batch import TextBatch
from rollama.text.config import TextConfig
from rollama.text.loss import hidden_distance
from rollama.text.noise import Noise

Step = tuple[torch.Tensor, dict[str, torch.Tensor]]


class TextTrainingMethod(Protocol):
    """Loss with gradient and detached metrics of a micro-batch, both as shares of the step's global mean."""

    def forward(self, module: nn.Module, batch: TextBatch) -> Step: ...


class PlainMethod:
    """Cross-entropy of the answer."""

    def forward(self, module: nn.Module, batch: TextBatch) -> Step:
        """See `TextTrainingMethod`; metrics: ce."""
        result = module(batch)
        return result.total / batch.global_tokens, {"ce": result.cross_entropy / batch.global_tokens}


class NeftuneMethod:
    """Cross-entropy of the answer under noisy token embeddings."""

    def __init__(self, alpha: float, seed: int) -> None:
        self.noise = Noise(alpha, seed)

    def forward(self, module: nn.Module, batch: TextBatch) -> Step:
        """See `TextTrainingMethod`; metrics: ce, noise_ratio (noise over embedding, root mean squares)."""
        result = module(batch, noise=self.noise)
        return result.total / batch.global_tokens, {
            "ce": result.cross_entropy / batch.global_tokens,
            "noise_ratio": result.noise_ratio.sum() / batch.global_rows,
        }


class CeftuneMethod:
    """NEFTune with consistency to a clean pass of the same weights."""

    def __init__(self, alpha: float, seed: int, space: Consistency, weight: float) -> None:
        self.noise = Noise(alpha, seed)
        self.space, self.weight = space, weight

    def forward(self, module: nn.Module, batch: TextBatch) -> Step:
        """See `TextTrainingMethod`; metrics: ce, consistency (R without lambda), noise_ratio."""
        with torch.no_grad(), evaluating(module):
            clean = module(batch, states_only=True).detach()
        if self.space is Consistency.KL:
            result = module(batch, noise=self.noise, clean=clean, weight=self.weight)
            consistency = result.divergence / batch.global_tokens
            loss = result.total / batch.global_tokens
        else:
            result = module(batch, noise=self.noise)
            distance = hidden_distance(result.hidden, clean, batch.answer_row, len(batch.lengths)) / batch.global_rows
            consistency = distance.detach()
            loss = result.total / batch.global_tokens + self.weight * distance
        return loss, {
            "ce": result.cross_entropy / batch.global_tokens,
            "consistency": consistency,
            "noise_ratio": result.noise_ratio.sum() / batch.global_rows,
        }


class KeyedDropout:
    """A method under dropout whose masks depend on the rows of the micro-batch, not on when or where it runs."""

    def __init__(self, method: TextTrainingMethod, seed: int) -> None:
        self.method, self.seed = method, seed

    def forward(self, module: nn.Module, batch: TextBatch) -> Step:
        """The wrapped method's forward with the global generators seeded from the rows, and restored after."""
        keys = [f"{case_id}/{epoch}" for case_id, epoch in zip(batch.case_ids, batch.epochs, strict=True)]
        devices = [batch.ids.device] if batch.ids.is_cuda else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(derive_seed(self.seed, "dropout", *keys))
            return self.method.forward(module, batch)


def build_method(config: TextConfig) -> TextTrainingMethod:
    """The method that the configuration names."""
    method: TextTrainingMethod
    match config.method:
        case TextMethod.PLAIN:
            method = PlainMethod()
        case TextMethod.NEFTUNE:
            method = NeftuneMethod(config.noise_alpha, config.seed)
        case TextMethod.CEFTUNE:
            method = CeftuneMethod(config.noise_alpha, config.seed, config.consistency, config.consistency_weight)
    return KeyedDropout(method, config.seed) if config.lora.enabled and config.lora.dropout > 0 else method


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every sub-module's own mode again after."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
