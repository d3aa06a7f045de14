"""A small invented CT series, written slice by slice with pydicom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
NAME = "CANARY^PATIENT"
"""Must never show up in a message."""


def phantom() -> np.ndarray:
    """HU as (slice, row, column): air, a body, one bright ball off the centre in every direction."""
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in (8, 24, 20)], indexing="ij")
    values = np.where(x**2 + y**2 < 0.8, 40, -1000)
    values[(x + 0.4) ** 2 + (y - 0.2) ** 2 + (z - 0.4) ** 2 < 0.06] = 700
    return values.astype(np.int16)


@pytest.fixture
def series_hu() -> np.ndarray:
    """What `write_series` writes, as (column, row, slice) in HU."""
    return phantom().transpose(2, 1, 0)


@pytest.fixture
def write_series(tmp_path: Path) -> Callable[..., Path]:
    """Write the phantom as DICOM; `change(dataset, index)` may spoil a slice, or drop it by returning False."""

    def write(
        change: Callable[[Dataset, int], Any] = lambda *_: None,
        orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
        folder: str = "series",
    ) -> Path:
        target = tmp_path / folder
        target.mkdir(exist_ok=True)
        series, frame = generate_uid(), generate_uid()
        row, column = np.reshape(orientation, (2, 3))
        normal = np.cross(row, column)
        for index, pixels in enumerate(phantom()):
            dataset = Dataset()
            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CT_IMAGE
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
            dataset.PatientName, dataset.PatientID = NAME, "CANARY-ID"
            dataset.Modality, dataset.PatientPosition = "CT", "HFS"
            dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = series, frame
            dataset.ImageOrientationPatient = [float(v) for v in orientation]
            dataset.ImagePositionPatient = [float(v) for v in np.array([-20.5, -30.25, 100.0]) + 3.0 * index * normal]
            dataset.PixelSpacing = [0.9, 0.8]  # between rows, between columns
            dataset.Rows, dataset.Columns = pixels.shape
            dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
            dataset.BitsAllocated = dataset.BitsStored = 16
            dataset.HighBit, dataset.PixelRepresentation = 15, 0
            dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
            dataset.InstanceNumber = 1  # of no use on purpose
            dataset.PixelData = (pixels + 1024).astype(np.uint16).tobytes()
            if change(dataset, index) is not False:
                # file names in an order that is not the slices' order
                dataset.save_as(target / f"{(index * 5) % 8:02d}.dcm", enforce_file_format=True)
        return target

    return write
