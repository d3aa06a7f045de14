"""Patients' DICOM folders as cases: what our own export writes comes back, and odd folders are refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from rollama.core.errors import DataError
from rollama.data.intake import import_cases
from rollama.data.parts import Part
from rollama.data.volumes import read_ct, read_mask, to_canonical
from rollama.dicom.export import export_dicom
from rollama.dicom.intake import load_patient, rtstruct_cases
from tests.dicom.data import NO_TARGET, TREATED, ct_array, make_dataset, target_array


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    dataset = make_dataset(tmp_path / "data")
    export_dicom(dataset, dataset.cases, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / NO_TARGET)
    return tmp_path / "out"


def test_our_export_comes_back_as_a_data_set(patients: Path, tmp_path: Path) -> None:
    raws = rtstruct_cases(patients, ["CTVp_Breast_L", "CTVn_LN_Ax_L2_L"])
    names = {raw.case_id for raw in raws}
    taken = import_cases(
        raws, {name: (None, {"plan_text": TREATED}) for name in names}, tmp_path / "back", "here", "CTV", skip_bad=True
    )
    assert [step.kind for step in taken.dataset.info.origins] == ["rtstruct"]
    case = next(case for case in taken.dataset.cases if case.case_id == "north-train-0")
    ct = read_ct(case.image)
    assert np.array_equal(to_canonical(ct).array, ct_array())
    mask = read_mask(case.target, ct)
    assert np.array_equal(mask[::-1, ::-1], target_array() > 0)
    assert b"north" not in bytes(ct.header.binaryblock)


def test_only_the_rois_that_are_named_are_target(patients: Path) -> None:
    _, mask = load_patient(patients / "north-train-0", ("CTVn_LN_Ax_L2_L",))
    assert np.array_equal(mask[::-1, ::-1], target_array() == Part.L2)
    with pytest.raises(DataError, match="no ROI PTV"):
        load_patient(patients / "north-train-0", ("PTV",))


def test_odd_folders_are_refused(patients: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name the ROI"):
        rtstruct_cases(patients, [])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no patient folders"):
        rtstruct_cases(tmp_path / "empty", ["CTV"])
    patient = patients / "north-train-0"
    shutil.copy(patient / "rtstruct.dcm", patient / "second.dcm")
    with pytest.raises(DataError, match="found 1 and 2"):
        load_patient(patient, ("CTV_Total",))
    (patient / "second.dcm").unlink()
    shutil.copytree(patient / "ct", patient / "older")
    with pytest.raises(DataError, match="found 2 and 1"):
        load_patient(patient, ("CTV_Total",))
