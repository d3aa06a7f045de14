"""Measure a SEG again: threshold, reach, calibration and what is usual, on cases that are at hand.

These come from patients and do not move in a federation, so its model carries the start model's. A site that has the
final model measures them on its own training and validation cases before it uses it; no trained weight changes. They
also belong to the way in which a network is applied: who wants another one gets a model with its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from rollama.core.errors import DataError
from rollama.data.case import Split
from rollama.data.dataset import open_dataset
from rollama.segmentation.checkpoint import kept_files, load_model, saved_tensors
from rollama.segmentation.finishing import MEASURED, finish
from rollama.segmentation.trainer import TASK
from rollama.segmentation.validation import validation_cases
from rollama.training.applied import applied
from rollama.training.artefact import WEIGHTS, save_artefact
from rollama.training.centres import case_counts, restricted
from rollama.training.config import CentresSection
from rollama.training.runs import run_hash
from rollama.training.worker import inference_device

OLD = {*MEASURED, "metrics", "files", "measured", "config"}
APPLIED = ("inference", "overlap", "sw_batch", "keep_texts")
"""Keys of a configuration that say how a network is applied, and nothing of how it was trained."""


def measure_again(
    model: Path,
    dataset: Path,
    out: Path,
    centres: CentresSection | None = None,
    device: torch.device | None = None,
    changes: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write the SEG `model` to `out` with what its training would have measured on these cases.

    Args:
        model: artefact folder.
        dataset: folder of the data set; its training and validation cases are measured on.
        out: folder of the new artefact, replaced when it exists.
        centres: which centres' cases; default: all.
        device: where it runs; default: see `inference_device`.
        changes: `KEY=VALUE` for keys of `APPLIED`, such as `inference.mirrored=true`.
        progress: see `finish`.

    Raises:
        ConfigError: a change of another key, or of a value that this network cannot be applied with.
        CheckpointError: the model is damaged or no SEG.
        DataError: no training or no validation case with a target.
    """
    device = device or inference_device()
    network, manifest = load_model(model, device)
    network.config = applied(network.config, changes, APPLIED)
    data = restricted(open_dataset(dataset), centres or CentresSection(), network.config.seed)
    training = data.select(Split.TRAIN)
    validation = validation_cases(data, network.config.validation.cases)
    if not validation:
        raise DataError(f"{dataset}: no validation case with a target to measure threshold and calibration on")
    found = finish(network, training, validation, device, progress)
    about: dict[str, Any] = {
        "data": data.info.content_hash,
        "training": case_counts(training),
        "validation": case_counts(validation),
        "before": manifest["files"][WEIGHTS],
    }
    described = {key: value for key, value in manifest.items() if key not in OLD}
    described["config"] = network.config.model_dump(mode="json")
    if changes:  # it is no longer what training with its first configuration gives
        described["config_hash"] = run_hash(network.config, TASK, str(manifest.get("data_hash")))
        about["changes"] = list(changes)
    tensors = saved_tensors(network, network.normality.known)
    save_artefact(out, tensors, {**described, **found, "measured": about}, kept_files(network))
    return out
