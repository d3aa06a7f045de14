"""Artefacts of all three models, made in a second: real files and real code, weights that know nothing."""

from __future__ import annotations

from pathlib import Path

import torch

from rollama.core.registry import Task
from rollama.segmentation.checkpoint import build_network, save_model
from rollama.segmentation.config import SegConfig
from rollama.text.checkpoint import save_text_model
from rollama.text.config import TextConfig
from rollama.text.model import build_module, portable_names, trained_parameters


def make_models(folder: Path, base: str = "tiny", first_seed: int = 0, mirrored_look: bool = False) -> Path:
    """Write `s/`, `p/` and `seg/` on a base; adapters and network carry random weights.

    `mirrored_look`: of S.
    """
    text = TextConfig(base=base, dtype="float32", max_new_tokens=12, max_tokens=256)
    for seed, (task, name) in enumerate(((Task.SUMMARY, "s"), (Task.PLAN, "p")), first_seed):
        module, _, info = build_module(text.updated(seed=seed))
        generator = torch.Generator().manual_seed(seed)
        tensors = {
            key: torch.randn(value.shape, generator=generator) * 0.1
            for key, value in trained_parameters(module).items()
        }
        config = text.updated(mirrored_look=mirrored_look and task is Task.SUMMARY)
        save_text_model(folder / name, portable_names(tensors), task, config, info, config.digest())
    seg = SegConfig(
        encoder=base, encoder_dtype="float32", amp="none", channels=(8, 16), strides=(2, 2), patch=(32, 24, 16)
    )
    network, info_seg = build_network(seg, torch.device("cpu"))
    save_model(folder / "seg", network, info_seg, seg.digest())
    return folder
