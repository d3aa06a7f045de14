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

from rollama.core.errors import CheckpointError
from rollama.core.files import hash_file, new_folder, write_json
from rollama.core.manifest import MANIFEST, WEIGHTS, artefact_hash, check_artefact, read_manifest

__all__ = [
    "MANIFEST", "WEIGHTS", "artefact_hash", "check_artefact", "load_artefact", "read_manifest", "save_artefact",
]  # fmt: skip


def save_artefact(
    folder: Path,
    tensors: Mapping[str, torch.Tensor],
    manifest: Mapping[str, Any],
    beside: Mapping[str, Mapping[str, torch.Tensor]] | None = None,
) -> None:
    """Write tensors and manifest under a temporary name, then rename.

    Args:
        folder: the artefact's; replaced when it exists.
        tensors: go into `WEIGHTS`.
        manifest: gets the files' hashes.
        beside: more safetensors files by name, of what is no weight; an empty one is left out.

    Raises:
        CheckpointError: no tensors, or one is empty or not finite.
        DataError: the folder cannot be written.
    """
    from safetensors.torch import save_file

    if not tensors:
        raise CheckpointError(f"{folder}: nothing to save")
    every = {WEIGHTS: tensors, **{file: values for file, values in (beside or {}).items() if values}}
    ready = {file: _checked(folder, values) for file, values in every.items()}
    with new_folder(folder) as temporary:
        for file, values in ready.items():
            save_file(values, temporary / file)
            (temporary / file).chmod(0o644)
        files = {path.name: hash_file(path) for path in sorted(temporary.iterdir())}
        write_json(temporary / MANIFEST, {**manifest, "files": files})


def _checked(folder: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    ready = {name: value.detach().to("cpu").contiguous().clone() for name, value in tensors.items()}
    for name, value in ready.items():
        if value.numel() == 0:
            raise CheckpointError(f"{folder}: tensor {name} is empty")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{folder}: tensor {name} is not finite")
    return ready


def load_artefact(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Check all hashes and load: (tensors on the CPU, manifest).

    Raises:
        CheckpointError: a file is missing, added or differs from its hash.
    """
    from safetensors.torch import load_file

    manifest = check_artefact(folder)
    return load_file(folder / WEIGHTS), manifest
