"""Plain fine-tuning, NEFTune and CEFTune as objects with one `forward`; the loop knows none of them.

    plain     CE(clean)
    NEFTune   CE(noisy)                                                        arXiv 2310.05914
    CEFTune   CE(noisy) + lambda * R(noisy, stopgrad(clean))                   arXiv 2311.15876

R compares predictions from noisy and clean embeddings under the same weights. The paper's R could not be read in
full; `kl` is KL(clean || noisy) of the token distributions over the answer, `hidden` is 1 - cos of the mean-pooled last
hidden states over the answer, `sbert` 1 - cos in the space of a sentence encoder. R is logged: a value near zero means
that the term does nothing.

Sums are divided by the answer tokens (`hidden`, `sbert`: documents) of the whole optimizer step, so adding up the
micro-batches of all workers gives the exact mean whatever the accumulation and sharding.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from rollama.core.registry import Consistency, TextMethod
from rollama.text.batch import TextBatch
from rollama.text.config import TextConfig
from rollama.text.loss import hidden_distance
from rollama.text.model import AnswerLoss
from rollama.text.noise import Noise
from rollama.text.sentence import SentenceSpace
from rollama.training.loop import evaluating

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
        return result.total / batch.global_tokens, _metrics(result, batch)


class CeftuneMethod:
    """NEFTune with consistency to a clean pass of the same weights.

    With `consistency_every` k, only every k-th step has the clean pass, and k times the weight: the same in the mean.
    """

    def __init__(self, config: TextConfig, sentences: SentenceSpace | None = None) -> None:
        if config.consistency is Consistency.SBERT and sentences is None:
            raise ValueError("consistency sbert needs a sentence encoder")
        self.noise = Noise(config.noise_alpha, config.seed)
        self.consistency = config.consistency
        self.sentences = sentences if config.consistency is Consistency.SBERT else None
        self.every, self.weight = config.consistency_every, config.consistency_weight * config.consistency_every

    def forward(self, module: nn.Module, batch: TextBatch) -> Step:
        """See `TextTrainingMethod`; metrics: ce, noise_ratio and, on steps that have it, consistency (R)."""
        if batch.step % self.every:
            result = module(batch, noise=self.noise)
            return result.total / batch.global_tokens, _metrics(result, batch)
        with torch.no_grad(), evaluating(module):
            clean = module(batch, states_only=True).detach()
        if self.consistency is Consistency.KL:
            result = module(batch, noise=self.noise, clean=clean, weight=self.weight)
            metrics = {**_metrics(result, batch), "consistency": result.divergence / batch.global_tokens}
            return result.total / batch.global_tokens, metrics
        if self.sentences is not None:
            result = module(batch, noise=self.noise, clean=clean, matrix=self.sentences.matrix)
            distance = self.sentences.distance(
                result.expected.noisy, result.expected.clean, batch.answer_document, len(batch.documents)
            )
        else:
            result = module(batch, noise=self.noise)
            distance = hidden_distance(result.hidden, clean, batch.answer_document, len(batch.documents))
        distance = distance / batch.global_documents
        loss = result.total / batch.global_tokens + self.weight * distance
        return loss, {**_metrics(result, batch), "consistency": distance.detach()}


def _metrics(result: AnswerLoss, batch: TextBatch) -> dict[str, torch.Tensor]:
    return {
        "ce": result.cross_entropy / batch.global_tokens,
        "noise_ratio": result.noise_ratio.sum() / batch.global_documents,
    }


def build_method(config: TextConfig, sentences: SentenceSpace | None = None) -> TextTrainingMethod:
    """The method that the configuration names; the space `sbert` needs its sentence encoder."""
    match config.method:
        case TextMethod.PLAIN:
            return PlainMethod()
        case TextMethod.NEFTUNE:
            return NeftuneMethod(config.noise_alpha, config.seed)
        case TextMethod.CEFTUNE:
            return CeftuneMethod(config, sentences)
