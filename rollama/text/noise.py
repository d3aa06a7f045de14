"""NEFTune's noise (arXiv 2310.05914), keyed by the row it belongs to.

Known implementations scale the noise by the padded or packed length, put noise on padding, and draw from the global
generator, so that it changes with the batch, the rank and a resume. Here each document has its own generator, seeded
by (seed, epoch, case id), and its own length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from rollama.core.seeding import derive_seed
from rollama.text.batch import TextBatch


@dataclass(frozen=True)
class Noise:
    """`alpha / sqrt(L_i * C) * U(-1, 1)` on the L_i real tokens of document i, C wide; zero on padding."""

    alpha: float
    seed: int

    def draw(self, batch: TextBatch, width: int) -> torch.Tensor:
        """Noise of shape (B, T, width), float32, on the batch's device; drawn on the CPU to be equal everywhere."""
        noise = torch.zeros(*batch.ids.shape, width)
        for index, (length, case_id, epoch) in enumerate(zip(batch.lengths, batch.case_ids, batch.epochs, strict=True)):
            generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch, case_id, "noise"))
            uniform = torch.rand(length, width, generator=generator).mul_(2).sub_(1)
            noise[index, :length] = uniform.mul_(self.alpha / math.sqrt(length * width))
        return noise.to(batch.ids.device)


def row_rms(values: torch.Tensor, lengths: tuple[int, ...]) -> torch.Tensor:
    """Root mean square of each row's real tokens: (B, T, C) -> (B,), float32."""
    return torch.stack(
        [row[:length].detach().float().square().mean().sqrt() for row, length in zip(values, lengths, strict=True)]
    )
