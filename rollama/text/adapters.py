"""From trained artefacts to models: which may be loaded, and how an adapter gets onto a base."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rollama.core.config import hash_json
from rollama.core.errors import CheckpointError, ConfigError
from rollama.core.registry import Task
from rollama.text.checkpoint import TextArtefact, load_text_model
from rollama.text.model import lora_config
from rollama.training.artefact import artefact_hash


def read_artefacts(folders: Mapping[Task, Path]) -> dict[Task, TextArtefact]:
    """Trained text models, checked.

    Raises:
        CheckpointError: damaged, or of another task.
        ConfigError: none is named.
    """
    if not folders:
        raise ConfigError("no text model named; give the folder of S or P")
    artefacts = {task: load_text_model(folder) for task, folder in folders.items()}
    for task, artefact in artefacts.items():
        if artefact.task is not task:
            raise CheckpointError(f"{artefact.folder}: is a model for task {artefact.task}, needed for task {task}")
    return artefacts


def put_adapter(base: Any, artefact: TextArtefact) -> Any:
    """PEFT's model of a Transformers base with an artefact's adapter, to be merged or compared with.

    Raises:
        CheckpointError: the adapter does not fit the base.
    """
    from peft import get_peft_model, set_peft_model_state_dict

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")  # PEFT 0.21 still reads it
        model = get_peft_model(base, lora_config(artefact.config.lora))
        result = set_peft_model_state_dict(model, artefact.tensors)
    if result.unexpected_keys:
        raise CheckpointError(
            f"{artefact.folder}: tensors that the base has no place for: {result.unexpected_keys[:3]}"
        )
    needed = sum(".default." in key for key, _ in model.named_parameters())
    if needed != len(artefact.tensors):
        raise CheckpointError(
            f"{artefact.folder}: holds {len(artefact.tensors)} adapter tensors, the base needs {needed}"
        )
    return model.eval()


def check_keys(artefact: TextArtefact, result: Any, model: Any) -> None:
    """Refuse a whole model whose tensors are not those of its base; `result` is of `load_state_dict(strict=False)`."""
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    missing = sorted(set(result.missing_keys) - tied)
    if missing or result.unexpected_keys:
        raise CheckpointError(
            f"{artefact.folder}: does not fit the base: missing {missing[:3]}, not known {result.unexpected_keys[:3]}"
        )


def adapter_name(task: Task, artefact: TextArtefact) -> str:
    """The same for the same weights used in the same way; without a dot."""
    return f"{task}-{hash_json([artefact_hash(artefact.folder), artefact.config.lora.model_dump(mode='json')])[:16]}"
