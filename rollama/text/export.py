"""A trained S or P as a model that other programs load: adapter merged into its base, or the adapter for PEFT.

Merging in bfloat16 changes answers, because an adapter's update is smaller than the rounding of the weights. So the
merge is made in float32 whatever the run's arithmetic was, and the merged model's logits are compared with those of
base and adapter before the folder gets its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rollama import RESEARCH_ONLY
from rollama.core.errors import CheckpointError, ConfigError
from rollama.core.files import new_folder, write_json
from rollama.data.chat import Template, form_of
from rollama.data.prompts import build_instruction, build_prompt
from rollama.language.base import load_base
from rollama.text.adapters import check_keys, put_adapter
from rollama.text.checkpoint import adapter_config, check_base, load_text_model

TOLERANCE = 1e-3
"""Largest difference of a logit between the merged model and base plus adapter, float32."""
RECORD = "rollama.json"


def export_merged(folder: Path, out: Path, base: str | None = None, allow_download: bool = False) -> float:
    """Write a whole Transformers model in float32 with its tokenizer; return the largest difference of a logit.

    Args:
        folder: the artefact of S or P.
        out: folder to make; it must not be there.
        base: name or folder of the base where it differs from the name in the artefact; its hash must not.

    Raises:
        CheckpointError: damaged, trained on another base, or the merged model differs.
        ConfigError: the base is not here, or `out` is there already.
        DataError: it cannot be written.
    """
    _refuse_existing(out)
    artefact = load_text_model(folder)
    name = base or artefact.config.base
    lm, tokenizer, info = load_base(name, torch.float32, allow_download)
    check_base(artefact, info)
    form = form_of(tokenizer, artefact.config.template)
    ids = torch.tensor([form.prompt(artefact.task, "An invented text.")])
    if artefact.config.lora.enabled:
        model = put_adapter(lm, artefact)
        wanted = _logits(model, ids)
        merged = model.merge_and_unload()
    else:
        check_keys(artefact, lm.load_state_dict(artefact.tensors, strict=False), lm)
        wanted, merged = _logits(lm, ids), lm
    difference = float((_logits(merged, ids) - wanted).abs().max())
    if not difference <= TOLERANCE:
        raise CheckpointError(f"{folder}: the merged model's logits differ by {difference:.2g}; nothing was written")
    merged.generation_config.eos_token_id = sorted({int(tokenizer.eos_token_id), form.closing})
    with new_folder(out) as temporary:
        merged.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        write_json(temporary / RECORD, {**_record(artefact, difference), "closing_token": form.closing})
    return difference


def export_adapter(folder: Path, out: Path) -> None:
    """Write the adapter as PEFT loads it (`adapter_config.json`, `adapter_model.safetensors`).

    Raises:
        CheckpointError: damaged.
        ConfigError: a model whose every weight was trained has no adapter, or `out` is there already.
        DataError: it cannot be written.
    """
    from safetensors.torch import save_file

    _refuse_existing(out)
    artefact = load_text_model(folder)
    config = adapter_config(artefact.config)
    if config is None:
        raise ConfigError(f"{folder}: all weights were trained, there is no adapter; export it merged")
    with new_folder(out) as temporary:
        save_file(artefact.tensors, temporary / "adapter_model.safetensors", metadata={"format": "pt"})
        write_json(temporary / "adapter_config.json", {**config, "base_model_name_or_path": artefact.base["name"]})
        write_json(temporary / RECORD, _record(artefact, None))


def _record(artefact: Any, difference: float | None) -> dict[str, Any]:
    return {
        "notice": RESEARCH_ONLY,
        "task": str(artefact.task),
        "base": artefact.base,
        "trained_model": artefact.manifest["files"],
        "data": artefact.manifest.get("data"),
        "largest_logit_difference": difference,
        "template": str(artefact.config.template),
        "prompt": (
            build_prompt(artefact.task, "{text}")
            if artefact.config.template is Template.PLAIN
            else f"the template around: {build_instruction(artefact.task, '{text}')}"
        ),
    }


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model.eval()(input_ids=ids).logits
    return logits


def _refuse_existing(out: Path) -> None:
    if out.exists():
        raise ConfigError(f"{out}: is there already; name another folder")
