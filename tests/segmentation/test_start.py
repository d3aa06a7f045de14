"""Training a segmentation network from a trained one's weights, and FedProx's term."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from rollama.centres.federation.weights import moving, read_artefact
from rollama.core.errors import CheckpointError
from rollama.segmentation.checkpoint import build_network, load_model
from rollama.segmentation.config import SegConfig
from rollama.segmentation.trainer import train_segmentation
from rollama.training.artefact import artefact_hash
from rollama.training.worker import Worker

MakeWorker = Callable[..., Worker]


def test_start_and_proximal_term(config: SegConfig, toy_dataset: Path, make_worker: MakeWorker, tmp_path: Path) -> None:
    start = tmp_path / "start"
    train_segmentation(config, toy_dataset, start, make_worker("start"))
    network, manifest = load_model(start, make_worker("x").device)
    # What a federation moves is what training changes; the rest of the artefact stays where it is.
    trainable = {name for name, value in network.named_parameters() if value.requires_grad}
    assert set(moving(*read_artefact(start))) == trainable
    assert manifest["cases"] == {"toy": 6} and manifest["parent"] is None
    assert manifest["profile"]["centres"]["toy"]["plan_form"] == {"parsed": 5}, "6 cases, rounded to fives"
    lengths = {}
    before = load_file(start / "model.safetensors")
    for mu in (0.0, 1000.0):
        out = tmp_path / f"{mu}"
        worker = replace(make_worker(f"{mu}"), init=start)
        train_segmentation(config.updated(init=artefact_hash(start), prox_mu=mu, seed=1), toy_dataset, out, worker)
        after = load_file(out / "model.safetensors")
        lengths[mu] = float(sum((after[name] - before[name]).square().sum() for name in trainable).sqrt())
        assert bool((after["text_mean"] == before["text_mean"]).all())
    assert 0 < lengths[1000.0] < 0.8 * lengths[0.0]
    other = config.updated(init=artefact_hash(start), channels=(8, 8, 16))
    with pytest.raises(CheckpointError, match=r"has shape|do not fit"):
        train_segmentation(other, toy_dataset, tmp_path / "no", replace(make_worker("no"), init=start))
    seeded, _ = build_network(config.updated(seed=1), make_worker("x").device)
    assert not bool((dict(seeded.named_buffers())["text_mean"] == before["text_mean"]).all())
