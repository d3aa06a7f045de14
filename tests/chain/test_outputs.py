"""What a prediction leaves on disk, and what it must not touch."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest

from rollama.chain.inputs import read_request
from rollama.chain.outputs import check_out, write_outputs
from rollama.chain.run import Chain, ChainResult
from rollama.core.errors import DataError
from rollama.core.files import hash_file, read_json
from rollama.core.registry import Decoding
from rollama.data.plan import Plan, render_plan
from rollama.data.volumes import Volume
from rollama.dicom.rtstruct import frame_of, read_rtstruct
from rollama.dicom.series import read_series
from rollama.dicom.write import Identity, write_series


@pytest.fixture
def result(ct: Volume, text: Any, segmenter: Any) -> ChainResult:
    return Chain(text, segmenter, {"s": "1", "p": "2", "seg": "3"}).run(ct, note="CANARY note.")


def test_all_files_and_what_they_say(tmp_path: Path, ct: Volume, result: ChainResult, plan: Plan) -> None:
    manifest = write_outputs(result, ct, tmp_path / "out", {"ct": "hash"})
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"summary.txt", "plan.txt", "plan.yaml", "target.nii.gz", "overlay.png", "manifest.json"}
    for name in ("summary.txt", "plan.txt", "plan.yaml"):
        assert (tmp_path / "out" / name).read_text().startswith("# RESEARCH USE ONLY")
    for name in ("plan.txt", "plan.yaml"):  # what we write, we accept
        assert read_request(plan=tmp_path / "out" / name).plan == plan
    assert (tmp_path / "out" / "overlay.png").read_bytes().startswith(b"\x89PNG")
    target = nibabel.load(tmp_path / "out" / "target.nii.gz")
    assert np.array_equal(np.asarray(target.dataobj), result.mask)
    assert np.array_equal(target.affine, ct.affine)
    assert manifest == json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["kind"] == "prediction"
    assert manifest["models"] == {"s": "1", "p": "2", "seg": "3"}
    assert manifest["inputs"] == {"ct": "hash"}
    assert manifest["plan_parsed"] is True
    assert manifest["target"]["cc"] == pytest.approx(result.mask.sum() * 0.15)
    assert "RESEARCH USE ONLY" in manifest["notice"]
    text = json.dumps(manifest)
    assert "CANARY" not in text
    assert "pT1" not in text


def test_a_probability_that_was_asked_for(tmp_path: Path, ct: Volume, result: ChainResult) -> None:
    likely = result.mask * np.uint8(150)
    manifest = write_outputs(dataclasses.replace(result, probability=likely), ct, tmp_path / "out")
    assert "probability.nii.gz" in manifest["files"]
    written = {path.name: hash_file(path) for path in (tmp_path / "out").iterdir() if path.name != "manifest.json"}
    assert manifest["files"] == written == read_json(tmp_path / "out" / "manifest.json")["files"]
    image = nibabel.load(tmp_path / "out" / "probability.nii.gz")
    np.testing.assert_allclose(image.get_fdata(), result.mask * 0.75)  # type: ignore[attr-defined]
    write_outputs(result, ct, tmp_path / "out")  # the next prediction leaves nothing of it
    assert not (tmp_path / "out" / "probability.nii.gz").exists()


def test_unparsed_plan_leaves_no_fields(tmp_path: Path, ct: Volume, result: ChainResult) -> None:
    odd = dataclasses.replace(result, plan=None, plan_text="Irradiate.", warnings=("does not parse",))
    manifest = write_outputs(odd, ct, tmp_path / "out")
    assert not (tmp_path / "out" / "plan.yaml").exists()
    assert manifest["plan_parsed"] is False
    assert manifest["plan_has_target"] is None
    assert manifest["warnings"] == ["does not parse"]


def test_no_summary_and_no_target(tmp_path: Path, ct: Volume, segmenter: Any, no_target: Plan) -> None:
    result = Chain(None, segmenter).run(ct, plan_text=render_plan(no_target))
    manifest = write_outputs(result, ct, tmp_path / "out")
    assert not (tmp_path / "out" / "summary.txt").exists()
    assert manifest["plan_has_target"] is False
    assert manifest["target"] == {"voxels": 0, "cc": 0.0}
    assert "no target" in manifest["warnings"][0]


def test_a_dicom_series_gets_a_structure_set(tmp_path: Path, ct: Volume, text: Any, segmenter: Any) -> None:
    write_series(tmp_path / "series", ct, Identity("CANARY", "test", True))
    volume = read_series(tmp_path / "series")
    result = Chain(text, segmenter).run(volume, note="A note.")
    manifest = write_outputs(result, volume, tmp_path / "out", ct=tmp_path / "series")
    assert "target.dcm" in manifest["files"] and manifest["warnings"] == list(result.warnings)
    frame = frame_of(tmp_path / "series")
    assert np.array_equal(read_rtstruct(tmp_path / "out" / "target.dcm", volume, frame)["CTV^AI"], result.mask > 0)
    assert "CANARY" not in (tmp_path / "out" / "manifest.json").read_text()
    nibabel.save(nibabel.Nifti1Image(ct.array, ct.affine), tmp_path / "ct.nii.gz")
    manifest = write_outputs(result, volume, tmp_path / "out", ct=tmp_path / "ct.nii.gz")  # the next one is no series
    assert "target.dcm" not in manifest["files"] and not (tmp_path / "out" / "target.dcm").exists()


def test_no_structure_set_is_a_warning(tmp_path: Path, ct: Volume, segmenter: Any, no_target: Plan, plan: Plan) -> None:
    write_series(tmp_path / "series", ct, Identity("CANARY", "test", True))
    volume = read_series(tmp_path / "series")
    result = Chain(None, segmenter).run(volume, plan_text=render_plan(no_target))
    manifest = write_outputs(result, volume, tmp_path / "out", ct=tmp_path / "series")
    assert "target.dcm" not in manifest["files"] and "target.nii.gz" in manifest["files"]
    assert manifest["warnings"][-1] == "no target.dcm: a structure set needs a contour, and the target is empty"
    for path in (tmp_path / "series").iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.StudyInstanceUID
        dataset.save_as(path)
    result = Chain(None, segmenter).run(volume, plan_text=render_plan(plan))
    manifest = write_outputs(result, volume, tmp_path / "out", ct=tmp_path / "series")
    assert manifest["warnings"] == ["no target.dcm: the CT's slices have no StudyInstanceUID to refer to"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*manifest["files"], "manifest.json"}


def test_an_earlier_prediction_is_replaced_and_nothing_else(tmp_path: Path, ct: Volume, result: ChainResult) -> None:
    out = tmp_path / "out"
    write_outputs(result, ct, out)
    write_outputs(dataclasses.replace(result, summary=None), ct, out)
    assert not (out / "summary.txt").exists()
    (out / "thesis.docx").write_text("mine")
    with pytest.raises(DataError, match=r"beside an earlier prediction \(thesis.docx\)"):
        write_outputs(result, ct, out)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "manifest.json").write_text('{"kind": "adapter"}')
    with pytest.raises(DataError, match="not an earlier prediction"):
        check_out(foreign)
    with pytest.raises(DataError, match="is not a folder"):
        check_out(out / "plan.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["foreign", "out"]


def test_interrupted_writing_leaves_nothing(
    tmp_path: Path, ct: Volume, result: ChainResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rollama.chain.outputs.write_overlay", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_outputs(result, ct, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_says_how_the_plan_was_written_and_what_supports_it(
    tmp_path: Path, ct: Volume, text: Any, segmenter: Any
) -> None:
    note = "Left breast cancer. CANARY sleeps well."
    free = write_outputs(Chain(text, segmenter).run(ct, note=note), ct, tmp_path / "free")
    assert {"field": "side", "start": 0, "end": 19} in free["evidence"]
    assert all(set(item) == {"field", "start", "end"} for item in free["evidence"])
    text.plan_decoding = Decoding.CONSTRAINED
    held = write_outputs(Chain(text, segmenter).run(ct, note=note), ct, tmp_path / "held")
    given = write_outputs(Chain(None, segmenter).run(ct, plan_text=held_plan(tmp_path)), ct, tmp_path / "given")
    ways = [manifest["config"]["plan_decoding"] for manifest in (free, held, given)]
    assert ways == ["free", "constrained", None]
    assert len({manifest["config_hash"] for manifest in (free, held, given)}) == 3
    assert given["evidence"] == []


def held_plan(folder: Path) -> str:
    return (folder / "held" / "plan.txt").read_text()
