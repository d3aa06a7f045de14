"""NEFTune-style noise on the plan's token embeddings (NESEG, CESEG).

The published code noises every position, padding and `<SEG>` included; here only the plan's own tokens, as the paper
describes. The draw belongs to the case and epoch, never to a rank or a place in a batch (see `core.seeding`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from rollama.segmentation.config import NoiseScale


def noise_magnitude(alpha: float, scale: NoiseScale, tokens: int, width: int) -> float:
    """Half-width of the uniform noise: alpha/sqrt(L*C) (arXiv 2310.05914) or alpha/sqrt(C) (the authors' SEG code)."""
    return alpha / math.sqrt(tokens * width) if scale is NoiseScale.LC else alpha / math.sqrt(width)


def plan_noise(
    lengths: Sequence[int], seeds: Sequence[int], total: int, width: int, alpha: float, scale: NoiseScale
) -> torch.Tensor:
    """Noise for a batch of plans.

    Args:
        lengths: number of plan tokens of each row.
        seeds: one seed a row.
        total: padded length; positions from a row's length on stay zero.
        width: embedding size C.

    Returns:
        float32 (B, total, C) on the CPU, drawn in float32 whatever the encoder's precision.
    """
    noise = torch.zeros(len(lengths), total, width)
    for row, (length, seed) in enumerate(zip(lengths, seeds, strict=True)):
        generator = torch.Generator().manual_seed(seed)
        magnitude = noise_magnitude(alpha, scale, length, width)
        noise[row, :length] = (torch.rand(length, width, generator=generator) * 2 - 1) * magnitude
    return noise
