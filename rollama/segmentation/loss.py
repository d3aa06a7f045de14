"""Dice and cross-entropy of each case, and the consistency of what noisy and clean plans lead to.

One output channel with a sigmoid: two softmax classes (the published head) are the same model, as only the difference
of the two logits counts, at twice the memory of the largest tensor.

A plan without target is a valid case with an empty mask. The soft Dice of an empty mask has almost no gradient with
the usual smoothing of 1e-5; smoothing by some voxels (`dice_smooth`) gives it one where it matters, when few voxels are
left to clear, and changes the Dice of a real target of thousands of voxels by less than a percent.
"""

from __future__ import annotations

import torch

from rollama.data.monai_parts import DiceCELoss


class CaseLoss:
    """Dice + binary cross-entropy (MONAI's DiceCELoss) of every case by itself."""

    def __init__(self, smooth: float) -> None:
        self.criterion = DiceCELoss(sigmoid=True, smooth_nr=smooth, smooth_dr=smooth)

    def __call__(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Loss of each case, (B,), from logits and target of shape (B,1,x,y,z)."""
        rows = zip(logits.float().split(1), target.float().split(1), strict=True)
        return torch.stack([self.criterion(row, wanted) for row, wanted in rows])


def contested_loss(logits: torch.Tensor, target: torch.Tensor, contested: torch.Tensor, smooth: float) -> torch.Tensor:
    """Cross-entropy of each case where only the plan decides, (B,); 0 where no voxel is contested.

    A nodal level is a hundredth of the target: in the loss of the whole mask obeying the plan there hardly counts.
    All of (B,1,x,y,z); `smooth` voxels are added to the number of contested ones, so that three of them do not count
    as much as three thousand.
    """
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")
    where = contested.float()
    return (each * where).flatten(1).sum(1) / (where.flatten(1).sum(1) + smooth)


def text_consistency(noisy: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """R of each case, (B,): 1 - cosine of the `<SEG>` embeddings (B,P,C), averaged over the prompts.

    The clean embeddings are the target: no gradient flows into them. The encoder is frozen: R trains the prompts only.
    """
    return (1 - torch.nn.functional.cosine_similarity(noisy, clean.detach(), dim=-1)).mean(dim=1)


def feature_consistency(noisy: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """1 - cosine of each case's pooled features: (B,C), (B,C) -> (B,); no gradient into `clean`."""
    return 1 - torch.nn.functional.cosine_similarity(noisy, clean.detach(), dim=-1)


def mask_consistency(noisy: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """Distance of two predicted masks, from logits (B,1,x,y,z) to (B,): sum (p-q)^2 over sum p^2 + q^2.

    Zero only for equal probabilities, 1 for masks that do not touch; empty background does not dilute it.
    """
    p, q = (torch.sigmoid(logits.float()).flatten(1) for logits in (noisy, clean.detach()))
    return (p - q).square().sum(1) / (p.square() + q.square()).sum(1).clamp(min=1e-6)


def hard_dice(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Dice of each case where `logits` above 0 count as target, (B,), for the log; 1 where both masks are empty."""
    predicted, wanted = (logits > 0).flatten(1), (target > 0.5).flatten(1)
    total = predicted.sum(1) + wanted.sum(1)
    both = (predicted & wanted).sum(1)
    return torch.where(total > 0, 2 * both / total.clamp(min=1), torch.ones_like(total, dtype=torch.float32))
