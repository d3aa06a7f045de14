"""Trained S and P models on disk: adapter (or whole model) and the identity of the base it belongs to.

An adapter put on another base, or fed by another tokenizer, produces fluent nonsense. So an artefact names the hashes
of both, and is refused where they differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rollama.core.config import build
from rollama.core.errors import CheckpointError, ConfigError
from rollama.core.manifest import run_manifest
from rollama.core.registry import Task
from rollama.language.base import BaseInfo
from rollama.text.config import TextConfig
from rollama.text.model import portable_name, trained_parameters
from rollama.training.artefact import load_artefact, save_artefact

KIND = "text-adapter"


@dataclass(frozen=True)
class TextArtefact:
    """A loaded artefact: tensors in PEFT's naming (Transformers' for a whole model) and where it belongs."""

    folder: Path
    task: Task
    config: TextConfig
    base: dict[str, str]
    tensors: dict[str, torch.Tensor]
    manifest: dict[str, Any]


def save_text_model(
    folder: Path,
    tensors: Mapping[str, torch.Tensor],
    task: Task,
    config: TextConfig,
    base: BaseInfo,
    config_hash: str,
    **extra: Any,
) -> None:
    """Write an artefact.

    Args:
        tensors: see `model.portable_names`.
        config_hash: identity of the run (`training.runs.run_hash`).
        extra: more manifest entries, such as the dataset's content hash and final metrics.
    """
    manifest = run_manifest(
        KIND,
        config.model_dump(mode="json"),
        config_hash,
        task=str(task),
        base=base.as_dict(),
        adapter=adapter_config(config),
        **extra,
    )
    save_artefact(folder, tensors, manifest)


def adapter_config(config: TextConfig) -> dict[str, Any] | None:
    """What PEFT needs to rebuild the adapter (its `adapter_config.json`), or None for a whole model."""
    if not config.lora.enabled:
        return None
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "bias": "none",
        "r": config.lora.r,
        "lora_alpha": config.lora.alpha,
        "lora_dropout": config.lora.dropout,
        "target_modules": list(config.lora.targets),
    }


def load_text_model(folder: Path) -> TextArtefact:
    """Read an artefact and check its files.

    Raises:
        CheckpointError: not a text model, or damaged.
    """
    tensors, manifest = load_artefact(folder)
    if manifest.get("kind") != KIND:
        raise CheckpointError(f"{folder}: is a {manifest.get('kind')!r}, not a {KIND!r}")
    try:
        config = build(TextConfig, manifest["config"], f"{folder}/manifest.json")
        return TextArtefact(folder, Task(manifest["task"]), config, dict(manifest["base"]), tensors, manifest)
    except (ConfigError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: its manifest does not describe a text model of this version ({error})"
        ) from error


def load_start(module: Any, folder: Path, task: Task, config: TextConfig, base: BaseInfo) -> None:
    """Put the weights of a trained model of the same task, base and adapter form into a new module.

    Raises:
        CheckpointError: it is damaged, of another task or base, or its tensors do not fit.
    """
    artefact = load_text_model(folder)
    if artefact.task is not task:
        raise CheckpointError(f"{folder}: is a model for task {artefact.task}; task {task} cannot start from it")
    check_base(artefact, base)
    if adapter_config(artefact.config) != adapter_config(config):
        raise CheckpointError(f"{folder}: its adapter is of another form; set {task}.lora as in its manifest.json")
    parameters = {portable_name(name): value for name, value in trained_parameters(module).items()}
    if set(parameters) != set(artefact.tensors):
        odd = sorted(set(parameters) ^ set(artefact.tensors))
        raise CheckpointError(f"{folder}: its tensors do not fit this model (for example {odd[0]})")
    with torch.no_grad():
        for name, parameter in parameters.items():
            value = artefact.tensors[name]
            if value.shape != parameter.shape:
                raise CheckpointError(f"{folder}: {name} has shape {tuple(value.shape)}, not {tuple(parameter.shape)}")
            parameter.copy_(value)


def check_base(artefact: TextArtefact, base: BaseInfo) -> None:
    """Refuse an artefact that was trained on another base or tokenizer.

    Raises:
        CheckpointError: names both.
    """
    if key := base.other(artefact.base):
        what = {"weights_hash": "base weights", "tokenizer_hash": "tokenizer"}[key]
        raise CheckpointError(
            f"{artefact.folder}: was trained with other {what} ({artefact.base.get('name')}, "
            f"{str(artefact.base.get(key))[:12]}) than the loaded base {base.name} ({base.as_dict()[key][:12]}); load "
            "the base it was trained on or train again"
        )
