"""The trained module: a LLaMA-type causal LM, with LoRA or whole, that computes states and loss of answer tokens.

The noise enters through an explicit `inputs_embeds` path: a hook on the embedding layer (the usual way) depends on
`module.training`, is bypassed silently by some call paths, and sees neither document lengths nor keys.

Embedding, blocks, head and loss are all inside one module's `forward`, because DeepSpeed gathers partitioned
parameters through hooks on modules.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from rollama.core.errors import CheckpointError
from rollama.core.seeding import derive_seed
from rollama.language.architectures import meta_base
from rollama.language.base import BaseInfo, load_base
from rollama.text.attention import use_document_attention
from rollama.text.batch import TextBatch
from rollama.text.config import LoraSection, TextConfig
from rollama.text.dropout import CurrentBatch, key_dropout
from rollama.text.fused import fuse
from rollama.text.loss import AnswerHead, Expected
from rollama.text.noise import Noise, document_rms

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
ADAPTER = "default"
"""PEFT's name of the adapter that is trained."""


class AnswerLoss(NamedTuple):
    """What a training pass returns. Sums run over this micro-batch's answer tokens.

    Attributes:
        total: cross-entropy + weight * KL, with gradient.
        cross_entropy, divergence: its two parts, without gradient.
        hidden: (A, H) last hidden states, with gradient.
        noise_ratio: (D,) root mean square of each document's noise over that of its embeddings.
        expected: predictions in another embedding space, where one was given.
    """

    total: torch.Tensor
    cross_entropy: torch.Tensor
    divergence: torch.Tensor
    hidden: torch.Tensor
    noise_ratio: torch.Tensor
    expected: Expected | None = None


class TextModule(nn.Module):
    """A causal LM (plain or wrapped by PEFT) with its answer loss."""

    def __init__(self, lm: Any, loss_chunk: int, current: CurrentBatch | None = None) -> None:
        super().__init__()
        self.lm = lm
        self.current = current or CurrentBatch()
        self.head = AnswerHead(self._causal().lm_head.weight, loss_chunk)

    def _causal(self) -> Any:
        return self.lm.get_base_model() if hasattr(self.lm, "get_base_model") else self.lm

    def forward(
        self,
        batch: TextBatch,
        noise: Noise | None = None,
        clean: torch.Tensor | None = None,
        weight: float = 0.0,
        states_only: bool = False,
        matrix: torch.Tensor | None = None,
    ) -> AnswerLoss | torch.Tensor:
        """One pass.

        Args:
            batch: D documents in B x T tokens with A answer tokens.
            noise: added to the token embeddings.
            clean: (A, H) states of a clean pass, for the KL term.
            weight: weight of the KL term in `total`.
            states_only: return the (A, H) states and leave the head out.
            matrix: (V, S) embeddings of the vocabulary in another space; `expected` is then given, and no KL.
        """
        causal = self._causal()
        self.current.batch = batch
        embeddings = causal.get_input_embeddings()(batch.ids)
        ratio = torch.zeros(len(batch.documents), device=embeddings.device)
        if noise is not None:
            drawn = noise.draw(batch, embeddings.shape[-1])
            norms = document_rms(embeddings, batch.documents).clamp(min=1e-12)
            ratio = document_rms(drawn, batch.documents) / norms
            embeddings = embeddings + drawn.to(embeddings.dtype)
        states = causal.model(
            inputs_embeds=embeddings, position_ids=batch.token_positions, use_cache=False, spans=batch.spans
        ).last_hidden_state
        hidden: torch.Tensor = states.flatten(0, 1)[batch.positions]
        if states_only:
            return hidden
        result = self.head(hidden, batch.targets, clean, weight, matrix)
        if isinstance(result, Expected):
            entropy = result.cross_entropy
            return AnswerLoss(entropy, entropy.detach(), torch.zeros_like(entropy), hidden, ratio, result)
        total, entropy, divergence = result
        return AnswerLoss(total, entropy, divergence, hidden, ratio)


def build_module(config: TextConfig) -> tuple[TextModule, Any, BaseInfo]:
    """Load the base and prepare it for training: (module in train mode on the CPU, tokenizer, base info).

    The adapter's first values depend on `config.seed` only.

    Raises:
        ConfigError: the base is not here (see `load_base`).
    """
    lm, tokenizer, info = load_base(config.base, DTYPES[config.dtype], config.allow_download)
    module = _wrap(lm, config)
    module.train()
    return module, tokenizer, info


def build_meta(config: TextConfig) -> TextModule:
    """The same module without weights, every parameter on the meta device, to check a configuration at any size."""
    with torch.device("meta"):
        return _wrap(meta_base(config.base, DTYPES[config.dtype]), config)


def _wrap(lm: Any, config: TextConfig) -> TextModule:
    use_document_attention(lm)
    current = CurrentBatch()
    if config.activation_checkpointing:
        lm.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    if config.lora.enabled:
        lm = add_adapter(lm, config.lora, derive_seed(config.seed, "adapter"))
        key_dropout(lm, config.seed, current)
        if config.zero.stage < 3:
            fuse(lm)
    else:
        lm.requires_grad_(True)
    return TextModule(lm, config.loss_chunk, current)


def add_adapter(lm: Any, lora: LoraSection, seed: int, name: str = ADAPTER) -> Any:
    """Freeze the model and put a LoRA adapter on its linear layers; leaves the global generator untouched."""
    from peft import get_peft_model

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")  # PEFT 0.21 still reads it
        torch.manual_seed(seed)
        return get_peft_model(lm, lora_config(lora), adapter_name=name)


def lora_config(lora: LoraSection) -> Any:
    """PEFT's configuration of an adapter."""
    from peft import LoraConfig

    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        bias="none",
        task_type="CAUSAL_LM",
    )


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Name and parameter of everything that is trained, in a fixed order."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def lora_targets_found(module: nn.Module) -> dict[str, int]:
    """How many layers of each name carry an adapter, such as {"q_proj": 30, ...}."""
    found: dict[str, int] = {}
    for name in trained_parameters(module):
        parts = name.split(".")
        if "lora_A" in parts:
            layer = parts[parts.index("lora_A") - 1]
            found[layer] = found.get(layer, 0) + 1
    return found


def portable_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename trained parameters as PEFT (adapter) or Transformers (whole model) saves them.

    Raises:
        CheckpointError: an adapter whose every `lora_B` is zero: it was never trained, or not gathered.
    """
    renamed = {portable_name(name): value for name, value in tensors.items()}
    late = [value for name, value in renamed.items() if "lora_B" in name]
    if late and not any(bool(value.any()) for value in late):
        raise CheckpointError("every lora_B of the adapter is zero: nothing was trained")
    return renamed


def portable_name(name: str) -> str:
    """A trained parameter's name as PEFT or Transformers saves it."""
    return name.removeprefix("lm.").replace(f".{ADAPTER}.weight", ".weight")
