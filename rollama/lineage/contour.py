"""What made this contour: by the hash of its file, from events, or from the manifest beside it.

A file that somebody downloaded has lost its folder and its name. So the ledger's events and the endpoint's audit trail
carry the hash of every file of a prediction, and of its manifest; both are chains that nobody changes unnoticed. A
manifest beside the file answers too, where no event does, but then nothing vouches for it, and it is said so.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rollama.core.chain import events
from rollama.core.errors import DataError
from rollama.core.files import hash_file, read_json
from rollama.core.storage import Storage
from rollama.lineage.query import Lineage

MANIFEST, TARGET = "manifest.json", "target.nii.gz"


@dataclass(frozen=True)
class Making:
    """How a file was made.

    Attributes:
        told_by: who says so.
        created: time, UTC.
        models: name -> digest of the weights.
        inputs: name -> digest; empty where only a manifest that is not there has them.
        facts: more, such as the job's id.
    """

    told_by: str
    created: str
    models: Mapping[str, str]
    inputs: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


def find_making(known: Lineage, place: Path, trail: Storage | None = None) -> list[Making]:
    """What made a file of a prediction; several where predictions came out the same to the byte.

    Args:
        known: the workspace's lineage.
        place: the file, whatever its name, or the folder of a prediction (its target, after a look at all its files).
        trail: holds the endpoint's audit trail.

    Raises:
        DataError: nobody knows the file, it is not the one that its manifest names, or a chain is not whole.
    """
    folder = place if place.is_dir() else place.parent
    path = place / TARGET if place.is_dir() else place
    manifest = _manifest(folder)
    if place.is_dir():
        if manifest is None:
            raise DataError(
                f"{folder}: no {MANIFEST} of a prediction; name a folder that 'rollama predict' wrote, or a file"
            )
        _check_all(folder, manifest)
    digest = hash_file(path)
    found = [
        Making("event in the lineage", event.created, dict(event.models.items()), event.inputs)
        for event in known.predicted
        if digest in event.files.values()
    ]
    for event in events(trail) if trail is not None else ():
        files = event.get("files", {})
        if digest in files.values():
            vouched = manifest is not None and hash_file(folder / MANIFEST) == files.get(MANIFEST)
            inputs = manifest["inputs"] if manifest is not None and vouched else {}
            facts = {"job": str(event.get("job", "")), "asked by": str(event.get("who", ""))}
            found.append(Making("event in the audit trail", _utc(event["time"]), event["models"], inputs, facts))
    if found:
        return found
    named = _files(manifest) if manifest is not None else {}
    if manifest is not None and named.get(path.name) == digest:
        return [Making(f"{MANIFEST} beside it; no event vouches for it", manifest["created"], manifest["models"],
                       manifest["inputs"], {"plan from": str(manifest.get("plan_source"))})]  # fmt: skip
    if path.name in named:
        raise DataError(f"{path}: is not the file that this prediction wrote; it was changed or replaced")
    asked = known.ledger.storage.uri + (f" or in {trail.uri}" if trail is not None else "")
    more = "" if trail is not None else "; for a file of the endpoint name its store with --audit"
    raise DataError(f"{path}: no event in {asked} tells of this file, and no {MANIFEST} beside it does{more}")


def _manifest(folder: Path) -> dict[str, Any] | None:
    """The prediction's manifest in a folder, if there is one."""
    found = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else None
    if not isinstance(found, dict) or found.get("kind") != "prediction":
        return None
    if not all(isinstance(found.get(key), dict) for key in ("models", "inputs")) or "created" not in found:
        raise DataError(f"{folder / MANIFEST}: damaged; a prediction's has created, models and inputs")
    return found


def _files(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Name -> hash; empty for a manifest of an older version, which listed names only."""
    files = manifest.get("files")
    return dict(files) if isinstance(files, dict) else {}


def _check_all(folder: Path, manifest: Mapping[str, Any]) -> None:
    for name, digest in sorted(_files(manifest).items()):
        if not (folder / name).is_file() or hash_file(folder / name) != digest:
            raise DataError(f"{folder / name}: is not the file that this prediction wrote; it was changed or replaced")


def _utc(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
