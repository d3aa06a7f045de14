"""A CT by reference: only what lies in the allowed folder, links and detached data files included."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from rollama.core.errors import DataError
from rollama.data.volumes import suffix_of

MAX_HEADER = 1 << 16


def resolve_ct(folder: Path, relative: str) -> Path:
    """The real path of `relative` below `folder`.

    Raises:
        DataError: it is absolute, climbs out (also through a link), does not exist, or its header points to another
            file. One message for the first three, so that nothing outside the folder can be probed.
    """
    refusal = DataError("ct_path: no such CT in the data folder; give a path relative to it")
    if "\x00" in relative or "\\" in relative:
        raise refusal
    pure = PurePosixPath(relative)
    if pure.is_absolute() or ".." in pure.parts:
        raise refusal
    base = folder.resolve()
    try:
        path = (base / pure).resolve(strict=True)
    except (OSError, RuntimeError):
        raise refusal from None
    if path == base or not path.is_relative_to(base):
        raise refusal
    files = list(path.iterdir()) if path.is_dir() else [path]
    if not all(item.resolve().is_relative_to(base) for item in files):
        raise refusal
    if not path.is_dir():
        require_self_contained(path)
    return path


def require_self_contained(path: Path) -> None:
    """Refuse a header that names another file as its data, as NRRD and MetaImage can: a way out of the folder.

    Raises:
        DataError: it does.
    """
    suffix = suffix_of(path)
    detached = suffix in (".nhdr", ".mhd")
    if suffix in (".nrrd", ".mha"):
        with path.open("rb") as stream:
            lines = stream.read(MAX_HEADER).split(b"\n")[:-1]  # the last one may be cut
        detached = not (_holds_its_data(lines) if suffix == ".nrrd" else _is_local(lines))
    if detached:
        raise DataError("header and data lie in two files; give a single-file NRRD, MHA or NIfTI, or DICOM")


def _holds_its_data(lines: list[bytes]) -> bool:
    """Whether an NRRD header ends within reach and names no other file."""
    for line in lines:
        if not line.strip():
            return True
        if re.match(rb"(?i)\s*data ?file\s*:", line):
            return False
    return False


def _is_local(lines: list[bytes]) -> bool:
    """Whether the first field that any reader could take for the data's place says LOCAL, in exactly that spelling."""
    for line in lines:
        if re.match(rb"(?i)\s*elementdatafile", line):
            return re.fullmatch(rb"ElementDataFile[ \t]*=[ \t]*LOCAL\s*", line) is not None
    return False
