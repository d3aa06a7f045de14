"""A CT that came over HTTP: into a folder of its own, checked before anything else sees it.

Names, types and sizes that a client states are not believed. What it is follows from its first bytes; what it becomes
is counted while it is unpacked, so a small archive cannot fill the disk; no name of the archive becomes a path.
"""

from __future__ import annotations

import gzip
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rollama.chain.inputs import read_input_ct
from rollama.core.errors import DataError
from rollama.data.volumes import NIFTI, Volume, suffix_of
from serve.inputs import require_self_contained

CHUNK = 1 << 20
MAX_SLICES = 4000
DEFLATED = "1.2.840.10008.1.2.1.99"
"""Deflated Explicit VR Little Endian (PS3.5 A.5)."""
NIFTI_HEADERS = {348, 540}
"""First number of a NIfTI-1 and NIfTI-2 header."""
Read = Callable[[int], bytes]
ACCEPTED = "NIfTI (.nii, .nii.gz), NRRD, MHA, or a DICOM series as one zip or as several files"


@dataclass(frozen=True)
class Limits:
    """What one CT may take: bytes once unpacked, and voxels."""

    unpacked_bytes: int
    voxels: int


def store_ct(parts: Sequence[IO[bytes]], folder: Path, limits: Limits) -> Path:
    """Write an uploaded CT below `folder` (empty) and return the file or series folder.

    Raises:
        DataError: not one CT of an accepted kind, damaged, or larger than the limits.
    """
    if not parts:
        raise DataError(f"ct: no file; send a CT as {ACCEPTED}")
    if len(parts) > 1:
        return _series((part.read for part in parts), folder, limits)
    part = parts[0]
    head = part.read(4)
    part.seek(0)
    if head == b"PK\x03\x04":
        return _unzip(part, folder, limits)
    if head[:2] == b"\x1f\x8b":
        path = folder / "ct.nii"
        try:
            with gzip.GzipFile(fileobj=part) as stream:
                _copy(stream.read, path, limits.unpacked_bytes)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"ct: a damaged or cut gzip file ({type(error).__name__}); send it again") from None
    else:
        path = folder / "ct"
        _copy(part.read, path, limits.unpacked_bytes)
    return path.rename(folder / f"ct{_kind(path)}")


def read_checked(path: Path, limits: Limits) -> Volume:
    """Read a CT after its header has been asked how large it would become.

    Raises:
        DataError: see `read_input_ct`; also when it has more voxels than the limit. Messages name no path.
    """
    if path.is_file() and suffix_of(path) in NIFTI:
        _require_size(_nifti_shape(path), limits)
    elif path.is_file():
        _require_size(_itk_shape(path), limits)
    else:
        _require_size(_series_shape(path), limits)
    try:
        return read_input_ct(path)
    except DataError as error:
        raise DataError(str(error).replace(f"{path}/", "").replace(str(path), "ct")) from None


def _kind(path: Path) -> str:
    """The suffix that a file's content deserves."""
    with path.open("rb") as stream:
        head = stream.read(4096)
    if len(head) >= 4 and {struct.unpack("<i", head[:4])[0], struct.unpack(">i", head[:4])[0]} & NIFTI_HEADERS:
        return ".nii"
    if head.startswith(b"NRRD000"):
        return ".nrrd"
    if b"ElementDataFile" in head and b"NDims" in head:
        return ".mha"
    raise DataError(f"ct: not a CT file; accepted: {ACCEPTED}")


def _nifti_shape(path: Path) -> list[int]:
    import nibabel

    try:
        return list(nibabel.load(path).shape)  # its header only
    except Exception as error:  # nibabel raises its own, zlib's and OS errors for damaged files
        raise DataError(f"ct: not a readable NIfTI file ({type(error).__name__})") from None


def _itk_shape(path: Path) -> list[int]:
    import SimpleITK

    require_self_contained(path)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        raise DataError(f"ct: not a readable {path.suffix} file") from None
    return [*reader.GetSize(), reader.GetNumberOfComponents()]


def _series_shape(folder: Path) -> list[int]:
    """The largest plane and the number of files: compressed pixels say nothing about how large they become."""
    import pydicom

    planes = [1]
    for path in folder.iterdir():
        try:
            deflated = pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID") == DEFLATED
        except Exception:
            continue
        if deflated:  # pydicom unpacks such a file whole, whatever it becomes
            raise DataError("ct: deflated DICOM files are not accepted; export the series without that compression")
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
            planes.append(int(header.get("Rows") or 0) * int(header.get("Columns") or 0))
        except Exception:  # no DICOM object: read_series says so with the reason
            continue
    return [max(planes), len(list(folder.iterdir()))]


def _require_size(shape: Sequence[int], limits: Limits) -> None:
    voxels = 1
    for size in shape:
        voxels *= int(size)
    if voxels > limits.voxels:
        shown = " x ".join(str(size) for size in shape)
        raise DataError(f"ct: {shown} voxels, at most {limits.voxels} in all are accepted")


def _unzip(part: IO[bytes], folder: Path, limits: Limits) -> Path:
    try:
        with zipfile.ZipFile(part) as archive:
            items = [item for item in archive.infolist() if not item.is_dir()]
            if any(item.flag_bits & 1 for item in items):
                raise DataError("ct: the zip is encrypted; send it without a password")
            return _series((archive.open(item).read for item in items), folder, limits)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
        raise DataError(f"ct: a damaged or unusual zip ({type(error).__name__}); zip it again") from None


def _series(slices: Iterable[Read], folder: Path, limits: Limits) -> Path:
    """Slices under numbers of their own; what the archive calls them is not looked at."""
    series = folder / "ct"
    series.mkdir()
    left = limits.unpacked_bytes
    number = -1
    for number, read in enumerate(slices):
        if number >= MAX_SLICES:
            raise DataError(f"ct: more than {MAX_SLICES} files; send one CT series")
        left -= _copy(read, series / f"{number:05d}.dcm", left)
    if number < 0:
        raise DataError("ct: the zip is empty; it must hold the slices of one DICOM series")
    return series


def _copy(read: Read, path: Path, limit: int) -> int:
    """Bytes copied; counted while they come."""
    size = 0
    with path.open("wb") as target:
        while data := read(CHUNK):
            size += len(data)
            if size > limit:
                raise DataError(f"ct: more than {limit >> 20} MiB once unpacked; larger CTs are not accepted")
            target.write(data)
    return size
