"""What is to be released: three models by reference; those that a candidate does not bring stay the released ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rollama.core.errors import ConfigError
from rollama.data.store import Kind, Progress, is_reference, parse_reference, push, resolve
from rollama.release.verdict import Parts
from rollama.training.artefact import artefact_hash, check_artefact

NAMES = ("s", "p", "seg")


def gather(
    folder: Path | None, given: Mapping[str, str], released: Parts | None, store: str, progress: Progress | None = None
) -> Parts:
    """The candidate's references; models in folders are pushed into the store, which checks them.

    Args:
        folder: with some of `s/`, `p/` and `seg/`; None when all are given.
        given: model -> reference or folder; goes before the folder.
        released: fills in what is missing.
        store: where folders are pushed.
        progress: of a push, in bytes.

    Raises:
        ConfigError: a model is missing, or a name is not one.
        CheckpointError, DataError: a folder is no model, or a damaged one.
    """
    if wrong := sorted(set(given) - set(NAMES)):
        raise ConfigError(f"--model {wrong[0]}=...: not a model; accepted: {', '.join(NAMES)}")
    found: dict[str, str] = {}
    for name in NAMES:
        place = given.get(name)
        if place is None and folder is not None and (folder / name).is_dir():
            place = str(folder / name)
        if place is None:
            if released is None:
                where = f"{folder / name}: no such model" if folder else f"model {name} is missing"
                raise ConfigError(f"{where}; the first release needs all of {', '.join(NAMES)}")
            found[name] = str(getattr(released, name))
        elif is_reference(place):
            found[name] = str(parse_reference(place))
        else:
            found[name] = str(push(Path(place), Kind.MODEL, store, progress))
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    return Parts(**found)


def lay_out(parts: Parts, folder: Path) -> Path:
    """A folder with links `s`, `p` and `seg` to the models on this machine; what is not here is fetched.

    Raises:
        DataError, ClusterError: a reference leads nowhere, or a file is not what its hash says.
        CheckpointError: a model was changed after it came here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        target = resolve(str(getattr(parts, name)))
        check_artefact(target)
        link = folder / name
        if link.is_symlink():
            link.unlink()
        link.symlink_to(target.absolute())
    return folder


def read_manifests(models: Path) -> dict[str, dict[str, Any]]:
    """Manifest of each model in a folder, its files checked."""
    return {name: check_artefact(models / name) for name in NAMES}


def weights(models: Path) -> dict[str, str]:
    """SHA-256 of the weights of each model in a folder."""
    return {name: artefact_hash(models / name) for name in NAMES}
