"""A DICOM series becomes the right volume, or a clear refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from rollama.core.errors import DataError
from rollama.data.volumes import write_mask
from rollama.dicom.series import read_series

Write = Callable[..., Path]


def test_slices_are_sorted_by_position_and_scaled_to_hu(write_series: Write, series_hu: np.ndarray) -> None:
    volume = read_series(write_series())
    assert volume.shape == (20, 24, 8)
    assert np.array_equal(volume.array, series_hu)
    assert volume.spacing == pytest.approx((0.8, 0.9, 3.0))
    assert volume.affine @ [0, 0, 0, 1] == pytest.approx([20.5, 30.25, 100.0, 1])


@pytest.mark.parametrize(
    "orientation",
    [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), (1, 0, 0, 0, -1, 0), (0.9848, 0.1736, 0, -0.1736, 0.9848, 0)],
)
def test_geometry_agrees_with_itk(write_series: Write, orientation: tuple[float, ...]) -> None:
    """Every bright voxel lies where an independent reader puts it."""
    folder = write_series(orientation=orientation)
    volume = read_series(folder)
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = SimpleITK.ReadImage(names)
    for index in np.argwhere(volume.array > 600)[::7]:
        place = volume.affine @ [*index, 1]
        there = image.TransformPhysicalPointToIndex([-place[0], -place[1], place[2]])
        assert image[there] > 600


def test_mask_geometry_equals_the_series(write_series: Write, tmp_path: Path) -> None:
    folder = write_series()
    volume = read_series(folder)
    write_mask(tmp_path / "mask.nii.gz", (volume.array > 600).astype(np.uint8), volume)
    series = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    mask = SimpleITK.ReadImage(str(tmp_path / "mask.nii.gz"))
    for getter in ("GetSize", "GetOrigin", "GetSpacing", "GetDirection"):
        assert np.float32(getattr(mask, getter)()).tolist() == np.float32(getattr(series, getter)()).tolist(), getter
    assert np.array_equal(SimpleITK.GetArrayFromImage(mask) == 1, SimpleITK.GetArrayFromImage(series) > 600)


def test_structure_set_beside_the_slices_is_passed_over(write_series: Write) -> None:
    folder = write_series()

    def to_structure_set(dataset: Dataset, index: int) -> Any:
        if index:
            return False
        dataset.Modality = "RTSTRUCT"
        return None

    other = write_series(to_structure_set, folder="other")
    next(other.iterdir()).rename(folder / "rs.dcm")
    assert read_series(folder).shape == (20, 24, 8)


def tilt(dataset: Dataset, index: int) -> None:
    dataset.ImagePositionPatient[1] += 0.5 * index


def double(dataset: Dataset, index: int) -> None:
    if index == 3:
        dataset.ImagePositionPatient[2] += 3.0


def drop_pixels(dataset: Dataset, index: int) -> None:
    if index == 2:
        del dataset.PixelData


def cut_pixels(dataset: Dataset, index: int) -> None:
    if index == 2:
        dataset.PixelData = dataset.PixelData[:100]


def setting(name: str, value: Any, only: int | None = None) -> Callable[[Dataset, int], None]:
    def change(dataset: Dataset, index: int) -> None:
        if only is None or index == only:
            setattr(dataset, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _, index: index != 4, r"not between 109\.00 and 115\.00 mm"),
        (double, "two slices lie at 112.00 mm"),
        (tilt, "tilted gantry"),
        (lambda _, index: index < 1, "at least 3"),
        (setting("SeriesInstanceUID", generate_uid(), 1), "2 different series"),
        (setting("FrameOfReferenceUID", generate_uid(), 1), "2 different frames of reference"),
        (setting("PixelSpacing", [0.9, 0.9], 1), "2 different pixel spacings"),
        (setting("ImageOrientationPatient", [1, 0, 0, 0, 0, -1], 1), "2 different orientations"),
        (setting("PatientPosition", "HFP"), "'HFP' .*supine"),
        (setting("PatientPosition", "HFDL"), "'HFDL' .*supine"),
        (setting("Modality", "MR"), "found also MR"),
        (setting("RescaleSlope", None, 1), "without RescaleSlope"),
        (setting("ImagePositionPatient", [1.0, 2.0], 1), "ImagePositionPatient must hold 3 numbers"),
        (setting("RescaleType", "US"), "RescaleType is 'US'"),
        (setting("RescaleIntercept", 0), "chest CT in HU"),
        (drop_pixels, "no pixel data"),
        (cut_pixels, "cannot be decoded"),
    ],
)
def test_broken_series_are_refused(write_series: Write, change: Callable[..., Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_series(write_series(change))
    assert "CANARY" not in str(caught.value)


def test_folders_that_are_no_series(write_series: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such DICOM folder"):
        read_series(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no files"):
        read_series(tmp_path / "empty")
    folder = write_series()
    (folder / "report.pdf").write_bytes(b"not dicom")
    with pytest.raises(DataError, match=r"report\.pdf: not a readable DICOM file"):
        read_series(folder)
