"""The record beside every output: what made it, from what, with which versions.

Without it a result cannot be reproduced or a model traced. It holds no clinical text and no path of the machine.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rollama import RESEARCH_ONLY, __version__
from rollama.core.errors import CheckpointError, DataError
from rollama.core.files import hash_file, read_json

MANIFEST, WEIGHTS = "manifest.json", "model.safetensors"
"""Files of an artefact, which is a folder of tensors with a manifest of every file's hash."""
PACKAGES = ("torch", "transformers", "peft", "deepspeed", "ray", "monai", "numpy", "SimpleITK")


def run_manifest(kind: str, config: dict[str, Any], config_hash: str, **extra: Any) -> dict[str, Any]:
    """Describe a run.

    Args:
        kind: what the output is, such as `adapter` or `prediction`.
        config: the configuration as plain values.
        config_hash: its digest.
        extra: seeds, timings (seconds), hashes of inputs, metrics.
    """
    return {
        "kind": kind,
        "notice": RESEARCH_ONLY,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "rollama": __version__,
        "revision": git_revision(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": installed_versions(),
        "config": config,
        "config_hash": config_hash,
        **extra,
    }


def installed_versions() -> dict[str, str]:
    """Versions of the packages that decide the numbers, those installed only."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_revision() -> str | None:
    """The commit of the checkout (`+` when files differ from it) or of the image; None elsewhere."""
    if built_from := os.environ.get("ROLLAMA_REVISION"):
        return built_from
    folder = Path(__file__).resolve().parents[2]
    try:
        commit = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        dirty = subprocess.run(
            ["git", "-C", str(folder), "status", "--porcelain", "-uno"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if dirty else "")


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


def artefact_hash(folder: Path) -> str:
    """Identity of an artefact: the hash of its weights file, as the manifest records it."""
    return str(read_manifest(folder)["files"][WEIGHTS])


def training_hashes(manifest: Mapping[str, Any]) -> list[str]:
    """Content hashes of the data sets that a model was trained on, as its manifest records them."""
    data = manifest.get("data")
    named = data.get("content_hash") if isinstance(data, Mapping) else manifest.get("data_hash")
    values = named if isinstance(named, list) else [named]
    return [str(value) for value in values if value]


def check_artefact(folder: Path) -> dict[str, Any]:
    """The manifest of an artefact, after checking all files against it.

    Raises:
        CheckpointError: a file is missing, added or differs from its hash.
    """
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
