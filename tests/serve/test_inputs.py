"""A CT reference cannot leave the data folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollama.core.errors import DataError
from serve.inputs import resolve_ct


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "series").mkdir(parents=True)
    (tmp_path / "secret.dcm").write_bytes(b"x")
    (folder / "ct.nii.gz").write_bytes(b"x")
    (folder / "series" / "1.dcm").write_bytes(b"x")
    (folder / "way-out").symlink_to(tmp_path / "secret.dcm")
    (folder / "inside").symlink_to(folder / "ct.nii.gz")
    (folder / "leaky").mkdir()
    (folder / "leaky" / "1.dcm").symlink_to(tmp_path / "secret.dcm")
    (folder / "a.nrrd").write_bytes(b"NRRD0004\ntype: short\nencoding: raw\n\ndata file: in the voxels")
    (folder / "b.nrrd").write_bytes(b"NRRD0004\ntype: short\r\ndata file: ../secret.dcm\n\n")
    (folder / "c.mha").write_bytes(b"NDims = 3\nElementDataFile = LOCAL\n1234")
    (folder / "d.mha").write_bytes(b"NDims = 3\nElementDataFile = ../secret.dcm\n")
    (folder / "e.mhd").write_bytes(b"NDims = 3\nElementDataFile = ../secret.dcm\n")
    return folder


@pytest.mark.parametrize("relative", ["ct.nii.gz", "series", "inside", "series/1.dcm", "a.nrrd", "c.mha"])
def test_inside(data: Path, relative: str) -> None:
    assert resolve_ct(data, relative).is_relative_to(data.resolve())


@pytest.mark.parametrize(
    "relative",
    ["../secret.dcm", "series/../../secret.dcm", "/etc/passwd", "way-out", "leaky", "absent", ".", "a\x00b", "..\\a"],
)
def test_outside_and_absent_get_the_same_answer(data: Path, relative: str) -> None:
    with pytest.raises(DataError, match=r"^ct_path: no such CT in the data folder; give a path relative to it$"):
        resolve_ct(data, relative)


@pytest.mark.parametrize("relative", ["b.nrrd", "d.mha", "e.mhd"])
def test_headers_that_point_elsewhere(data: Path, relative: str) -> None:
    with pytest.raises(DataError, match="header and data lie in two files"):
        resolve_ct(data, relative)
