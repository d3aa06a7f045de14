"""Model weights as they cross between a site and the coordinator: safetensors by name, in NumPy.

Flower lives in an environment without torch, so the tensors of an artefact (see `training.artefact`) are read and
written here once more. Only trained tensors move. What a segmentation model keeps beside them (scale of the text
embeddings, which never changes, and what is usual for its own training cases, which is derived from patients) stays
with the start model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rollama.core.errors import CheckpointError
from rollama.core.files import hash_file, new_folder, write_json
from rollama.core.manifest import MANIFEST, WEIGHTS, check_artefact

SEGMENTATION = "segmentation"
STILL = ("text_mean", "text_spread")
DERIVED = "normality."

Tensors = dict[str, np.ndarray]


def read_artefact(folder: Path) -> tuple[Tensors, dict[str, Any]]:
    """Check all hashes of an artefact and load it: (tensors, manifest).

    Raises:
        CheckpointError: not an artefact, or a file is missing, added or changed.
    """
    from safetensors.numpy import load_file

    manifest = check_artefact(folder)
    if WEIGHTS not in manifest["files"]:
        raise CheckpointError(f"{folder / MANIFEST}: no {WEIGHTS} in it; the artefact is damaged")
    try:
        return load_file(folder / WEIGHTS), manifest
    except (ValueError, KeyError, TypeError) as error:  # bfloat16, which NumPy does not have
        raise CheckpointError(f"{folder / WEIGHTS}: cannot be read without torch ({error})") from error


def write_artefact(folder: Path, tensors: Mapping[str, np.ndarray], manifest: Mapping[str, Any]) -> None:
    """Write an artefact under a temporary name, then rename."""
    from safetensors.numpy import save_file

    with new_folder(folder) as temporary:
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, temporary / WEIGHTS)
        (temporary / WEIGHTS).chmod(0o644)
        write_json(temporary / MANIFEST, {**manifest, "files": {WEIGHTS: hash_file(temporary / WEIGHTS)}})


def moving(tensors: Mapping[str, np.ndarray], manifest: Mapping[str, Any]) -> Tensors:
    """The tensors that training changes, sorted by name: all of an adapter, the network of a segmentation model."""
    kept = manifest.get("kind") == SEGMENTATION
    return {
        name: tensors[name] for name in sorted(tensors) if not (kept and (name in STILL or name.startswith(DERIVED)))
    }


def digest(tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 (hex) of names, types, shapes and values, independent of order."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        value = np.ascontiguousarray(tensors[name])
        found.update(f"{name}\x00{value.dtype.str}\x00{value.shape}\x00".encode())
        found.update(value.tobytes())
    return found.hexdigest()


def distance(after: Mapping[str, np.ndarray], before: Mapping[str, np.ndarray]) -> float:
    """Euclidean norm of an update over all tensors together."""
    return float(np.sqrt(sum(float(np.square(after[n].astype(np.float64) - before[n]).sum()) for n in before)))


def size(tensors: Mapping[str, np.ndarray]) -> float:
    """Euclidean norm of all tensors together."""
    return float(np.sqrt(sum(float(np.square(value.astype(np.float64)).sum()) for value in tensors.values())))


def total_bytes(tensors: Mapping[str, np.ndarray]) -> int:
    """Bytes of all values."""
    return sum(value.nbytes for value in tensors.values())
