"""What verbs write into the ledger of their workspace when they are done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rollama.core.config import hash_json
from rollama.core.errors import CheckpointError
from rollama.core.storage import Location, open_storage
from rollama.data.dataset import open_texts
from rollama.data.store import Reference, read_stored
from rollama.lineage.events import Evaluated, Trained
from rollama.lineage.ledger import open_ledger
from rollama.training.artefact import MANIFEST, WEIGHTS, read_manifest


def record_training(workspace: Location, model: Path | Reference, task: str, dataset: Path) -> None:
    """Write down a trained model and the cases of its data; once, however often it is asked.

    Args:
        workspace: folder or bucket prefix.
        model: the artefact.
        task: `s`, `p` or `seg`.
        dataset: the data set's folder on this machine.

    Raises:
        ClusterError, DataError: the ledger cannot be read or written.
    """
    manifest = read_manifest(model) if isinstance(model, Path) else _stored_manifest(model)
    ledger, data = open_ledger(workspace), open_texts(dataset)
    ledger.keep_cases(data.info, data.cases)
    ledger.record(
        Trained.model_validate(
            {
                "model": manifest["files"][WEIGHTS],
                "task": task,
                "data": data.info.content_hash,
                "run": manifest["config_hash"],
                "base": (manifest.get("base") or {}).get("weights_hash", ""),
                "parents": [parent] if (parent := manifest.get("parent")) else [],
            }
        )
    )


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
