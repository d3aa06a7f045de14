"""One CT series as a volume, or a refusal that says what is wrong with the folder.

A DICOM series is a bag of slices: file names and InstanceNumber promise nothing, a slice may be missing, and a folder
may hold two series. Order and geometry therefore come from ImagePositionPatient and ImageOrientationPatient only,
and whatever would bend the volume silently (a gap, a tilted gantry, mixed frames of reference) is refused.
Messages name files and positions in mm, never the patient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rollama.core.errors import DataError
from rollama.data.volumes import LPS_RAS, MIN_SLICES, Volume, check_hu

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
COMPANIONS = frozenset({"RTSTRUCT", "RTPLAN", "RTDOSE", "REG", "SEG", "SR", "PR", "KO"})
"""Objects that treatment planning systems export beside a CT; they are not slices and are passed over."""
SUPINE = ("HFS", "FFS")
GAP_TOLERANCE = 0.02
"""Largest deviation of a slice distance from the usual one, as a share of it (at least 0.05 mm: rounded headers)."""
SHIFT_TOLERANCE_MM = 0.1
"""Largest in-plane movement of slice origins over the whole series; more means a tilted gantry."""
_REQUIRED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "SeriesInstanceUID",
             "FrameOfReferenceUID", "RescaleSlope", "RescaleIntercept")  # fmt: skip
_LENGTHS = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}


@dataclass(frozen=True)
class Slice:
    """One file of a series: its header without pixels, and ImagePositionPatient in mm (LPS)."""

    path: Path
    header: Any
    position: npt.NDArray[np.float64]


def read_series(folder: Path) -> Volume:
    """Read the one CT series in a folder.

    Args:
        folder: its files are the slices (sub-folders are not searched); RTSTRUCT and similar objects may lie beside.

    Returns:
        HU, float32 (x, y, z) = (column, row, slice along the normal); affine in RAS+ mm.

    Raises:
        DataError: no or several series, not CT, missing or doubled slices, tilted gantry, mixed geometry or frame of
            reference, patient not supine, no or undecodable pixels, or values that are not a chest CT in HU.
    """
    slices = read_slices(folder)
    first = slices[0].header
    row, column, normal = _directions(first)
    step = _slice_step(folder, slices, normal)
    affine = np.eye(4)
    affine[:3, 0] = row * float(first.PixelSpacing[1])  # along a row the column index grows
    affine[:3, 1] = column * float(first.PixelSpacing[0])
    affine[:3, 2] = step
    affine[:3, 3] = slices[0].position
    stack = np.empty((len(slices), int(first.Rows), int(first.Columns)), dtype=np.float32)
    for index, item in enumerate(slices):
        stack[index] = _read_hu(item)
    volume = Volume(stack.transpose(2, 1, 0), LPS_RAS @ affine + 0.0, str(folder))
    check_hu(volume.array, volume.source)
    return volume


def read_slices(folder: Path) -> list[Slice]:
    """The headers of the one CT series in a folder, in the order of the volume's third axis.

    Raises:
        DataError: see `read_series`, without what only positions and pixels tell.
    """
    slices = _read_headers(folder)
    first = slices[0].header
    _require_one(folder, slices)
    _require_supine(folder, str(first.get("PatientPosition", "") or ""))
    row, column, normal = _directions(first)
    if np.abs([row @ row - 1, column @ column - 1, row @ column]).max() > 1e-3:
        raise DataError(f"{folder}: ImageOrientationPatient is not two perpendicular unit vectors")
    return sorted(slices, key=lambda item: float(item.position @ normal))


def _directions(header: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Unit vectors (LPS) along a row, down a column, and across the slices."""
    row, column = np.reshape(np.asarray(header.ImageOrientationPatient, dtype=np.float64), (2, 3))
    return row, column, np.cross(row, column)


def _read_headers(folder: Path) -> list[Slice]:
    import pydicom

    if not folder.is_dir():
        raise DataError(f"{folder}: no such DICOM folder")
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".") and p.name != "DICOMDIR")
    if not files:
        raise DataError(f"{folder}: the folder holds no files; expected the slices of one CT series")
    slices, others = [], set()
    for path in files:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
        except Exception as error:  # damaged files raise whatever the parser stumbles over
            raise DataError(f"{path}: not a readable DICOM file; leave only one CT series in the folder") from error
        modality = str(header.get("Modality", "")) or "no modality"
        if modality in COMPANIONS:
            continue
        if modality != "CT" or header.get("SOPClassUID") != CT_IMAGE:
            others.add("multi-frame or secondary CT" if modality == "CT" else modality)
            continue
        missing = [name for name in _REQUIRED if header.get(name) in (None, "")]
        if missing:
            raise DataError(f"{path}: not a usable CT slice, without {', '.join(missing)}")
        for name, count in _LENGTHS.items():
            if np.size(header.get(name)) != count:
                raise DataError(f"{path}: {name} must hold {count} numbers")
        slices.append(Slice(path, header, np.asarray(header.ImagePositionPatient, dtype=np.float64)))
    if others:
        raise DataError(f"{folder}: expected one series of CT slices only, found also {', '.join(sorted(others))}")
    if len(slices) < MIN_SLICES:
        raise DataError(f"{folder}: {len(slices)} CT slice(s); a volume needs at least {MIN_SLICES}")
    return slices


