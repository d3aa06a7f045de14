"""NEFTune's noise (arXiv 2310.05914), keyed by the document it belongs to.

Known implementations scale the noise by the padded or packed length, put noise on padding, and draw from the global
generator, so that it changes with the batch, the rank and a resume. Here each document has its own generator, seeded
by (seed, epoch, case id), and its own length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from rollama.core.seeding import derive_seed
from rollama.text.batch import Document, TextBatch


@dataclass(frozen=True)
class Noise:
    """`alpha / sqrt(L_i * C) * U(-1, 1)` on the L_i real tokens of document i, C wide; zero on padding."""

    alpha: float
    seed: int

    def draw(self, batch: TextBatch, width: int) -> torch.Tensor:
        """Noise of shape (B, T, width), float32, on the batch's device; drawn on the CPU to be equal everywhere."""
        noise = torch.zeros(*batch.ids.shape, width)
        for document in batch.documents:
            key = derive_seed(self.seed, document.epoch, document.case_id, "noise")
            uniform = torch.rand(document.length, width, generator=torch.Generator().manual_seed(key))
            scale = self.alpha / math.sqrt(document.length * width)
            noise[document.place] = uniform.mul_(2).sub_(1).mul_(scale)
        return noise.to(batch.ids.device)


def document_rms(values: torch.Tensor, documents: tuple[Document, ...]) -> torch.Tensor:
    """Root mean square of each document's real tokens: (B, T, C) -> (D,), float32."""
    return torch.stack([values[document.place].detach().float().square().mean().sqrt() for document in documents])
