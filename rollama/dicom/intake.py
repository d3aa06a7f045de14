"""Patients as planning systems export them: a folder each, with one CT series and one RTSTRUCT in it.

The target is one ROI or the union of several, named as the hospital names them; a structure set without one of them is
an error of that patient, because a target that is silently smaller trains a smaller target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from rollama.core.errors import DataError
from rollama.data.intake import Raw
from rollama.data.texts import clean_id
from rollama.data.volumes import Mask, Volume
from rollama.dicom.rtstruct import RTSTRUCT, frame_of, read_rtstruct
from rollama.dicom.series import CT_IMAGE, read_series


def rtstruct_cases(folder: Path, rois: Sequence[str]) -> list[Raw]:
    """One case a sub-folder, named like it.

    Args:
        folder: holds the patients' folders.
        rois: names of the ROIs that make up the target.

    Raises:
        DataError: no sub-folder, or no ROI is named.
    """
    if not rois:
        raise DataError("name the ROI or ROIs that make up the target, such as --roi CTVp_breast")
    patients = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not patients:
        raise DataError(f"{folder}: holds no patient folders")
    return [
        Raw(clean_id(path.name, str(path)), partial(load_patient, path, tuple(rois)), kind="rtstruct")
        for path in patients
    ]


def load_patient(folder: Path, rois: tuple[str, ...]) -> tuple[Volume, Mask]:
    """CT and target of a patient's folder; both may lie in sub-folders of it.

    Raises:
        DataError: what `read_series` and `read_rtstruct` refuse, or not one folder with a CT and one structure set.
    """
    series, structures = set(), []
    for path, kind in _objects(folder):
        if kind == CT_IMAGE:
            series.add(path.parent)
        elif kind == RTSTRUCT:
            structures.append(path)
    if len(series) != 1 or len(structures) != 1:
        raise DataError(
            f"{folder}: needs one folder with a CT series and one RTSTRUCT; found {len(series)} and {len(structures)}"
        )
    (where,) = series
    volume = read_series(where)
    union = np.zeros(volume.shape, bool)
    for mask in read_rtstruct(structures[0], volume, frame_of(where), rois).values():
        union |= mask
    return volume, union.astype(np.uint8)


def _objects(folder: Path) -> Iterator[tuple[Path, str]]:
    """DICOM files below a folder and their SOP class; other files are passed over."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
        except InvalidDicomError:
            continue
        except Exception as error:  # damaged files raise whatever the parser stumbles over
            raise DataError(f"{path}: not a readable DICOM file") from error
        yield path, str(header.get("SOPClassUID", ""))
