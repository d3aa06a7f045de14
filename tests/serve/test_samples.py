"""The sample patients: held out from training, what their titles say, drawn once, and behind the key like the rest."""

from __future__ import annotations

import gzip
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml
from fastapi.testclient import TestClient

import serve.samples
from rollama.cohort.notes import write_summary
from rollama.cohort.patients import draw_patient, split_of
from rollama.data.case import Split
from rollama.data.plan import Side, Surgery, Volume, parse_plan
from rollama.presets import load_preset
from serve.auth import digest
from serve.samples import CASES, Samples
from tests.serve.conftest import Connect


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's own voxels: an eighth of the work."""
    monkeypatch.setattr(serve.samples, "GRID", (80, 64, 48))
    monkeypatch.setattr(serve.samples, "SPACING_MM", (6.25, 6.25, 6.0))


def test_they_are_held_out_patients_of_the_demos_cohort() -> None:
    config = load_preset("demo").cohort
    samples = {sample.name: sample for sample in Samples().all}
    assert set(samples) == set(CASES)
    for name, case in CASES.items():
        patient = draw_patient(config, case.centre, case.split, case.index)
        assert case.split in (Split.TEST, Split.EXTERNAL) and split_of(write_summary(patient.facts)) is case.split
        assert samples[name].note == patient.note


def test_they_are_what_their_titles_say() -> None:
    plans = {sample.name: parse_plan(sample.plan_text) for sample in Samples().all}
    left, right, none = plans["left-breast"], plans["right-chest-wall"], plans["no-target"]
    assert (left.side, left.surgery, left.volume) == (Side.LEFT, Surgery.CONSERVING, Volume.BREAST) and left.levels
    assert (right.side, right.surgery, right.volume) == (Side.RIGHT, Surgery.MASTECTOMY, Volume.CHEST_WALL)
    assert not none.has_target


@pytest.mark.usefixtures("coarse")
def test_they_are_offered_and_their_cts_can_be_used(client: TestClient, connect: Connect, tmp_path: Path) -> None:
    offered = client.get("/v1/samples").json()
    assert offered["synthetic"] is True and "RESEARCH USE ONLY" in offered["notice"]
    for sample in offered["samples"]:
        answer = client.get(sample["ct"])
        assert answer.headers["Content-Type"] == "application/gzip"
        (tmp_path / "ct.nii.gz").write_bytes(answer.content)
        image = nibabel.load(tmp_path / "ct.nii.gz")
        array = np.asarray(image.dataobj)  # type: ignore[attr-defined]
        assert array.dtype == np.int16 and array.min() < -900 < 0 < array.max()
        assert min(array.shape) >= 48 and np.all(np.diag(image.affine) > 0)  # type: ignore[attr-defined]
    first = offered["samples"][0]
    assert connect().get(first["ct"]).content == client.get(first["ct"]).content  # another replica, the same patient
    files = [("ct", ("ct", client.get(first["ct"]).content))]
    form = {"note": first["note"]}
    job = client.post("/v1/pipeline/upload", data=form, files=files, headers={"Prefer": "wait=30"})
    assert job.json()["state"] == "done", job.text
    for path in ("/v1/samples/nobody/ct.nii.gz", "/v1/samples/..%2Fsecret/ct.nii.gz"):
        refused = client.get(path)
        assert refused.status_code == 404 and refused.headers["Content-Type"] == "application/problem+json"


def test_each_is_drawn_once_however_many_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[object] = []

    def draw(case: object) -> bytes:
        drawn.append(case)
        time.sleep(0.05)
        return gzip.compress(b"a scan")

    monkeypatch.setattr(serve.samples, "_draw", draw)
    samples = Samples()
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(samples.ct, ["left-breast"] * 8))
    assert found == {gzip.compress(b"a scan")} and len(drawn) == 1
    assert samples.ct("nobody") is None


def test_key_scope_and_rate_count_for_them_too(connect: Connect, tmp_path: Path) -> None:
    entries = [
        {"name": scope, "sha256": digest(f"key of {scope} only").hex(), "scopes": [scope], "per_minute": 2}
        for scope in ("texts", "targets")
    ]
    (tmp_path / "keys.yaml").write_text(yaml.safe_dump({"keys": entries}))
    client = connect(keys_file=tmp_path / "keys.yaml")
    for path in ("/v1/samples", "/v1/samples/left-breast/ct.nii.gz"):
        assert client.get(path, headers={"Authorization": ""}).status_code == 401
    for scope in ("texts", "targets"):
        asked = [
            client.get("/v1/samples", headers={"Authorization": f"Bearer key of {scope} only"}).status_code
            for _ in range(3)
        ]
        assert asked == [200, 200, 429]
