"""The four ways to train the segmentation network, as small objects that the training loop calls.

* vision: no text. The bound that a plan-guided model must beat.
* plain: the plan as it is.
* NESEG (SEG+): noise on the plan's token embeddings.
* CESEG (SEG++): NESEG plus R = 1 - cosine of noisy and clean `<SEG>` embeddings. The encoder is frozen, so R trains
  the learnable prompts and nothing else; its size and its gradient on them are logged, because an R near zero without
  gradient would mean that CESEG is NESEG. Two other R, of image features and of masks, train the network too.

All values are shares of the global mean over cases: the case's value times `batch.weight`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from rollama.core.registry import SegMethod
from rollama.segmentation.config import SegConfig, SegConsistency
from rollama.segmentation.loss import (
    CaseLoss,
    contested_loss,
    feature_consistency,
    hard_dice,
    mask_consistency,
    text_consistency,
)
from rollama.segmentation.model import SegBatch, SegOutput

Shares = tuple[torch.Tensor, Mapping[str, torch.Tensor]]


class VisionMethod:
    """Dice and cross-entropy of the mask; also the common part of the other methods."""

    name = SegMethod.VISION
    noise = False

    def __init__(self, config: SegConfig) -> None:
        self.config = config
        self.case_loss = CaseLoss(config.dice_smooth)

    def forward(self, module: torch.nn.Module, batch: SegBatch) -> Shares:
        """Loss and metrics of a micro-batch, as shares of the global mean."""
        amp = self.config.amp == "bfloat16"
        with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=amp):
            output: SegOutput = module(batch, clean=self.needs_clean(batch))
        mask = (self.case_loss(output.logits, batch.target) * batch.weight).sum()
        metrics = {"dice_ce": mask.detach(), "dice": (hard_dice(output.logits, batch.target) * batch.weight).sum()}
        if self.config.edit_weight:  # also where nothing is contested: every rank logs the same metrics
            where = torch.zeros_like(batch.target) if batch.contested is None else batch.contested
            obeyed = contested_loss(output.logits, batch.target, where, self.config.dice_smooth)
            obeyed = (obeyed * batch.weight).sum()
            metrics["contested"] = obeyed.detach()
            mask = mask + self.config.edit_weight * obeyed
        extra, more = self.text_terms(module, output, batch)
        loss = mask if extra is None else mask + extra
        return loss, {**metrics, **more}

    def needs_clean(self, batch: SegBatch) -> bool:
        """Whether the plan is read without noise as well."""
        del batch
        return False

    def text_terms(
        self, module: torch.nn.Module, output: SegOutput, batch: SegBatch
    ) -> tuple[torch.Tensor | None, dict[str, torch.Tensor]]:
        """What the method adds to the loss, and what it logs about the text."""
        del module, output, batch  # the methods with noise use them
        return None, {}


class PlainMethod(VisionMethod):
    """Plan-guided, no noise."""

    name = SegMethod.PLAIN


class NesegMethod(PlainMethod):
    """Noise on the plan's token embeddings."""

    name = SegMethod.NESEG
    noise = True

    def text_terms(
        self, module: torch.nn.Module, output: SegOutput, batch: SegBatch
    ) -> tuple[torch.Tensor | None, dict[str, torch.Tensor]]:
        """Logs the noise-to-embedding ratio (root mean squares)."""
        del module
        assert output.text is not None
        return None, {"noise_ratio": (output.text.noise_ratio * batch.weight).sum().detach()}


class CesegMethod(NesegMethod):
    """NESEG with the consistency of noisy and clean plan embeddings."""

    name = SegMethod.CESEG

    def needs_clean(self, batch: SegBatch) -> bool:
        """R of the text trains the prompts only, so it waits for steps that do."""
        return batch.learn_prompts or self.config.consistency is not SegConsistency.TEXT

    def text_terms(
        self, module: torch.nn.Module, output: SegOutput, batch: SegBatch
    ) -> tuple[torch.Tensor | None, dict[str, torch.Tensor]]:
        """R times its weight; logs R, now and then the norm of its gradient on the prompts."""
        _, metrics = super().text_terms(module, output, batch)
        if not self.needs_clean(batch):
            return None, metrics
        value = (self._distance(output) * batch.weight).sum()
        metrics["consistency"] = value.detach()
        if batch.probe:
            network: Any = getattr(module, "module", module)  # inside DDP
            (gradient,) = torch.autograd.grad(value, network.text_encoder.prompts, retain_graph=True)
            # A sum over micro-batches and ranks: an upper bound of the norm of the summed gradient.
            metrics["consistency_gradient"] = gradient.norm().detach()
        return self.config.consistency_weight * value, metrics

    def _distance(self, output: SegOutput) -> torch.Tensor:
        if self.config.consistency is SegConsistency.TEXT:
            assert output.text is not None
            assert output.text.clean is not None
            return text_consistency(output.text.used.at_seg, output.text.clean.at_seg)
        assert output.clean is not None
        if self.config.consistency is SegConsistency.FEATURE:
            return feature_consistency(output.deepest, output.clean.deepest)
        return mask_consistency(output.logits, output.clean.logits)


METHODS: dict[SegMethod, type[VisionMethod]] = {
    kind.name: kind for kind in (VisionMethod, PlainMethod, NesegMethod, CesegMethod)
}


def build_method(config: SegConfig) -> VisionMethod:
    """The method that the configuration names."""
    return METHODS[config.method](config)
