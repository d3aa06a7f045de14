"""Measure a federated SEG again: threshold, reach, calibration and what is usual, on cases that are at hand.

These come from patients and do not move in a federation, so its model carries the start model's. A site that has the
final model measures them on its own training and validation cases before it uses it; no trained weight changes.
"""

from __future__ import annotations

from pathlib import Path

import torch

from rollama.core.errors import DataError
from rollama.data.case import Split
from rollama.data.dataset import open_dataset
from rollama.segmentation.checkpoint import load_model, saved_tensors
from rollama.segmentation.finishing import MEASURED, finish
from rollama.segmentation.validation import validation_cases
from rollama.training.artefact import WEIGHTS, save_artefact
from rollama.training.centres import case_counts, restricted
from rollama.training.config import CentresSection
from rollama.training.worker import inference_device

OLD = {*MEASURED, "metrics", "files", "measured"}


def measure_again(
    model: Path, dataset: Path, out: Path, centres: CentresSection | None = None, device: torch.device | None = None
) -> Path:
    """Write the SEG `model` to `out` with what its training would have measured on these cases.

    Args:
        model: artefact folder.
        dataset: folder of the data set; its training and validation cases are measured on.
        out: folder of the new artefact, replaced when it exists.
        centres: which centres' cases; default: all.
        device: where it runs; default: see `inference_device`.

    Raises:
        CheckpointError: the model is damaged or no SEG.
        DataError: no training or no validation case with a target.
    """
    device = device or inference_device()
    network, manifest = load_model(model, device)
    data = restricted(open_dataset(dataset), centres or CentresSection(), network.config.seed)
    training = data.select(Split.TRAIN)
    validation = validation_cases(data, network.config.validation.cases)
    if not validation:
        raise DataError(f"{dataset}: no validation case with a target to measure threshold and calibration on")
    found = finish(network, training, validation, device)
    about = {
        "data": data.info.content_hash,
        "training": case_counts(training),
        "validation": case_counts(validation),
        "before": manifest["files"][WEIGHTS],
    }
    described = {key: value for key, value in manifest.items() if key not in OLD}
    save_artefact(out, saved_tensors(network, network.normality.known), {**described, **found, "measured": about})
    return out
