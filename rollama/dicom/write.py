"""A CT volume as a DICOM series that planning systems import, the same bytes for the same case.

Most planning systems take axial slices only, in the order of the patient's axes, and trust what the header says; so
the volume is turned into that order without interpolation, and every slice says what it is: synthetic where it is,
and for research only. UIDs and dates follow from the data set and the case, never from the clock: an export made
twice is the same export, and a structure set written later still fits its CT.

DICOM's patient axes are LPS, ours are RAS (see `rollama.data.volumes`); the two first signs change.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rollama import RESEARCH_ONLY, __version__
from rollama.core.errors import DataError
from rollama.core.files import new_folder
from rollama.data.export import require_free
from rollama.data.volumes import LPS_RAS, Affine, Volume, check_hu
from rollama.dicom.series import CT_IMAGE

STUDY_DATE, STUDY_TIME = "20000101", "120000"
"""Synthetic patients were never scanned: one date for all, so that equal content has equal bytes."""
SYNTHETIC = "SYNTHETIC DATA"
LABEL = "RESEARCH USE ONLY"
INTERCEPT = -1024
"""Stored value = HU + 1024, so that a reader which misses the sign of the pixels still reads HU >= -1024 right."""
MAX_TILT = 1e-3
"""Largest direction cosine between patient axes that still counts as axial; the header states it as it is."""
MAX_ID = 54
"""PatientName has 64 characters, ten of them say that the patient is synthetic."""
_NAMESPACE = uuid.UUID("6ff1d4a4-0d0b-5f3a-9c3c-5f7f3b1c7a10")


@dataclass(frozen=True)
class Identity:
    """Whose series this is: the patient module's content, and the source of all UIDs.

    Attributes:
        case_id: PatientID, at most 54 characters.
        source: the data set's content hash; the same case of other content gets other UIDs.
        synthetic: decides what the headers say.
        body_part: BodyPartExamined (PS3.16 annex L).
    """

    case_id: str
    source: str
    synthetic: bool
    body_part: str = "CHEST"

    def __post_init__(self) -> None:
        if len(self.case_id) > MAX_ID:
            raise DataError(
                f"case {self.case_id}: its id is longer than the {MAX_ID} characters that DICOM has room for"
            )

    def uid(self, role: str, index: int = 0) -> str:
        """A UID of the form 2.25.<UUID> (PS3.5 B.2), a function of data set, case, role and index."""
        return derived_uid(self.source, self.case_id, role, str(index))

    @property
    def label(self) -> str:
        """What every object of this patient says about itself, at most 64 characters."""
        return f"{SYNTHETIC} - {LABEL}" if self.synthetic else LABEL


@dataclass(frozen=True, eq=False)
class AxialGrid:
    """A volume's voxels as axial DICOM slices.

    Attributes:
        affine: (column, row, slice) index -> patient mm, LPS; columns run to the left, rows to the back, slices up.
        shape: columns, rows, slices.
    """

    affine: Affine
    shape: tuple[int, int, int]
    _orientation: npt.NDArray[np.float64]

    def planes(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An array on the volume's grid as (slice, row, column); a view."""
        from nibabel import orientations as untyped

        orientations: Any = untyped
        return np.asarray(orientations.apply_orientation(array, self._orientation)).transpose(2, 1, 0)

    @property
    def spacing(self) -> npt.NDArray[np.float64]:
        """Distance of columns, rows and slices in mm."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))


def axial_grid(volume: Volume) -> AxialGrid:
    """How `volume` is cut into slices, whatever the order and direction of its axes in storage.

    Raises:
        DataError: the axes are turned against the patient's; planning systems refuse such a CT.
    """
    from nibabel import orientations as untyped

    orientations: Any = untyped
    affine = LPS_RAS @ volume.affine
    orientation = orientations.io_orientation(affine)
    affine = affine @ orientations.inv_ornt_aff(orientation, volume.shape) + 0.0  # + 0.0 turns -0.0 into 0.0
    grid = AxialGrid(affine, _sorted_shape(volume.shape, orientation), orientation)
    if np.abs(affine[:3, :3] / grid.spacing - np.eye(3)).max() > MAX_TILT:
        raise DataError(f"{volume.source}: its slices are not axial (oblique axes); resample it to the patient's axes")
    return grid


def _sorted_shape(shape: tuple[int, int, int], orientation: npt.NDArray[np.float64]) -> tuple[int, int, int]:
    x, y, z = (shape[i] for i in np.argsort(orientation[:, 0]))
    return (x, y, z)


def write_series(folder: Path, ct: Volume, identity: Identity) -> None:
    """Write a CT as one series of axial CT images (PS3.3 A.3), `0001.dcm` the lowest slice.

    Explicit VR Little Endian, signed 16 bit, HU rounded to whole numbers, head first supine.

    Args:
        folder: new, or empty.
        ct: HU; axes in any order and direction along the patient's.
        identity: patient and UIDs.

    Raises:
        DataError: the folder holds something, the CT is oblique or no CT in HU, values beyond 16 bits, a full disk.
    """
    check_hu(ct.array, ct.source)
    grid = axial_grid(ct)
    low, high = float(ct.array.min()), float(ct.array.max())
    limits = np.iinfo(np.int16)
    if low - INTERCEPT < limits.min or high - INTERCEPT > limits.max:
        raise DataError(
            f"{ct.source}: values run from {low:g} to {high:g} HU; 16 bits hold at most {limits.max} + -1024"
        )
    require_free(folder)
    with new_folder(folder) as temporary:
        for index, plane in enumerate(grid.planes(ct.array)):
            stored = (np.rint(plane) - INTERCEPT).astype("<i2")
            save(_slice(grid, identity, index, stored), temporary / f"{index + 1:04d}.dcm")


def _slice(grid: AxialGrid, identity: Identity, index: int, stored: npt.NDArray[np.int16]) -> Any:
    from pydicom.uid import ExplicitVRLittleEndian

    dataset = new_object(identity, CT_IMAGE, identity.uid("slice", index), ExplicitVRLittleEndian)
    x, y, z = grid.spacing.tolist()
    position = (grid.affine @ [0, 0, index, 1])[:3]
    # Not ORIGINAL, PRIMARY: no scanner made these pixels, or they came through NIfTI.
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.Modality = "CT"
    dataset.SeriesInstanceUID, dataset.SeriesNumber = identity.uid("series"), 1
    dataset.SeriesDescription = identity.label
    dataset.BodyPartExamined = identity.body_part
    dataset.PatientPosition = "HFS"
    dataset.KVP = None
    dataset.AcquisitionNumber = None
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = identity.uid("frame"), ""
    dataset.InstanceNumber = index + 1
    dataset.ImagePositionPatient = [decimal(value) for value in position]
    dataset.ImageOrientationPatient = [decimal(value) for value in (grid.affine[:3, :2] / grid.spacing[:2]).T.ravel()]
    dataset.PixelSpacing = [decimal(y), decimal(x)]  # distance of rows, then of columns
    dataset.SliceThickness = decimal(z)
    dataset.SliceLocation = decimal(position[2])
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, INTERCEPT, "HU"
    dataset.WindowCenter, dataset.WindowWidth = 40, 400
    dataset.BurnedInAnnotation = "NO"
    dataset.ImageComments = f"{SYNTHETIC}. {RESEARCH_ONLY}" if identity.synthetic else RESEARCH_ONLY
    dataset.PixelData = stored.tobytes()
    return dataset


def new_object(identity: Identity, sop_class: str, sop_uid: str, syntax: str) -> Any:
    """A pydicom dataset with what all objects of a patient share: file meta, patient, study, equipment, SOP common."""
    dataset = new_dataset(sop_class, sop_uid, syntax)
    dataset.PatientName = f"SYNTHETIC^{identity.case_id}" if identity.synthetic else identity.case_id
    dataset.PatientID = identity.case_id
    dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.StudyInstanceUID = identity.uid("study")
    # Of clinical data the real dates are not known here, and an invented one would be worse than none.
    dataset.StudyDate, dataset.StudyTime = (STUDY_DATE, STUDY_TIME) if identity.synthetic else ("", "")
    dataset.StudyID, dataset.StudyDescription = "1", identity.label
    dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    # Not SyntheticData (0008,001C): tools of before 2023 (Debian 12's dcmtk and dciodvfy) call the tag an error.
    return dataset


def new_dataset(sop_class: str, sop_uid: str, syntax: str) -> Any:
    """A pydicom dataset of nobody yet: file meta, SOP common and the equipment, which is this program."""
    from pydicom.dataset import Dataset, FileMetaDataset

    dataset = Dataset()
    meta = dataset.file_meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = sop_uid
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = derived_uid("rollama")
    meta.ImplementationVersionName = f"ROLLAMA_{__version__}"[:16]
    dataset.Manufacturer, dataset.ManufacturerModelName = "rollama", "rollama"
    dataset.SoftwareVersions = __version__
    return dataset


def derived_uid(*parts: str) -> str:
    """A UID of the form 2.25.<UUID> (PS3.5 B.2), a function of `parts` only."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(parts)).int}"


def decimal(value: float) -> str:
    """A decimal string (VR DS, PS3.5 6.2): at most 16 bytes; nanometres and less are dropped."""
    from pydicom.valuerep import format_number_as_ds

    return str(format_number_as_ds(round(float(value), 9) + 0.0))


def save(dataset: Any, path: Path) -> None:
    """Write a DICOM file with its preamble and meta header."""
    dataset.save_as(path, enforce_file_format=True)
