"""Our files before independent judges: OFFIS dcmtk reads them, dicom3tools checks them by the standard."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from rollama.dicom.export import export_dicom
from rollama.dicom.result import read_original, write_result
from rollama.dicom.series import read_series
from tests.dicom.data import ct_array, make_dataset

pytestmark = pytest.mark.dicom


def run(*command: str | Path) -> tuple[str, str]:
    """Output and messages of a tool; a non-zero exit fails the test."""
    if shutil.which(str(command[0])) is None:
        pytest.fail(f"{command[0]} is not installed; run 'sh infra/dicom/install' as root")
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module", params=[True, False], ids=["synthetic", "clinical"])
def patient(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dicom")
    dataset = make_dataset(folder / "data", synthetic=request.param)
    export_dicom(dataset, dataset.select(centre="south"), folder / "out")
    return folder / "out" / "south-external-0"


def objects(patient: Path) -> list[Path]:
    found = sorted(patient.rglob("*.dcm"))
    assert len(found) == 13
    return found


def test_every_file_is_dicom_and_parses_without_a_word(patient: Path) -> None:
    for path in objects(patient):
        assert run("dcmftest", path)[0].strip() == f"yes: {path}"
        text, messages = run("dcmdump", path)
        assert messages == ""
        assert "Unknown Tag" not in text
        assert run("dcm2json", path)[1] == ""


UNKNOWN_DATE = "needed to build DICOMDIR - Study "
NO_REAL_NAME = "Person Name form"
"""Warnings that clinical data earn on purpose: dates are not invented, and the name is the case id."""


def test_every_object_obeys_its_definition(patient: Path) -> None:
    synthetic = "SYNTHETIC" in run("dcmdump", "+P", "PatientName", patient / "rtstruct.dcm")[0]
    for path in objects(patient):
        output, messages = run("dciodvfy", path)
        found = [line for line in (output + messages).splitlines() if "Error" in line or "Warning" in line]
        if not synthetic:
            found = [line for line in found if UNKNOWN_DATE not in line and NO_REAL_NAME not in line]
        assert found == [], path.name


def test_the_objects_agree_on_patient_study_and_frame(patient: Path) -> None:
    output, messages = run("dcentvfy", *objects(patient))
    assert [line for line in (output + messages).splitlines() if "Error" in line] == []


def test_a_slice_decodes_to_its_hu(patient: Path, tmp_path: Path) -> None:
    """Window of 200 HU around 0 as eight bits: grey = (HU + 100) / 200 * 255."""
    picture = tmp_path / "slice.pgm"
    run("dcm2pnm", "+Ww", "0", "200", "+op", patient / "ct" / "0006.dcm", picture)
    head, size, depth, body = picture.read_bytes().split(b"\n", 3)
    assert (head, size, depth) == (b"P5", b"24 20", b"255")
    grey = np.frombuffer(body, np.uint8).reshape(20, 24)
    wanted = np.clip((ct_array()[::-1, ::-1, 5].T + 100.0) / 200 * 255, 0, 255)
    assert np.abs(grey - wanted).max() <= 2
    run("dcm2pnm", "--write-bmp", "--min-max-window", patient / "ct" / "0006.dcm", tmp_path / "slice.bmp")
    assert (tmp_path / "slice.bmp").read_bytes().startswith(b"BM")


def test_a_result_on_a_series_belongs_to_it(patient: Path, tmp_path: Path) -> None:
    volume = read_series(patient / "ct")
    mask = np.zeros(volume.shape, dtype=bool)
    mask[5:12, 6:14, 3:8] = True
    mask[7:9, 8:10, 4] = False
    write_result(tmp_path / "target.dcm", volume, mask, "CTV^AI", read_original(patient / "ct"))
    assert run("dcmdump", tmp_path / "target.dcm")[1] == ""
    output, messages = run("dciodvfy", tmp_path / "target.dcm")
    found = [line for line in (output + messages).splitlines() if "Error" in line or "Warning" in line]
    assert [line for line in found if UNKNOWN_DATE not in line and NO_REAL_NAME not in line] == []
    output, messages = run("dcentvfy", tmp_path / "target.dcm", *sorted((patient / "ct").iterdir()))
    assert [line for line in (output + messages).splitlines() if "Error" in line] == []
