"""The frozen language model that reads a plan, with learnable prompts in front of the text.

Input of a row: `[BOS][prompt][plan text][<SEG>]`; output: the last hidden state at `<SEG>`, where a causal model has
seen everything. The language model never changes; gradients flow through it into the prompts (prompt tuning). It is
deliberately no sub-module: it is neither saved, nor broadcast by DDP, nor counted as trained.

It is also the largest cost of a training step on a CPU, so equal plans of a batch are encoded once, the clean pass
keeps no graph, and steps without `learn` keep none at all.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from rollama.core.errors import DataError
from rollama.core.seeding import derive_seed
from rollama.data.plan import Dose, Level, Plan, Side, Surgery, TargetWords, Technique, Volume, render_plan
from rollama.language.base import seg_token_id
from rollama.segmentation.config import SegConfig, TextForm, TextMode
from rollama.segmentation.noise import plan_noise

NAMES = {
    Level.L1: "axillary",
    Level.L2: "central",
    Level.L3: "infraclavicular",
    Level.L4: "supraclavicular",
    Level.INTERPECTORAL: "interpectoral",
    Level.IMN: "internal mammary",
}
"""Anatomical names of the levels, no two of which share a word or a stem."""


def encoder_text(plan: TargetWords | None, plan_text: str, form: TextForm) -> str:
    """The words of a plan that the encoder reads; free text (`plan is None`, or in full form no `Plan`) as it is.

    `target` says the side with every structure, as structure names do (Breast_L, LN_Ax_L3_L), and once more at the end.
    Said once, left against right moves the `<SEG>` state of a small encoder less than the training noise does.
    """
    if plan is None:
        return plan_text.strip()
    if form is TextForm.FULL:
        return render_plan(plan) if isinstance(plan, Plan) else plan_text.strip()
    side = plan.side
    volume = f"{side} {plan.volume}" if plan.volume else "none"
    levels = [NAMES[level] if form is TextForm.NAMES else str(level) for level in plan.levels]
    nodes = f"{', '.join(levels)} {side}" if levels else "none"
    guideline = f" Guideline: {plan.guideline}." if plan.guideline else ""
    return f"Side: {side}. Volumes: {volume}. Nodes: {nodes}.{guideline} Side: {side}."


def reference_texts(form: TextForm) -> list[str]:
    """Encoder texts of a fixed set of plans, to measure the mean and spread of their embeddings."""
    dose, technique = Dose(gy=40.05, fractions=15), Technique.VMAT
    nodes = ((), (Level.L3, Level.L4), (Level.L1, Level.L2, Level.L3, Level.L4), tuple(Level))
    plans = [
        Plan(side=side, surgery=surgery, volume=volume, levels=levels, dose=dose, technique=technique)
        for side in Side
        for surgery, volume in zip(Surgery, Volume, strict=True)
        for levels in nodes
    ]
    return [encoder_text(plan, "", form) for plan in plans]


@dataclass
class PlanTokens:
    """Tokenised plans: `ids` (B,L) int64, right-padded, plan tokens only; `lengths` (B); `noise` (B,L,H) or None."""

    ids: torch.Tensor
    lengths: torch.Tensor
    noise: torch.Tensor | None = None


class Words(NamedTuple):
    """What the alignment sees: `states` (B,P*T,H), T tokens for each of P prompts; `mask` (B,P*T), False at padding."""

    states: torch.Tensor
    mask: torch.Tensor | None = None

    def expand(self, rows: int) -> Words:
        """The same single text for a batch of `rows`."""
        return Words(self.states.expand(rows, -1, -1), None if self.mask is None else self.mask.expand(rows, -1))


class Encoded(NamedTuple):
    """`at_seg` (B,P,H): hidden states at `<SEG>`; `words`: what the alignment sees."""

    at_seg: torch.Tensor
    words: Words

    def rows(self, index: torch.Tensor) -> Encoded:
        """Some rows, each as often as `index` names it."""
        states, mask = self.words
        return Encoded(self.at_seg[index], Words(states[index], None if mask is None else mask[index]))


class TextFeatures(NamedTuple):
    """`used`: what the network gets, noisy if there is noise; `clean`: without noise and gradient, or None."""

    used: Encoded
    clean: Encoded | None
    noise_ratio: torch.Tensor
    """(B,) root mean square of the noise over that of the plan's embeddings; 0 without noise."""


