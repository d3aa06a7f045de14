"""The plan-guided residual 3D U-Net: image stages aligned with a plan's text embedding.

A CT shows two breasts; only the plan says which to treat. Each encoder stage's features therefore meet the plan's
embedding in a two-way cross-attention before they go into the decoder (arXiv 2311.15876; the network of LLMSeg,
arXiv 2311.01908). Convolutions and an alignment without positions tell left from right by asymmetry at best, so image
features carry patient coordinates (`image_position: coordinates`); `none` is the published form.

Differences from the published network, on purpose: the last token-to-image attention, whose result is thrown away, is
left out (every weight gets a gradient, DDP needs no search for unused ones); with `strides[0] = 1` there is a
full-resolution stage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from rollama.core.registry import ImagePosition
from rollama.data.monai_parts import UnetResBlock, UnetrUpBlock
from rollama.segmentation.config import SegConfig, SegConsistency
from rollama.segmentation.normality import Normality
from rollama.segmentation.text_encoder import PlanTokens, TextEncoder, TextFeatures, Words, reference_texts


@dataclass
class SegBatch:
    """One micro-batch.

    Attributes:
        image: (B,1,x,y,z) float32, HU scaled to about [0,1]; (B,2,x,y,z) with an organ mask.
        target: (B,1,x,y,z) float32, 0 or 1.
        origin: (B,3) mm, centre of voxel (0,0,0) relative to the patient's centre.
        plan: tokenised plans, or None for the vision-only network.
        contested: (B,1,x,y,z) where another plan of the same CT has another target, or None where none was drawn.
        weight: (B,) share of each case in the global mean; 0 for cases that only pad a rank's share.
        learn_prompts: whether this step's gradients reach the prompts.
        probe: whether to log the norm of R's gradient this time (it costs one more pass back through the encoder).
        last: whether it is the step's last micro-batch on this rank (gradients are exchanged then).
        case_ids: the cases, for messages.
    """

    image: torch.Tensor
    target: torch.Tensor
    origin: torch.Tensor
    plan: PlanTokens | None
    weight: torch.Tensor
    learn_prompts: bool = True
    probe: bool = False
    last: bool = True
    case_ids: tuple[str, ...] = ()
    contested: torch.Tensor | None = None


class Segmented(NamedTuple):
    """Logits (B,1,x,y,z), and the deepest aligned features, mean-pooled over the image (B,C)."""

    logits: torch.Tensor
    deepest: torch.Tensor


class SegOutput(NamedTuple):
    """Logits (B,1,x,y,z), the embeddings that led to them, and what the clean plan leads to (without gradient)."""

    logits: torch.Tensor
    text: TextFeatures | None
    deepest: torch.Tensor
    clean: Segmented | None = None


FEW = 16
"""Tokens on one side up to which attention is written out."""


class Attention(nn.Module):
    """Multi-head attention with an inner width below the model's (SAM's form)."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, inner) for _ in range(3))
        self.out = nn.Linear(inner, width)

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B,M,C) from queries (B,M,C), keys and values (B,N,C). Cost and memory grow with M*N.

        `mask` (B,N): keys where it is False are not seen.
        """
        q, k, v = self._split(self.q(query)), self._split(self.k(key)), self._split(self.v(value))
        if min(q.shape[2], k.shape[2]) > FEW:
            mixed = nn.functional.scaled_dot_product_attention(
                q, k, v, None if mask is None else mask[:, None, None, :]
            )
        else:  # written out: with 2 text tokens on one side the fused kernels are slower, or copy the long side
            scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-1, -2)
            if mask is not None:
                scores = scores.masked_fill(~mask[:, None, None, :], -math.inf)
            mixed = scores.softmax(-1) @ v
        mixed = mixed.transpose(1, 2).flatten(2)
        result: torch.Tensor = self.out(mixed)
        return result

    def _split(self, tokens: torch.Tensor) -> torch.Tensor:
        rows, count, width = tokens.shape
        return tokens.reshape(rows, count, self.heads, width // self.heads).transpose(1, 2)


class TwoWayBlock(nn.Module):
    """Text self-attention, text-to-image attention, MLP, image-to-text attention, each with residual and LayerNorm."""

    def __init__(self, width: int, inner: int, heads: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attention = Attention(width, max(width, inner), heads)
        self.to_image = Attention(width, inner, heads)
        self.to_text = Attention(width, inner, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))

    def forward(
        self,
        text: torch.Tensor,
        image: torch.Tensor,
        text_pe: torch.Tensor,
        image_pe: torch.Tensor | None,
        mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Update text (B,T,C) and image tokens (B,N,C); `*_pe` are added to queries and keys; `mask` (B,T) of text."""
        if self.first:  # the text tokens are their own positional encoding; no residual yet
            text = self.self_attention(text, text, text, mask)
        else:
            query = text + text_pe
            text = text + self.self_attention(query, query, text, mask)
        text = self.norms[0](text)
        key = image if image_pe is None else image + image_pe
        text = self.norms[1](text + self.to_image(text + text_pe, key, image))
        text = self.norms[2](text + self.mlp(text))
        image = self.norms[3](image + self.to_text(key, text + text_pe, text, mask))
        return text, image


