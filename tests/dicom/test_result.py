"""A prediction's structure set belongs to the CT it was made on, whatever that CT's headers look like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from rollama.core.errors import DataError
from rollama.data.volumes import Volume
from rollama.dicom.result import read_original, write_result
from rollama.dicom.rtstruct import frame_of, read_rtstruct
from rollama.dicom.series import read_series

Write = Callable[..., Path]
STUDY = "1.2.826.0.1.3680043.8.498.1"
TILTED = tuple(float(value) for value in (np.cos(0.3), np.sin(0.3), 0, -np.sin(0.3), np.cos(0.3), 0))


def clinical(dataset: Dataset, _: int) -> None:
    """What a scanner's slices have and the plain fixture lacks."""
    dataset.StudyInstanceUID, dataset.StudyDate, dataset.StudyTime = STUDY, "20260301", "101112"
    dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = "7", "A77", "Doctor^Who"
    dataset.PatientBirthDate, dataset.PatientSex, dataset.IssuerOfPatientID = "19700102", "F", "HOSPITAL"


def shape(volume: Volume) -> np.ndarray:
    """A block with a hole and an island, on some slices."""
    mask = np.zeros(volume.shape, dtype=bool)
    mask[4:12, 5:15, 2:6] = True
    mask[6:9, 8:11, 3:5] = False
    mask[7, 9, 3] = True
    return mask


def result(folder: Path, out: Path) -> tuple[Any, Volume, np.ndarray]:
    volume = read_series(folder)
    write_result(out, volume, shape(volume), "CTV^AI", read_original(folder))
    return pydicom.dcmread(out), volume, shape(volume)


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), TILTED, (-1, 0, 0, 0, -1, 0)])
def test_it_is_the_patients_and_comes_back_as_the_same_mask(
    write_series: Write, tmp_path: Path, orientation: tuple[float, ...]
) -> None:
    folder = write_series(clinical, orientation)
    found, volume, mask = result(folder, tmp_path / "target.dcm")
    slices = [pydicom.dcmread(path) for path in folder.iterdir()]
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "IssuerOfPatientID", "StudyInstanceUID",
                 "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName",
                 "FrameOfReferenceUID"):  # fmt: skip
        assert found[name].value == slices[0][name].value, name
    frame = found.ReferencedFrameOfReferenceSequence[0]
    study = frame.RTReferencedStudySequence[0]
    series = study.RTReferencedSeriesSequence[0]
    assert frame.FrameOfReferenceUID == slices[0].FrameOfReferenceUID
    assert study.ReferencedSOPInstanceUID == STUDY and series.SeriesInstanceUID == slices[0].SeriesInstanceUID
    positions = {str(item.SOPInstanceUID): np.array(item.ImagePositionPatient) for item in slices}
    assert {str(item.ReferencedSOPInstanceUID) for item in series.ContourImageSequence} == set(positions)
    row, column = np.reshape(orientation, (2, 3))
    for contour in found.ROIContourSequence[0].ContourSequence:  # each on the slice that it names
        origin = positions[str(contour.ContourImageSequence[0].ReferencedSOPInstanceUID)]
        points = np.reshape(np.array(contour.ContourData, dtype=float), (-1, 3))
        assert np.abs((points - origin) @ np.cross(row, column)).max() < 1e-3
    back = read_rtstruct(tmp_path / "target.dcm", volume, frame_of(folder))
    assert list(back) == ["CTV^AI"]
    dice = 2 * (back["CTV^AI"] & mask).sum() / (back["CTV^AI"].sum() + mask.sum())
    assert dice == 1.0


def test_it_says_what_it_is(write_series: Write, tmp_path: Path) -> None:
    found, _, _ = result(write_series(clinical), tmp_path / "target.dcm")
    assert found.StructureSetLabel == "RESEARCH ONLY" and "AI-GENERATED" in found.StructureSetName
    assert "not reviewed" in found.StructureSetDescription and "RESEARCH USE ONLY" in found.StructureSetDescription
    assert "RESEARCH USE ONLY" in found.SeriesDescription and found.Manufacturer == "rollama"
    roi = found.StructureSetROISequence[0]
    assert roi.ROIGenerationAlgorithm == "AUTOMATIC" and "not reviewed" in roi.ROIGenerationDescription
    assert found.RTROIObservationsSequence[0].RTROIInterpretedType == "CTV"
    assert found.ApprovalStatus == "UNAPPROVED"


