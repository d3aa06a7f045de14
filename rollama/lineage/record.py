"""What verbs write into the ledger of their workspace when they are done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rollama.core.config import hash_json
from rollama.core.errors import CheckpointError
from rollama.core.files import hash_file
from rollama.core.storage import Location, open_storage
from rollama.data.dataset import open_texts
from rollama.data.store import Reference, read_stored
from rollama.lineage.events import Data, Evaluated, Predicted, Trained
from rollama.lineage.ledger import Ledger, open_ledger
from rollama.training.artefact import MANIFEST, WEIGHTS, read_manifest


def record_training(workspace: Location, model: Path | Reference, task: str, dataset: Path) -> None:
    """Write down a trained model, or one measured again, and the cases of its data; once, however often it is asked.

    Args:
        workspace: folder or bucket prefix.
        model: the artefact.
        task: `s`, `p` or `seg`.
        dataset: the data set's folder on this machine.

    Raises:
        ClusterError, DataError: the ledger cannot be read or written.
    """
    manifest = read_manifest(model) if isinstance(model, Path) else _stored_manifest(model)
    ledger = open_ledger(workspace)
    data = _take_data(ledger, dataset)
    weights = manifest["files"][WEIGHTS]
    before = (manifest.get("measured") or {}).get("before") or manifest.get("parent")
    ledger.record(
        Trained.model_validate(
            {
                "model": weights,
                "task": task,
                "data": data,
                "run": manifest["config_hash"],
                "base": (manifest.get("base") or {}).get("weights_hash", ""),
                "parents": [before] if before and before != weights else [],
            }
        )
    )


def record_data(workspace: Location, dataset: Path) -> None:
    """Write down how a data set came to be, as it says itself, and its cases; once, however often it is asked.

    Raises:
        ClusterError, DataError: the data set cannot be opened, or the ledger not be read or written.
    """
    _take_data(open_ledger(workspace), dataset)


def record_prediction(workspace: Location, out: Path, manifest: Mapping[str, Any]) -> None:
    """Write down a prediction: models, and hashes of what went in and came out.

    Args:
        workspace: folder or bucket prefix.
        out: the prediction's folder.
        manifest: as it lies there.

    Raises:
        ClusterError, DataError: the ledger cannot be written.
    """
    facts = {key: manifest[key] for key in ("created", "models", "inputs")}
    files = {**manifest["files"], MANIFEST: hash_file(out / MANIFEST)}
    open_ledger(workspace).add(Predicted.model_validate({**facts, "files": files}))


def _take_data(ledger: Ledger, dataset: Path) -> str:
    """The data set's steps and cases into the ledger; its content hash."""
    data = open_texts(dataset)
    ledger.keep_cases(data.info, data.cases)
    for step in data.info.origins:
        ledger.record(Data(**step.model_dump()))
    return data.info.content_hash


def record_evaluation(workspace: Location, results: dict[str, Any]) -> None:
    """Write down that models were measured, by the figures that came out (`evaluation.json`)."""
    figures = {key: results[key] for key in ("tables", "comparisons")}
    open_ledger(workspace).record(
        Evaluated(models=results["models"], data=results["dataset"]["hash"], result=hash_json(figures))
    )


def _stored_manifest(reference: Reference) -> dict[str, Any]:
    for file in read_stored(reference).files:
        if file.path == MANIFEST:
            found = json.loads(open_storage(reference.store).read_bytes(file.blob) or b"{}")
            if isinstance(found, dict):
                return found
    raise CheckpointError(f"{reference}: holds no {MANIFEST}; is it a model?")