class TextEncoder(nn.Module):
    """Learnable prompts and a frozen LLaMA-type model."""

    def __init__(self, config: SegConfig, base: Any, tokenizer: Any) -> None:
        super().__init__()
        self.config = config
        self._lock = threading.Lock()
        self.attach(base, tokenizer)
        self.width = int(base.config.hidden_size)
        self.kept: dict[str, Words] = {}
        table = self.decoder.embed_tokens.weight
        prompts = torch.empty(config.prompts, config.prompt_tokens, self.width, device=table.device)
        if not prompts.is_meta:  # as large as the base's own token embeddings, or the first layers are swamped
            generator = torch.Generator().manual_seed(derive_seed(config.seed, "prompts"))
            prompts = torch.randn(prompts.shape, generator=generator) * float(table.float().std())
        self.prompts = nn.Parameter(prompts)

    def attach(self, base: Any, tokenizer: Any) -> None:
        """Take the frozen language model and its tokenizer."""
        decoder = base.model
        decoder.requires_grad_(False)
        decoder.eval()
        object.__setattr__(self, "decoder", decoder)  # not registered on purpose, see the module docstring
        self.tokenizer = tokenizer
        self.seg = seg_token_id(tokenizer) if tokenizer is not None else 0
        bos = tokenizer.bos_token_id if tokenizer is not None else 1
        self.bos = int(bos if bos is not None else tokenizer.eos_token_id)

    decoder: Any

    def ready(self) -> None:
        """Make sure that texts can be encoded; here they can."""

    def tokenize(self, texts: Sequence[str], noise_keys: Sequence[tuple[int | str, ...]] | None = None) -> PlanTokens:
        """Token ids of plan texts, and their noise when keys are given (one a text).

        Raises:
            DataError: a text is empty or longer than `max_text_tokens`; it is never cut, a cut plan is another plan.
        """
        with self._lock:  # batches are made ahead in another thread, and tokenizers are not safe between threads
            rows = [self.tokenizer(text, add_special_tokens=False).input_ids for text in texts]
        for row in rows:
            if not 0 < len(row) <= self.config.max_text_tokens:
                raise DataError(
                    f"plan text of {len(row)} tokens; the segmentation model reads 1 to {self.config.max_text_tokens} "
                    "(max_text_tokens); shorten the text"
                )
        lengths = [len(row) for row in rows]
        ids = torch.full((len(rows), max(lengths)), self.bos, dtype=torch.long)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = torch.tensor(row)
        noise = None
        if noise_keys is not None:
            seeds = [derive_seed(*key) for key in noise_keys]
            noise = plan_noise(
                lengths, seeds, max(lengths), self.width, self.config.noise_alpha, self.config.noise_scale
            )
        return PlanTokens(ids, torch.tensor(lengths), noise)

    def forward(self, plan: PlanTokens, clean: bool = False, learn: bool = True) -> TextFeatures:
        """Encode plans.

        Args:
            plan: from `tokenize`; with noise, `used` is noisy.
            clean: also give the embeddings without noise and without gradient.
            learn: whether gradients may reach the prompts.
        """
        embedded = self.decoder.embed_tokens(plan.ids)
        training = torch.is_grad_enabled()
        reference = None
        if clean or plan.noise is None:
            with torch.set_grad_enabled(training and learn and plan.noise is None):
                unique, inverse = _unique_rows(plan)
                reference = self._run(embedded[unique], plan.lengths[unique]).rows(inverse)
        if plan.noise is None:
            assert reference is not None
            used, ratio = reference, reference.at_seg.new_zeros(len(plan.ids))
            reference = (
                Encoded(used.at_seg.detach(), Words(used.words.states.detach(), used.words.mask)) if clean else None
            )
        else:
            noise = plan.noise.to(embedded.device)
            with torch.set_grad_enabled(training and learn):
                used = self._run(embedded + noise.to(embedded.dtype), plan.lengths)
            ratio = _noise_ratio(embedded, noise, plan.lengths)
        if training and not learn:
            words = used.words  # every trained weight takes part in every backward pass (DDP)
            used = Encoded(used.at_seg, Words(words.states + 0.0 * self.prompts.sum(), words.mask))
        return TextFeatures(used, reference, ratio)

    def _run(self, plan: torch.Tensor, lengths: torch.Tensor) -> Encoded:
        """Hidden states in float32 from embedded plan tokens (B,L,H)."""
        rows, total, width = plan.shape
        count, context = self.config.prompts, self.config.prompt_tokens
        special = self.decoder.embed_tokens(torch.tensor([self.bos, self.seg], device=plan.device))
        body = torch.cat([plan, special[1].expand(rows, 1, width)], 1)
        lengths = lengths.to(plan.device)
        # <SEG> goes right after each row's own text; what follows it is invisible to it (causal attention).
        body = torch.where(
            torch.arange(total + 1, device=plan.device)[None, :, None] == lengths[:, None, None], special[1], body
        )
        prompts = self.prompts.to(plan.dtype)
        inputs = torch.cat(
            [
                special[0].expand(rows, count, 1, width),
                prompts[None].expand(rows, count, context, width),
                body[:, None].expand(rows, count, total + 1, width),
            ],
            dim=2,
        ).flatten(0, 1)
        # Given explicitly, because Transformers looks into the data otherwise, which the meta device has not.
        causal = torch.ones(inputs.shape[1], inputs.shape[1], dtype=torch.bool, device=plan.device).tril()[None, None]
        with torch.autocast("cuda" if plan.is_cuda else "cpu", enabled=False):  # the base keeps its own precision
            hidden = self.decoder(inputs_embeds=inputs, attention_mask=causal, use_cache=False).last_hidden_state
        place = (1 + context + lengths).repeat_interleave(count)
        at_seg = hidden[torch.arange(rows * count, device=plan.device), place]
        at_seg = at_seg.unflatten(0, (rows, count)).float()
        if self.config.text_mode is TextMode.SEG_TOKEN:
            return Encoded(at_seg, Words(at_seg))
        states = hidden[:, 1 + context :].float().unflatten(0, (rows, count)).flatten(1, 2)
        inside = torch.arange(total + 1, device=plan.device) <= lengths[:, None]  # <SEG> at the end included
        return Encoded(at_seg, Words(states, inside.repeat(1, count)))


def _noise_ratio(embedded: torch.Tensor, noise: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """(B,) root mean square of the noise over that of the embeddings, over each row's own tokens."""
    inside = torch.arange(noise.shape[1], device=noise.device) < lengths.to(noise.device)[:, None]
    power = (embedded.float().square().mean(-1) * inside).sum(1)
    return ((noise.square().mean(-1) * inside).sum(1) / power.clamp(min=1e-12)).sqrt()


def _unique_rows(plan: PlanTokens) -> tuple[torch.Tensor, torch.Tensor]:
    """First row of every distinct plan, and each row's place among them."""
    if plan.ids.is_meta:
        every = torch.arange(len(plan.ids))
        return every, every
    seen: dict[tuple[int, ...], int] = {}
    first: list[int] = []
    inverse = []
    for index, (row, length) in enumerate(zip(plan.ids.tolist(), plan.lengths.tolist(), strict=True)):
        key = tuple(row[:length])
        if key not in seen:
            seen[key] = len(first)
            first.append(index)
        inverse.append(seen[key])
    return torch.tensor(first), torch.tensor(inverse)
