from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rollama.core.errors import CheckpointError
from rollama.core.registry import Task
from rollama.language.base import base_info, load_base
from rollama.text.checkpoint import check_base, load_text_model
from rollama.training.artefact import save_artefact


def test_peft_loads_the_tensors(trained: Callable[[Task], Path]) -> None:
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

    artefact = load_text_model(trained(Task.PLAN))
    model = get_peft_model(load_base("tiny")[0], LoraConfig(**artefact.manifest["adapter"]))
    result = set_peft_model_state_dict(model, artefact.tensors)
    assert not result.unexpected_keys and not [key for key in result.missing_keys if "lora" in key]
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B"
    assert torch.equal(model.get_parameter(f"{name}.default.weight"), artefact.tensors[f"{name}.weight"])


@pytest.mark.parametrize(
    ("key", "words"), [("weights_hash", "other base weights"), ("tokenizer_hash", "other tokenizer")]
)
def test_another_base_is_refused(trained: Callable[[Task], Path], key: str, words: str) -> None:
    artefact = load_text_model(trained(Task.PLAN))
    check_base(artefact, base_info("tiny"))
    with pytest.raises(CheckpointError, match=words):
        check_base(artefact, dataclasses.replace(base_info("tiny"), **{key: "0" * 64}))


def test_another_kind_of_artefact_is_refused(tmp_path: Path) -> None:
    save_artefact(tmp_path / "x", {"a": torch.ones(1)}, {"kind": "segmentation"})
    with pytest.raises(CheckpointError, match="'segmentation', not a 'text-adapter'"):
        load_text_model(tmp_path / "x")


def test_manifest_of_another_version_is_refused(tmp_path: Path) -> None:
    manifest = {"kind": "text-adapter", "config": {"unknown": 1}, "task": "s", "base": {}}
    save_artefact(tmp_path / "x", {"a": torch.ones(1)}, manifest)
    with pytest.raises(CheckpointError, match="unknown key 'unknown'"):
        load_text_model(tmp_path / "x")