def _require_one(folder: Path, slices: Sequence[Slice]) -> None:
    """Everything that must be the same in all slices."""
    same: list[tuple[str, str, Callable[[Any], object]]] = [
        ("series", "export one series into its own folder", lambda h: str(h.SeriesInstanceUID)),
        ("frames of reference", "they cannot be one volume", lambda h: str(h.FrameOfReferenceUID)),
        ("image sizes", "they cannot be one volume", lambda h: (int(h.Rows), int(h.Columns))),
        ("pixel spacings", "they cannot be one volume", lambda h: _rounded(h.PixelSpacing, 4)),
        ("orientations", "is a localiser among them?", lambda h: _rounded(h.ImageOrientationPatient, 3)),
        ("patient positions", "they cannot be one volume", lambda h: str(h.get("PatientPosition", ""))),
    ]  # fmt: skip
    for name, advice, value in same:
        count = len({value(item.header) for item in slices})
        if count > 1:
            raise DataError(f"{folder}: {count} different {name} among {len(slices)} CT slices; {advice}")


def _rounded(values: Sequence[Any], digits: int) -> tuple[float, ...]:
    return tuple(round(float(value), digits) + 0.0 for value in values)  # + 0.0: -0.0 and 0.0 are one value


def _require_supine(folder: Path, position: str) -> None:
    if position and position not in SUPINE:
        raise DataError(
            f"{folder}: PatientPosition is {position!r} (prone or on the side); the models know supine patients only "
            f"({' or '.join(SUPINE)})"
        )


def _slice_step(folder: Path, slices: Sequence[Slice], normal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The constant step between neighbouring slices, in mm (LPS)."""
    positions = np.stack([item.position for item in slices])
    along = positions @ normal
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    same = np.flatnonzero(gaps < 1e-3)
    if same.size:
        raise DataError(f"{folder}: two slices lie at {along[same[0]]:.2f} mm along the normal; remove the double one")
    wrong = np.flatnonzero(np.abs(gaps - usual) > max(GAP_TOLERANCE * usual, 0.05))
    if wrong.size:
        places = ", ".join(f"{along[i]:.2f} and {along[i + 1]:.2f}" for i in wrong[:5])
        raise DataError(
            f"{folder}: slices are {usual:.2f} mm apart, but not between {places} mm along the normal "
            f"({wrong.size} place(s)): slices are missing or the spacing changes"
        )
    in_plane = positions - positions[0] - np.outer(along - along[0], normal)
    if np.linalg.norm(in_plane, axis=1).max() > SHIFT_TOLERANCE_MM:
        raise DataError(
            f"{folder}: slice origins move sideways (tilted gantry); resample the CT to orthogonal axes first"
        )
    return np.asarray((positions[-1] - positions[0]) / (len(slices) - 1))


def _read_hu(item: Slice) -> npt.NDArray[np.float32]:
    """One slice in HU, (rows, columns)."""
    import pydicom

    dataset = pydicom.dcmread(item.path)
    if "PixelData" not in dataset:
        raise DataError(f"{item.path}: has no pixel data")
    kind = str(dataset.get("RescaleType", "") or "HU")
    if kind != "HU":
        raise DataError(f"{item.path}: RescaleType is {kind!r}; expected HU")
    try:
        pixels = dataset.pixel_array
    except Exception as error:  # each decoder of a compressed transfer syntax has errors of its own
        name = getattr(dataset.file_meta.get("TransferSyntaxUID"), "name", "unknown")
        raise DataError(f"{item.path}: pixels cannot be decoded (transfer syntax {name})") from error
    if pixels.shape != (item.header.Rows, item.header.Columns):
        raise DataError(f"{item.path}: expected one grey image of {item.header.Rows} x {item.header.Columns} pixels")
    return np.asarray(pixels * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept), dtype=np.float32)
