"""A trained segmentation model on disk: its trained tensors, and a manifest that says which encoder they need.

The frozen encoder is not in the artefact; the manifest names it with the hashes of its weights and tokenizer, and
loading refuses another one: prompts and projections trained on one encoder mean nothing to another.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from rollama.core.config import build
from rollama.core.errors import CheckpointError, ConfigError
from rollama.core.manifest import run_manifest
from rollama.language.base import BaseInfo, base_info, load_base
from rollama.segmentation.config import SegConfig
from rollama.segmentation.engine import load_parameters
from rollama.segmentation.kept import FILE, LateEncoder, encode_all, read_kept
from rollama.segmentation.model import SegmentationNet
from rollama.segmentation.text_encoder import TextEncoder
from rollama.training.artefact import load_artefact, save_artefact

KIND = "segmentation"
NORMALITY = "normality."


def build_network(config: SegConfig, device: torch.device) -> tuple[SegmentationNet, BaseInfo | None]:
    """A network with weights drawn from the configuration's seed, and its encoder's identity (None: vision only)."""
    encoder, info = None, None
    if config.uses_text:
        base, tokenizer, info = _base(config, device)
        encoder = TextEncoder(config, base, tokenizer)
    network = _assembled(config, encoder, device)
    if encoder is not None:
        network.calibrate()
    return network, info


def _base(config: SegConfig, device: torch.device) -> tuple[Any, Any, BaseInfo]:
    base, tokenizer, info = load_base(config.encoder, getattr(torch, config.encoder_dtype), config.allow_download)
    return base.to(device), tokenizer, info


def _assembled(config: SegConfig, encoder: TextEncoder | None, device: torch.device) -> SegmentationNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = SegmentationNet(config, encoder)
    return network.to(device)


def save_model(
    folder: Path, network: SegmentationNet, encoder: BaseInfo | None, config_hash: str, keep: bool = True, **extra: Any
) -> None:
    """Write the artefact; `extra` goes into the manifest (data hash, label kind, metrics, timings).

    `keep`: whether `keep_texts` counts; nobody applies the model that a site of a federation hands over.
    """
    tensors = saved_tensors(network, network.normality.known)
    values = network.config.model_dump(mode="json")
    manifest = run_manifest(
        KIND, values, config_hash, encoder=encoder.as_dict() if encoder else None, seed=network.config.seed, **extra
    )
    save_artefact(folder, tensors, manifest, kept_files(network) if keep else None)


def kept_files(network: SegmentationNet) -> dict[str, dict[str, torch.Tensor]]:
    """What lies beside the weights (see `kept`): nothing without `keep_texts`."""
    encoder = network.text_encoder
    if encoder is None or not network.config.keep_texts:
        return {}
    return {FILE: encode_all(encoder, network.config, network.text_mean.device)}


def load_model(folder: Path, device: torch.device) -> tuple[SegmentationNet, dict[str, Any]]:
    """Load an artefact: (network in eval mode, manifest).

    The encoder of one that keeps its texts is loaded, and checked, only when another text is asked for.

    Raises:
        CheckpointError: damaged, of another kind, or made with another encoder than the one found here.
    """
    tensors, manifest = load_artefact(folder)
    if manifest.get("kind") != KIND:
        raise CheckpointError(f"{folder}: holds a {manifest.get('kind')!r} artefact; expected {KIND!r}")
    try:
        config = build(SegConfig, manifest["config"], str(folder))
    except (ConfigError, KeyError) as error:
        raise CheckpointError(f"{folder}: its configuration is not one of this version ({error})") from error
    if kept := read_kept(folder, config, device):
        width = tensors["text_encoder.prompts"].shape[-1]
        load = partial(_load_encoder, folder, manifest, config, device)
        if not manifest.get("plans_only"):  # it may be asked for other texts, so better now than with a patient
            _check_encoder(folder, manifest.get("encoder"), base_info(config.encoder, config.allow_download))
        network = _assembled(config, LateEncoder(config, width, kept, load), device)
    else:
        network, found = build_network(config, device)
        _check_encoder(folder, manifest.get("encoder"), found)
    known = any(name.startswith(NORMALITY) for name in tensors)
    load_parameters(saved_tensors(network, known), tensors, str(folder))
    network.eval()
    return network, manifest


def _load_encoder(folder: Path, manifest: dict[str, Any], config: SegConfig, device: torch.device) -> tuple[Any, Any]:
    _check_encoder(folder, manifest.get("encoder"), base_info(config.encoder, config.allow_download))
    base, tokenizer, _ = _base(config, device)
    return base, tokenizer


def load_start(network: SegmentationNet, folder: Path, encoder: BaseInfo | None) -> None:
    """Put the weights of a trained model into a new network of the same form.

    The scale of the text embeddings comes along (projections were trained with it); what was measured of the trained
    model (calibration, what is usual) does not.

    Raises:
        CheckpointError: it is damaged, of another kind or encoder, or its tensors do not fit.
    """
    tensors, manifest = load_artefact(folder)
    if manifest.get("kind") != KIND:
        raise CheckpointError(f"{folder}: holds a {manifest.get('kind')!r} artefact; expected {KIND!r}")
    _check_encoder(folder, manifest.get("encoder"), encoder)
    values = {name: value for name, value in tensors.items() if not name.startswith(NORMALITY)}
    load_parameters(saved_tensors(network, normality=False), values, str(folder))


def saved_tensors(network: SegmentationNet, normality: bool) -> dict[str, torch.Tensor]:
    """What an artefact holds: trained parameters, calibration of the text embeddings, and what is usual if known."""
    every = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {name: value for name, value in every.items() if normality or not name.startswith(NORMALITY)}


def _check_encoder(folder: Path, wanted: dict[str, str] | None, found: BaseInfo | None) -> None:
    if found is None:
        return
    if key := found.other(wanted or {}):
        what, recorded = {"weights_hash": "weights", "tokenizer_hash": "tokenizer"}[key], (wanted or {}).get(key)
        raise CheckpointError(
            f"{folder}: was trained with other {what} of the text encoder {found.name!r} "
            f"(SHA-256 {str(recorded)[:12]}, found {found.as_dict()[key][:12]}); install the base it names"
        )
