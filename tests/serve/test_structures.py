"""A CT that came as a DICOM series gets its target as a structure set on it; nothing else learns whose it is."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from fastapi.testclient import TestClient

from rollama.data.volumes import read_mask
from rollama.dicom.rtstruct import frame_of, read_rtstruct
from rollama.dicom.series import read_series
from serve.config import ServeConfig
from tests.serve.conftest import NO_TARGET, PLAN, zipped_series

WAIT = {"Prefer": "wait=30"}


@pytest.mark.parametrize("way", ["upload", "reference"])
def test_a_series_gets_its_structure_set(
    client: TestClient, config: ServeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    caplog.set_level("INFO")
    packed = zipped_series(config, tmp_path / "series", "CANARY")
    if way == "upload":
        files = [("ct", ("CANARY.zip", packed))]
        answer = client.post("/v1/segment/upload", data={"plan": PLAN}, files=files, headers=WAIT)
    else:
        (tmp_path / "series").rename(config.data_folder / "series")
        answer = client.post("/v1/segment", json={"plan": PLAN, "ct_path": "series"}, headers=WAIT)
    files_of = answer.json()["files"]
    found = client.get(files_of["target.dcm"])
    assert found.headers["Content-Type"] == "application/dicom"
    assert pydicom.dcmread(io.BytesIO(found.content)).PatientID == "CANARY"
    manifest = client.get(files_of["manifest.json"]).text
    assert "CANARY" not in answer.text + manifest + caplog.text
    (tmp_path / "target.dcm").write_bytes(found.content)
    folder = tmp_path / "series" if way == "upload" else config.data_folder / "series"
    volume = read_series(folder)
    (mask,) = read_rtstruct(tmp_path / "target.dcm", volume, frame_of(folder)).values()
    (tmp_path / "target.nii.gz").write_bytes(client.get(files_of["target.nii.gz"]).content)
    assert np.array_equal(mask, read_mask(tmp_path / "target.nii.gz", volume) > 0) and mask.any()


def test_a_series_without_a_target_says_why_there_is_no_structure_set(
    client: TestClient, config: ServeConfig, tmp_path: Path
) -> None:
    files = [("ct", ("a.zip", zipped_series(config, tmp_path / "series")))]
    answer = client.post("/v1/segment/upload", data={"plan": NO_TARGET}, files=files, headers=WAIT)
    body = answer.json()
    assert body["state"] == "done" and "target.dcm" not in body["files"] and "target.nii.gz" in body["files"]
    assert any(text.startswith("no target.dcm: ") for text in body["findings"]["warnings"])
    assert client.get(body["files"]["manifest.json"]).json()["warnings"] == body["findings"]["warnings"]
