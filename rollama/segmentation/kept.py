"""What decides a target takes few words, so what the frozen language model makes of them can be kept with the model.

A side, a breast or chest wall, some levels and a guideline: that is a thousand texts, or 48 where each structure is
asked for by itself. With `keep_texts` their embeddings lie in the artefact, exactly as the encoder gives them, and
whoever applies the model needs no language model: of the published size that is 13 GB less. Only a text that is not
among them (free text, to a model that was trained on such) still loads it.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rollama.core.config import hash_text
from rollama.core.errors import DataError
from rollama.data.plan import Guideline, Level, Side, Structures, Volume, structures
from rollama.segmentation.config import SegConfig, TextMode
from rollama.segmentation.text_encoder import PlanTokens, TextEncoder, TextFeatures, Words, encoder_text

FILE = "words.safetensors"
"""Beside the weights: SHA-256 of a text -> its states (P*T,H) in the encoder's precision."""


def countable_texts(config: SegConfig) -> list[str]:
    """Every text that the encoder of a model of plans is given in use (`text_form` target or names)."""
    every = [
        Structures(side, volume, levels, guideline)
        for side in Side
        for guideline in (None, *Guideline)
        for volume in (None, *Volume)
        for count in range(len(Level) + 1)
        for levels in itertools.combinations(Level, count)
    ]
    if config.inference.composed:
        asked = dict.fromkeys(one for some in every for one in structures(some))
    else:
        asked = dict.fromkeys(some for some in every if some.volume or some.levels)
    return [encoder_text(one, "", config.text_form) for one in asked]


@torch.inference_mode()
def encode_all(encoder: TextEncoder, config: SegConfig, device: torch.device) -> dict[str, torch.Tensor]:
    """The contents of `FILE`. A text that is too long for the model is left out: it is refused in use as well."""
    found, precision = {}, getattr(torch, config.encoder_dtype)
    texts = {hash_text(text): text for text in countable_texts(config)}
    if not texts.keys() <= encoder.kept.keys():
        encoder.ready()
    for key, text in texts.items():
        words = encoder.kept.get(key)
        if words is None:
            try:
                tokens = encoder.tokenize([text])
            except DataError:
                continue
            tokens.ids = tokens.ids.to(device)
            words = encoder(tokens).used.words
        found[key] = words.states[0].to(precision)  # where it came from: nothing is rounded
    return found


def read_kept(folder: Path, config: SegConfig, device: torch.device) -> dict[str, Words]:
    """What an artefact keeps, in the encoder's precision; empty where it keeps nothing. Its hash has been checked."""
    from safetensors.torch import load_file

    if not (folder / FILE).is_file():
        return {}
    found = {}
    for key, states in load_file(folder / FILE).items():
        row = states[None].to(device)
        every = torch.ones(row.shape[:2], dtype=torch.bool, device=device)
        found[key] = Words(row, every if config.text_mode is TextMode.ALL_TOKENS else None)
    return found


class LateEncoder(TextEncoder):
    """An encoder that knows some texts, and loads its language model when it is first asked for another."""

    def __init__(
        self, config: SegConfig, width: int, kept: Mapping[str, Words], load: Callable[[], tuple[Any, Any]]
    ) -> None:
        """Begin without a language model.

        Args:
            config: the model's.
            width: of the language model's states.
            kept: see `read_kept`.
            load: gives the language model and its tokenizer, or raises what `load_base` does.
        """
        nn.Module.__init__(self)
        self.config, self.width, self.kept = config, width, dict(kept)
        self._lock, self._coming, self._load = threading.Lock(), threading.Lock(), load
        self.loaded = False
        self.prompts = nn.Parameter(torch.empty(config.prompts, config.prompt_tokens, width))

    def tokenize(self, texts: Sequence[str], noise_keys: Sequence[tuple[int | str, ...]] | None = None) -> PlanTokens:
        """As `TextEncoder.tokenize`."""
        self.ready()
        return super().tokenize(texts, noise_keys)

    def forward(self, plan: PlanTokens, clean: bool = False, learn: bool = True) -> TextFeatures:
        """As `TextEncoder.forward`."""
        self.ready()
        return super().forward(plan, clean, learn)

    def ready(self) -> None:
        """Load the language model if it is not here; raises what `load` does."""
        with self._coming:
            if not self.loaded:
                self.attach(*self._load())
                self.loaded = True
