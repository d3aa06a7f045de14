"""A data set becomes DICOM folders that give the same targets back, and nothing leaves that should not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rollama.core.errors import DataError
from rollama.core.files import hash_file
from rollama.data.export import export_nifti, select_cases
from rollama.data.parts import Part
from rollama.dicom.export import export_dicom
from rollama.dicom.rtstruct import frame_of, read_rtstruct
from rollama.dicom.series import read_series
from tests.dicom.data import NO_TARGET, SECRET, ct_array, make_dataset, target_array


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hash_file(path) for path in folder.rglob("*") if path.is_file()}


def test_a_patient_folder_gives_ct_target_and_parts_back(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data")
    done: list[int] = []
    made = export_dicom(dataset, dataset.cases, tmp_path / "out", progress=done.append)
    assert made.cases == 4 and done == [1, 2, 3, 4]
    patient = tmp_path / "out" / "north-train-0"
    assert sorted(path.name for path in patient.iterdir()) == ["ct", "note.txt", "rtstruct.dcm"]
    ct = read_series(patient / "ct")
    assert np.array_equal(ct.array[::-1, ::-1], ct_array())
    labels = target_array()
    wanted = {
        "CTV_Total": labels > 0,
        "CTVp_Breast_L": (labels == Part.BREAST) | (labels == Part.BOOST),
        "CTVn_LN_Ax_L2_L": labels == Part.L2,
        "CTVsb_L": labels == Part.BOOST,
    }
    found = read_rtstruct(patient / "rtstruct.dcm", ct, frame_of(patient / "ct"))
    assert list(found) == list(wanted)
    for name, mask in wanted.items():
        assert np.array_equal(found[name][::-1, ::-1], mask), name
    assert (patient / "note.txt").read_text() == SECRET


def test_a_case_without_target_has_no_structure_set_and_is_named(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data")
    made = export_dicom(dataset, dataset.cases, tmp_path / "out")
    assert made.remarks == (f"{NO_TARGET}: no target, so no rtstruct.dcm",)
    assert made.remarks[0] in (tmp_path / "out" / "README.txt").read_text()
    assert sorted(path.name for path in (tmp_path / "out" / NO_TARGET).iterdir()) == ["ct", "note.txt"]
    frames = {frame_of(path / "ct") for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert len(frames) == 4


def test_the_readme_says_what_it_is(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data")
    export_dicom(dataset, dataset.cases[:1], tmp_path / "out")
    text = (tmp_path / "out" / "README.txt").read_text()
    assert text.startswith("RESEARCH USE ONLY") and "SYNTHETIC DATA" in text and dataset.info.content_hash in text
    assert (tmp_path / "out" / "cases.csv").read_text() == "case_id,centre,split\nnorth-test-2,north,test\n"


@pytest.mark.parametrize("export", [export_dicom, export_nifti])
def test_exported_twice_it_is_the_same(tmp_path: Path, export) -> None:
    dataset = make_dataset(tmp_path / "data")
    for name in ("a", "b"):
        export(dataset, dataset.cases[:2], tmp_path / name)
    assert files(tmp_path / "a") == files(tmp_path / "b")


@pytest.mark.parametrize("export", [export_dicom, export_nifti])
def test_clinical_notes_stay_unless_asked_for(tmp_path: Path, export) -> None:
    dataset = make_dataset(tmp_path / "data", synthetic=False)
    export(dataset, dataset.cases[:2], tmp_path / "without")
    assert not list((tmp_path / "without").rglob("note.txt"))
    everything = b"".join(path.read_bytes() for path in (tmp_path / "without").rglob("*") if path.is_file())
    assert b"CANARY" not in everything and b"SYNTHETIC" not in everything
    export(dataset, dataset.cases[:2], tmp_path / "with", with_notes=True)
    assert len(list((tmp_path / "with").rglob("note.txt"))) == 2
    synthetic = make_dataset(tmp_path / "synthetic")
    export(synthetic, synthetic.cases[:1], tmp_path / "told", with_notes=False)
    assert not list((tmp_path / "told").rglob("note.txt"))


@pytest.mark.parametrize("export", [export_dicom, export_nifti])
def test_what_is_there_is_kept(tmp_path: Path, export) -> None:
    dataset = make_dataset(tmp_path / "data")
    (tmp_path / "out").mkdir()
    export(dataset, dataset.cases[:1], tmp_path / "out")  # an empty folder may be taken
    before = files(tmp_path / "out")
    with pytest.raises(DataError, match="out: exists and is not an empty folder"):
        export(dataset, dataset.cases, tmp_path / "out")
    assert files(tmp_path / "out") == before


def test_a_broken_case_leaves_nothing_behind(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data")
    (tmp_path / "data" / "south" / "parts" / "south-external-0.nii.gz").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"south-external-0\.nii\.gz: not a readable NIfTI") as caught:
        export_dicom(dataset, dataset.cases, tmp_path / "out")
    assert "CANARY" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_full_disk_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset(tmp_path / "data")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rollama.dicom.write.save", full)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\)"):
        export_dicom(dataset, dataset.cases, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_without_parts_or_side_only_the_whole_target(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", parts=False)
    export_dicom(dataset, dataset.select(centre="south"), tmp_path / "a")
    ct = read_series(tmp_path / "a" / "south-external-0" / "ct")
    assert list(read_rtstruct(tmp_path / "a" / "south-external-0" / "rtstruct.dcm", ct)) == ["CTV_Total"]
    dataset = make_dataset(tmp_path / "more")
    free = dataset.select(centre="south")[0].updated(plan=None)
    made = export_dicom(dataset, [free], tmp_path / "b")
    assert "the side is not known" in made.remarks[0]
    assert list(read_rtstruct(tmp_path / "b" / "south-external-0" / "rtstruct.dcm", ct)) == ["CTV_Total"]


def test_nifti_copies_bytes(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data")
    export_nifti(dataset, dataset.cases, tmp_path / "out")
    for case in dataset.cases:
        own = tmp_path / "out" / case.case_id
        assert sorted(path.name for path in own.iterdir()) == ["ct.nii.gz", "note.txt", "parts.nii.gz", "target.nii.gz"]
        assert (own / "ct.nii.gz").read_bytes() == case.image.read_bytes()
        assert (own / "target.nii.gz").read_bytes() == case.target.read_bytes()
    readme = (tmp_path / "out" / "README.txt").read_text()
    assert "RESEARCH USE ONLY" in readme and "9 CTVsb" in readme


def test_selection(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data")

    def ids(**choice: object) -> list[str]:
        return [case.case_id for case in select_cases(dataset, **choice)]  # type: ignore[arg-type]

    assert ids(splits=["train", "external"]) == ["north-train-0", "south-external-0"]
    assert ids(centres=["north"], limit=2) == [NO_TARGET, "north-train-0"]
    assert ids(ids=["south-external-0"]) == ["south-external-0"]
    for choice, message in (
        ({"splits": ["dev"]}, "no split dev; it has train, validation, test, external"),
        ({"centres": ["east"]}, "no centre east; it has north, south"),
        ({"ids": ["x"]}, "no case x; it has north-test-2, north-train-0"),
        ({"centres": ["north"], "splits": ["external"]}, "no case fits"),
    ):
        with pytest.raises(DataError, match=message):
            ids(**choice)
