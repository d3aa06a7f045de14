"""Every malformed upload gets its own sentence, and leaves nothing behind."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from fastapi.testclient import TestClient

from rollama.data.volumes import read_ct
from rollama.dicom.rtstruct import write_rtstruct
from rollama.dicom.write import Identity, write_series
from serve.config import ServeConfig
from tests.serve.conftest import PLAN, Connect, Models
from tests.serve.test_api import store_files

SHAPE = (30, 24, 12)


def nifti(array: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    return nibabel.Nifti1Image(array, np.diag([6.0, 6.0, 6.0, 1.0]) if affine is None else affine).to_bytes()


def ct() -> np.ndarray:
    array = np.full(SHAPE, -1000, np.int16)
    array[5:-5, 5:-5] = 30
    return array


def header_only(*shape: int) -> bytes:
    """A header that promises far more voxels than follow."""
    image = nibabel.Nifti1Image(np.zeros((1, 1, 1), np.int16), np.diag([1.0, 1.0, 1.0, 1.0]))
    image.header.set_data_shape(shape)
    return bytes(image.header.binaryblock) + b"\0" * 4 + b"\0" * 64


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


def series(folder: Path, patient: str) -> dict[str, bytes]:
    from rollama.data.volumes import Volume

    folder.mkdir()
    volume = Volume(ct().astype(np.float32), np.diag([6.0, 6.0, 6.0, 1.0]))
    write_series(folder, volume, Identity(patient, "test", True))
    return {f"{patient}-{path.name}": path.read_bytes() for path in folder.iterdir()}


def mixed(folder: Path) -> bytes:
    return zipped({**series(folder / "a", "p1"), **series(folder / "b", "p2")})


def structures(folder: Path) -> bytes:
    from rollama.data.volumes import Volume

    volume = Volume(ct().astype(np.float32), np.diag([6.0, 6.0, 6.0, 1.0]))
    mask = np.zeros(SHAPE, bool)
    mask[10:15, 10:15, 4:8] = True
    write_rtstruct(folder / "rs.dcm", volume, {"CTV": mask}, Identity("p1", "test", True))
    return zipped({"rs.dcm": (folder / "rs.dcm").read_bytes()})


def gap(folder: Path) -> bytes:
    files = series(folder / "a", "p1")
    del files[sorted(files)[4]]
    return zipped(files)


BAD: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "empty": (lambda _: b"", "not a CT file"),
    "text": (lambda _: b"hello", "not a CT file"),
    "PDF": (lambda _: b"%PDF-1.7 ...", "not a CT file"),
    "truncated gzip": (lambda _: gzip.compress(nifti(ct()))[:-9], "damaged or cut gzip"),
    "truncated NIfTI": (lambda _: nifti(ct())[:-500], "cut off"),
    "gzip bomb": (lambda _: gzip.compress(b"\0" * (3 << 20)), "more than 2 MiB once unpacked"),
    "zip bomb": (lambda _: zipped({"a.dcm": b"\0" * (3 << 20)}), "more than 2 MiB once unpacked"),
    "many files": (lambda _: zipped({str(n): b"" for n in range(4100)}), "more than 4000 files"),
    "empty zip": (lambda _: zipped({}), "not a CT file|zip is empty"),
    "zip of text": (lambda _: zipped({"a.txt": b"hello"}), "DICOM"),
    "promised voxels": (lambda _: header_only(3000, 3000, 300), "at most 1000000"),
    "10 000 slices": (lambda _: header_only(64, 64, 10_000), "at most 1000000"),
    "negative size": (lambda _: header_only(30, -24, 12), "ct"),
    "complex": (lambda _: nifti(ct().astype(np.complex64)), "ct"),
    "colour": (lambda _: nifti(np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))), "ct"),
    "NaN": (lambda _: nifti(np.where(ct() > 0, np.nan, ct()).astype(np.float32)), "NaN"),
    "not HU": (lambda _: nifti((ct() > 0).astype(np.int16)), "HU"),
    "2D": (lambda _: nifti(ct()[:, :, 0]), "3 dimensions|dimensions"),
    "4D": (lambda _: nifti(np.stack([ct()] * 3, -1)), "3 dimensions|dimensions"),
    "too few slices": (lambda _: nifti(ct()[:, :, :2]), "at least 3 slices"),
    "sheared": (lambda _: nifti(ct(), np.array([[6, 3, 0, 0], [0, 6, 0, 0], [0, 0, 6, 0], [0, 0, 0, 1.0]])), "sheared"),
    "NRRD that hides another file": (
        lambda _: b"NRRD0004\n" + b"# comment\n" * 8000 + b"data file: /etc/passwd\n\n",
        "two files",
    ),
    "MHA that spells it otherwise": (
        lambda _: b"ObjectType = Image\nNDims = 3\nelementdatafile = LOCAL\nElementDataFile = /etc/passwd\n",
        "two files",
    ),
    "MHA with a colon": (
        lambda _: b"ObjectType = Image\nNDims = 3\nElementDataFile : /etc/passwd\nElementDataFile = LOCAL\n",
        "two files",
    ),
    "MHA of many channels": (
        lambda _: (
            b"ObjectType = Image\nNDims = 3\nDimSize = 100 100 100\nElementType = MET_SHORT\n"
            b"ElementNumberOfChannels = 500\nElementDataFile = LOCAL\n" + b"0" * 64
        ),
        "at most 1000000|not a readable",
    ),
    "two patients": (mixed, "series"),
    "structures": (structures, "CT"),
    "missing slice": (gap, "gap|missing|distance"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_uploads(connect: Connect, config: ServeConfig, models: Models, tmp_path: Path, kind: str) -> None:
    import re

    make, said = BAD[kind]
    client = connect(max_ct_bytes=2 << 20, max_ct_voxels=1_000_000)
    (tmp_path / "make").mkdir()
    data = make(tmp_path / "make")
    answer = client.post("/v1/segment/upload", data={"plan": PLAN}, files={"ct": ("CANARY.nii", data)})
    assert answer.status_code == 422, answer.text
    assert re.search(said, answer.json()["detail"]), answer.json()["detail"]
    assert "CANARY" not in answer.text and "/tmp" not in answer.text and "rollama-" not in answer.text
    assert store_files(config) == set()


def test_bad_texts_beside_a_good_ct(client: TestClient, connect: Connect, config: ServeConfig) -> None:
    data = (config.data_folder / "ct.nii.gz").read_bytes()
    files = {"ct": ("ct", data)}
    post = client.post
    for form, status in (({}, 422), ({"note": ""}, 422), ({"note": "a", "plan": PLAN}, 422), ({"plan": "{"}, 422),
                         ({"plan": '{"side": "left"}'}, 422), ({"note": "a\0b"}, 422)):  # fmt: skip
        assert post("/v1/pipeline/upload", data=form, files=files).status_code == status, form
    assert post("/v1/pipeline/upload", data={"note": "x" * (2 << 20)}, files=files).status_code in (400, 413, 422)
    raw = b'--b\r\nContent-Disposition: form-data; name="note"\r\n\r\n\xff\xfe\r\n--b--\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    assert post("/v1/pipeline/upload", content=raw, headers=kind).status_code in (400, 422)
    assert post("/v1/pipeline/upload", content=raw, headers={"Content-Type": "multipart/form-data"}).status_code == 400
    assert post("/v1/pipeline/upload", content=data, headers={"Content-Type": "application/gzip"}).status_code == 422
    small = connect(max_upload_bytes=500)
    assert small.post("/v1/pipeline/upload", data={"note": "a"}, files={"ct": ("ct", b"0" * 1000)}).status_code == 413
    assert store_files(config) == set()


def test_a_reference_is_checked_like_an_upload(connect: Connect, config: ServeConfig) -> None:
    (config.data_folder / "huge.nii").write_bytes(header_only(3000, 3000, 300))
    client = connect(max_ct_voxels=1_000_000)
    answer = client.post("/v1/segment", json={"plan": PLAN, "ct_path": "huge.nii"})
    assert answer.status_code == 422 and "at most 1000000" in answer.json()["detail"]
    assert read_ct(config.data_folder / "ct.nii.gz").shape == SHAPE
    assert store_files(config) == set()
