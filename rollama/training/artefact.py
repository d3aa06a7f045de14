"""A folder of tensors that can be trusted: safetensors plus a manifest with every file's hash.

Model artefacts and training checkpoints are both such folders. Nothing is unpickled on load; a file that is missing,
changed or not in the manifest is refused; an empty or non-finite tensor is refused already on saving, because an
adapter saved empty (a known failure under ZeRO-3) otherwise shows only as a bad model months later.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rollama.core.errors import CheckpointError, DataError
from rollama.core.files import hash_file, new_folder, read_json, write_json

MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"


def save_artefact(folder: Path, tensors: Mapping[str, torch.Tensor], manifest: Mapping[str, Any]) -> None:
    """Write tensors and manifest under a temporary name, then rename.

    Raises:
        CheckpointError: no tensors, or one is empty or not finite.
        DataError: the folder cannot be written.
    """
    from safetensors.torch import save_file

    if not tensors:
        raise CheckpointError(f"{folder}: nothing to save")
    ready = {name: value.detach().to("cpu").contiguous().clone() for name, value in tensors.items()}
    for name, value in ready.items():
        if value.numel() == 0:
            raise CheckpointError(f"{folder}: tensor {name} is empty")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{folder}: tensor {name} is not finite")
    with new_folder(folder) as temporary:
        save_file(ready, temporary / WEIGHTS)
        (temporary / WEIGHTS).chmod(0o644)
        files = {path.name: hash_file(path) for path in sorted(temporary.iterdir())}
        write_json(temporary / MANIFEST, {**manifest, "files": files})


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an artefact.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise CheckpointError(
            f"{folder}: no {MANIFEST}; give the folder of a trained model (see 'rollama train --help')"
        )
    try:
        manifest = read_json(path)
    except DataError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise CheckpointError(f"{path}: no list of files in it; the artefact is damaged")
    return manifest


def load_artefact(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Check all hashes and load: (tensors on the CPU, manifest).

    Raises:
        CheckpointError: a file is missing, added or differs from its hash.
    """
    from safetensors.torch import load_file

    manifest = check_artefact(folder)
    return load_file(folder / WEIGHTS), manifest


def check_artefact(folder: Path) -> dict[str, Any]:
    """The manifest, after checking all files against it; raises what `load_artefact` raises."""
    manifest = read_manifest(folder)
    found = {path.name for path in folder.iterdir()} - {MANIFEST}
    wanted = dict(manifest["files"])
    if found != set(wanted):
        missing, added = sorted(set(wanted) - found), sorted(found - set(wanted))
        raise CheckpointError(f"{folder}: files do not match {MANIFEST} (missing: {missing}, not listed: {added})")
    for name, value in wanted.items():
        if hash_file(folder / name) != value:
            raise CheckpointError(
                f"{folder / name}: its SHA-256 differs from {MANIFEST}; the file was changed or damaged"
            )
    return manifest


def artefact_hash(folder: Path) -> str:
    """Identity of an artefact: the hash of its weights file, as the manifest records it."""
    return str(read_manifest(folder)["files"][WEIGHTS])