class Alignment(nn.Module):
    """Aligns one stage's image features with the plan: projection of the text, then `depth` two-way blocks.

    What a plan decides is a product: the voxel is on the left, and the plan says left. Attention between two random
    projections has almost no gradient towards a product, and training stands still until it has found one. With
    `alignment_gate` the plan first scales every channel (FiLM, arXiv 1709.07871, without its shift): the product of
    text and position from the first step.
    """

    def __init__(self, width: int, text_width: int, config: SegConfig) -> None:
        super().__init__()
        self.recompute = config.activation_checkpointing
        self.project = nn.Linear(text_width, width)
        self.gate = nn.Linear(text_width, width) if config.alignment_gate else None
        if self.gate is not None:  # begins as no scaling at all
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)
        inner, heads = max(width // 2, config.alignment_inner), config.alignment_heads
        self.blocks = nn.ModuleList(
            TwoWayBlock(width, inner, heads, index == 0) for index in range(config.alignment_depth)
        )

    def forward(self, image: torch.Tensor, text: Words, position: torch.Tensor | None) -> torch.Tensor:
        """Image features (B,C,x,y,z), text (B,T,H), position features (B,N,C) -> features of the image's shape."""
        tokens = image.flatten(2).transpose(1, 2)
        if self.gate is not None:
            tokens = tokens * (1 + self.gate(_mean(text)))[:, None]
        projected = self.project(text.states)
        words = projected
        for block in self.blocks:
            if self.recompute and self.training:
                words, tokens = checkpoint(block, words, tokens, projected, position, text.mask, use_reentrant=False)
            else:
                words, tokens = block(words, tokens, projected, position, text.mask)
        return tokens.transpose(1, 2).reshape(image.shape)


def _mean(text: Words) -> torch.Tensor:
    """Mean over a text's tokens, (B,H)."""
    if text.mask is None:
        return text.states.mean(1)
    seen = text.mask[..., None].to(text.states.dtype)
    return (text.states * seen).sum(1) / seen.sum(1).clamp(min=1)


class Coordinates(nn.Module):
    """Patient coordinates of every feature of a stage: linear terms and sines, projected to the stage's width."""

    def __init__(self, width: int, config: SegConfig, stride: int) -> None:
        super().__init__()
        self.scale, self.frequencies, self.stride = config.position_scale, config.position_frequencies, stride
        self.spacing = config.spacing
        self.project = nn.Linear(3 * (1 + 2 * self.frequencies), width)

    def forward(self, origin: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """(B,C,x,y,z) for features of spatial `shape` whose voxel (0,0,0) lies at `origin` (B,3) mm.

        Sines of separate axes: each axis is projected by itself and the three are added, so that a large grid costs
        one addition and not a tensor of all raw features.
        """
        parts = []
        for axis, size in enumerate(shape):
            step = self.stride * self.spacing[axis]
            mm = origin[:, axis, None] + step * torch.arange(size, device=origin.device, dtype=torch.float32)
            value = mm / self.scale
            waves = [value]
            for octave in range(self.frequencies):
                waves += [torch.sin(value * math.pi * 2.0**octave), torch.cos(value * math.pi * 2.0**octave)]
            columns = slice(axis * len(waves), (axis + 1) * len(waves))
            part = torch.stack(waves, -1) @ self.project.weight[:, columns].float().T  # (B, size, C)
            view = [origin.shape[0], part.shape[-1], 1, 1, 1]
            view[2 + axis] = size
            parts.append(part.transpose(1, 2).reshape(view))
        return parts[0] + parts[1] + parts[2] + self.project.bias[:, None, None, None]


class FineDetail(nn.Module):
    """A correction of the logits at full resolution, from the last features and the image itself.

    With a first stride of 2 no stage sees full resolution; a chest wall two voxels thin needs it. The correction starts
    at zero, so training begins as without it, and has no norm, so that it can grow as fast as the head.
    """

    def __init__(self, width: int, channels: int, inputs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(width, channels, 2, 2)
        self.image = nn.Conv3d(inputs, channels, 3, padding=1)
        self.merge = nn.Conv3d(channels, channels, 3, padding=1)
        self.last = nn.Conv3d(channels, 1, 1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, features: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """(B,1,x,y,z) from features (B,C,x/2,y/2,z/2) and the image (B,1,x,y,z)."""
        mixed = nn.functional.leaky_relu(self.up(features) + self.image(image), 0.01)
        result: torch.Tensor = self.last(nn.functional.leaky_relu(self.merge(mixed), 0.01))
        return result


class SegmentationNet(nn.Module):
    """Image stages, alignment, decoder; plus the learnable prompts in `text_encoder`."""

    def __init__(self, config: SegConfig, text_encoder: TextEncoder | None) -> None:
        super().__init__()
        self.config = config
        self.text_encoder = text_encoder
        channels, strides = config.channels, config.strides
        norm = ("instance", {"affine": True})
        inputs = (config.inputs, *channels[:-1])
        self.stages = nn.ModuleList(
            UnetResBlock(3, before, after, 3, stride, norm)
            for before, after, stride in zip(inputs, channels, strides, strict=True)
        )
        self.decoder = nn.ModuleList(
            UnetrUpBlock(3, channels[i], channels[i - 1], 3, 2, norm, res_block=True)
            for i in range(len(channels) - 1, 0, -1)
        )
        self.head = nn.ConvTranspose3d(channels[0], 1, 2, 2) if strides[0] == 2 else nn.Conv3d(channels[0], 1, 1)
        self.fine = FineDetail(channels[0], config.fine_channels, config.inputs) if config.fine_channels else None
        totals = [math.prod(strides[: i + 1]) for i in range(len(strides))]
        self.positions: nn.ModuleList | None = None
        if config.image_position is ImagePosition.COORDINATES:
            self.positions = nn.ModuleList(Coordinates(c, config, s) for c, s in zip(channels, totals, strict=True))
        self.normality = Normality()
        self.alignments: nn.ModuleList | None = None
        if text_encoder is not None:
            self.alignments = nn.ModuleList(Alignment(c, text_encoder.width, config) for c in channels)
            self.register_buffer("text_mean", torch.zeros(config.prompts, text_encoder.width))
            self.register_buffer("text_spread", torch.ones(config.prompts, text_encoder.width))

    text_mean: torch.Tensor
    text_spread: torch.Tensor

    @torch.no_grad()
    def calibrate(self) -> None:
        """Measure mean and spread of the plan embeddings over a fixed set of plans, once, before training.

        Hidden states of a language model share a large constant part and a few huge components; what tells one plan
        from another is small beside them. Centred and scaled, it is what the projections see from the first step.
        """
        assert self.text_encoder is not None
        tokens = self.text_encoder.tokenize(reference_texts(self.config.text_form))
        tokens.ids = tokens.ids.to(self.text_mean.device)
        states, mask = self.text_encoder(tokens).used.words
        rows = states.unflatten(1, (self.config.prompts, -1)).transpose(0, 1).flatten(1, 2)  # (P, texts * tokens, H)
        if mask is not None:
            rows = rows[:, mask[:, : states.shape[1] // self.config.prompts].flatten()]
        self.text_mean.copy_(rows.mean(1))
        self.text_spread.copy_(rows.std(1).clamp(min=1e-3))

    def forward(self, batch: SegBatch, clean: bool = False) -> SegOutput:
        """Logits for a batch; encodes its plans first. `clean` also encodes them without noise (CESEG)."""
        if self.text_encoder is None or batch.plan is None:
            found = self.segment(batch.image, batch.origin, None)
            return SegOutput(found.logits, None, found.deepest)
        text = self.text_encoder(batch.plan, clean=clean, learn=batch.learn_prompts)
        reference = None
        if text.clean is not None and self.config.consistency is not SegConsistency.TEXT:
            with torch.no_grad():
                reference = self.segment(batch.image, batch.origin, text.clean.words)
        found = self.segment(batch.image, batch.origin, text.used.words)
        return SegOutput(found.logits, text, found.deepest, reference)

    def segment(self, image: torch.Tensor, origin: torch.Tensor, text: Words | None) -> Segmented:
        """Logits and features from image (B,1 or 2,x,y,z), origin (B,3) in mm and text (None: vision only)."""
        if text is not None:
            states = text.states.unflatten(1, (self.config.prompts, -1)) - self.text_mean[:, None]
            text = Words((states / self.text_spread[:, None]).flatten(1, 2), text.mask)
        features = []
        current = image
        for index, stage in enumerate(self.stages):
            current = stage(current)
            features.append(self._align(index, current, origin, text))
        current = features[-1]
        deepest = current.float().mean((2, 3, 4))
        for block, skip in zip(self.decoder, features[-2::-1], strict=True):
            current = block(current, skip)
        result: torch.Tensor = self.head(current)
        if self.fine is not None:
            result = result + self.fine(current, image)
        return Segmented(result, deepest)

    def _align(self, index: int, image: torch.Tensor, origin: torch.Tensor, text: Words | None) -> torch.Tensor:
        position = None
        if self.positions is not None:
            position = self.positions[index](origin, image.shape[2:])
            image = image + position
        if self.alignments is None:
            return image
        if text is None:
            raise ValueError("a text-guided network needs the plan's embedding")
        encoding = None if position is None else position.flatten(2).transpose(1, 2)
        result: torch.Tensor = self.alignments[index](image, text, encoding)
        return result