def test_the_same_prediction_is_one_object_and_another_is_not(write_series: Write, tmp_path: Path) -> None:
    folder = write_series(clinical)
    first, volume, mask = result(folder, tmp_path / "one.dcm")
    result(folder, tmp_path / "two.dcm")
    assert (tmp_path / "one.dcm").read_bytes() == (tmp_path / "two.dcm").read_bytes()
    mask[0, 0, 0] = True
    write_result(tmp_path / "other.dcm", volume, mask, "CTV^AI", read_original(folder))
    other = pydicom.dcmread(tmp_path / "other.dcm")
    assert other.SOPInstanceUID != first.SOPInstanceUID and other.SeriesInstanceUID != first.SeriesInstanceUID
    taken = {str(pydicom.dcmread(path)[name].value) for path in folder.iterdir()
             for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")}  # fmt: skip
    assert not {str(first.SOPInstanceUID), str(first.SeriesInstanceUID)} & taken


def test_odd_headers_are_repeated_to_the_byte_and_never_printed(
    write_series: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A date that is none, an ill-formed UID, a name outside its character set: warnings are errors in these tests."""

    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.IGNORE)

    def odd(dataset: Dataset, index: int) -> None:
        clinical(dataset, index)
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.PatientName, dataset.PatientBirthDate = "Müller^Jörg CANARY".encode("latin-1"), "1960-01-01"
        dataset.StudyInstanceUID, dataset.PatientID = "1.2.03.4", "CANARY" * 20
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113100", "DCM", "Basic Profile"
        dataset.PatientIdentityRemoved, dataset.DeidentificationMethodCodeSequence = "YES", [code]

    folder = write_series(odd)
    monkeypatch.undo()
    volume = read_series(folder)
    original = read_original(folder)
    write_result(tmp_path / "target.dcm", volume, shape(volume), "CTV^AI", original)
    assert "CANARY" not in repr(original.reason)
    data = (tmp_path / "target.dcm").read_bytes()
    for value in ("Müller^Jörg CANARY".encode("latin-1"), b"1960-01-01", b"1.2.03.4", b"CANARY" * 20):
        assert value in data
    found = pydicom.dcmread(tmp_path / "target.dcm")
    assert found.DeidentificationMethodCodeSequence[0].CodeMeaning == "Basic Profile"
    assert np.array_equal(read_rtstruct(tmp_path / "target.dcm", volume)["CTV^AI"], shape(volume))


def no_study(dataset: Dataset, _: int) -> None:
    dataset.pop("StudyInstanceUID", None)


def two_studies(dataset: Dataset, index: int) -> None:
    dataset.StudyInstanceUID = f"{STUDY}.{index}"


def two_patients(dataset: Dataset, index: int) -> None:
    clinical(dataset, index)
    dataset.PatientID = f"CANARY{index % 2}"


def one_image(dataset: Dataset, index: int) -> None:
    clinical(dataset, index)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (no_study, "no StudyInstanceUID"),
        (two_studies, "do not agree on StudyInstanceUID"),
        (two_patients, "do not agree on PatientID"),
        (one_image, "share a SOPInstanceUID"),
    ],
)
def test_what_nothing_can_refer_to(write_series: Write, tmp_path: Path, change: Any, said: str) -> None:
    folder = write_series(change)
    original = read_original(folder)
    assert said in original.reason and "CANARY" not in original.reason and str(tmp_path) not in original.reason
    volume = read_series(folder)
    with pytest.raises(DataError, match=said):
        write_result(tmp_path / "target.dcm", volume, shape(volume), "CTV^AI", original)
    assert not (tmp_path / "target.dcm").exists()


def test_an_empty_target_and_another_ct(write_series: Write, tmp_path: Path) -> None:
    folder = write_series(clinical)
    volume, original = read_series(folder), read_original(folder)
    with pytest.raises(DataError, match="no target has a voxel"):
        write_result(tmp_path / "target.dcm", volume, np.zeros(volume.shape, bool), "CTV^AI", original)
    short = Volume(np.ascontiguousarray(volume.array[:, :, 1:]), volume.affine)
    with pytest.raises(DataError, match="the series has 8 slices, but the CT has 7"):
        write_result(tmp_path / "target.dcm", short, shape(short), "CTV^AI", original)
    assert not (tmp_path / "target.dcm").exists()
