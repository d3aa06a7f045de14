"""Architectures of bases that presets name but this machine may not hold, for planning on the meta device.

Checking that LoRA finds its targets, that DeepSpeed accepts a configuration and how many parameters a preset has
must not need 13 GB of weights. A base found here is built without weights; any other is read from its folder.
"""

from __future__ import annotations

from typing import Any

import torch

from rollama.core.files import read_json
from rollama.language.base import base_folder

KNOWN: dict[str, dict[str, Any]] = {
    "meta-llama/Llama-2-7b-chat-hf": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
    },
    "meta-llama/Llama-3.1-8B-Instruct": {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
    },
}


def base_config(name: str) -> Any:
    """The `LlamaConfig` of a base, from KNOWN or from its folder."""
    from transformers import LlamaConfig

    if name in KNOWN:
        return LlamaConfig(**KNOWN[name])
    return LlamaConfig(**{k: v for k, v in read_json(base_folder(name) / "config.json").items() if k != "model_type"})


def meta_base(name: str, dtype: torch.dtype = torch.bfloat16) -> Any:
    """The base without weights: every parameter on the meta device."""
    from transformers import LlamaForCausalLM

    config = base_config(name)
    config.dtype = dtype
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    return model.to(dtype)
