"""A CT volume becomes a series that other readers place where it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK

from rollama.core.errors import DataError
from rollama.data.volumes import Volume, to_canonical
from rollama.dicom.series import read_series
from rollama.dicom.write import Identity, axial_grid, write_series
from tests.dicom.data import IDENTITY, ct_volume

STORED = {  # storage orders of one and the same CT: permuted and flipped axes
    "RAS": lambda a, m: (a, m),
    "flipped": lambda a, m: (a[::-1, ::-1], m @ flip(a.shape, 0, 1)),
    "from the head": lambda a, m: (a[:, :, ::-1], m @ flip(a.shape, 2)),
    "sagittal": lambda a, m: (a.transpose(1, 2, 0), m @ np.eye(4)[:, [1, 2, 0, 3]]),
}


def flip(shape: tuple[int, ...], *axes: int) -> np.ndarray:
    matrix = np.eye(4)
    for axis in axes:
        matrix[axis, axis], matrix[axis, 3] = -1, shape[axis] - 1
    return matrix


def stored(order: str, spacing: tuple[float, float, float] = (4.0, 4.0, 5.0)) -> Volume:
    ct = ct_volume(spacing)
    array, affine = STORED[order](ct.array, ct.affine)
    return Volume(np.asarray(array), affine)


@pytest.mark.parametrize("order", STORED)
@pytest.mark.parametrize("spacing", [(4.0, 4.0, 5.0), (0.976562, 1.3, 2.5)])
def test_read_series_gives_the_ct_back(tmp_path: Path, order: str, spacing: tuple[float, float, float]) -> None:
    write_series(tmp_path / "ct", stored(order, spacing), IDENTITY)
    back = to_canonical(read_series(tmp_path / "ct"))
    wanted = ct_volume(spacing)
    assert np.array_equal(back.array, wanted.array)
    assert back.affine == pytest.approx(wanted.affine, abs=1e-6)


def test_itk_places_every_voxel_where_the_affine_does(tmp_path: Path) -> None:
    ct = ct_volume((3.0, 4.0, 5.0))
    write_series(tmp_path / "ct", ct, IDENTITY)
    image = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    for index in np.argwhere(ct.array > -1000)[::97]:
        x, y, z = (ct.affine @ [*index, 1])[:3]
        assert image[image.TransformPhysicalPointToIndex([-x, -y, z])] == ct.array[tuple(index)]


def test_headers_say_what_it_is(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", ct_volume((3.0, 4.0, 5.0)), IDENTITY)
    first, last = (pydicom.dcmread(tmp_path / "ct" / f"{number:04d}.dcm") for number in (1, 12))
    assert first.PatientName == "SYNTHETIC^north-train-0" and first.PatientID == "north-train-0"
    assert first.SeriesDescription == "SYNTHETIC DATA - RESEARCH USE ONLY"
    assert "SYNTHETIC" in first.ImageComments and "RESEARCH USE ONLY" in first.ImageComments
    assert list(first.PixelSpacing) == [4.0, 3.0]  # rows first
    assert first.PatientPosition == "HFS" and first.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert last.SliceLocation - first.SliceLocation == pytest.approx(55.0)
    assert "PatientIdentityRemoved" not in first


def test_of_clinical_data_nothing_is_invented(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", ct_volume(), Identity("p1", "a", synthetic=False))
    header = pydicom.dcmread(tmp_path / "ct" / "0001.dcm")
    assert header.PatientName == "p1"
    assert "SYNTHETIC" not in header.SeriesDescription + header.ImageComments
    assert not header.StudyDate and "PatientIdentityRemoved" not in header


def test_same_case_same_bytes_other_content_other_uids(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_series(tmp_path / name, ct_volume(), IDENTITY)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 12
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    other = Identity(IDENTITY.case_id, "1" * 64, synthetic=True)
    uids = {who.uid(role, index) for who in (IDENTITY, other) for role in ("slice", "series") for index in (0, 1)}
    assert len(uids) == 8 and all(len(uid) <= 64 for uid in uids)


def test_hu_are_rounded_and_what_16_bits_do_not_hold_is_refused(tmp_path: Path) -> None:
    ct = ct_volume()
    ct.array[5, 5, 5], ct.array[6, 5, 5] = 100.6, -3024.0
    write_series(tmp_path / "ct", ct, IDENTITY)
    back = to_canonical(read_series(tmp_path / "ct"))
    assert (back.array[5, 5, 5], back.array[6, 5, 5]) == (101.0, -3024.0)
    ct.array[0, 0, 0] = 40000
    with pytest.raises(DataError, match=r"values run from -3024 to 40000 HU"):
        write_series(tmp_path / "other", ct, IDENTITY)
    assert not (tmp_path / "other").exists()


def test_refusals(tmp_path: Path) -> None:
    turn = np.eye(4)
    turn[:2, :2] = [[0.995, -0.0998749], [0.0998749, 0.995]]
    with pytest.raises(DataError, match="not axial"):
        axial_grid(Volume(ct_volume().array, turn @ np.diag([4.0, 4.0, 5.0, 1.0])))
    with pytest.raises(DataError, match="longer than the 54 characters"):
        Identity("x" * 55, "a", synthetic=True)
    (tmp_path / "ct").mkdir()
    (tmp_path / "ct" / "mine.dcm").write_text("x")
    with pytest.raises(DataError, match="exists and is not an empty folder"):
        write_series(tmp_path / "ct", ct_volume(), IDENTITY)
    assert (tmp_path / "ct" / "mine.dcm").read_text() == "x"
