"""Taking in a hospital's cases: what comes in unchanged, and what is refused with its case's name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from rollama import __version__
from rollama.core.errors import ConfigError, DataError
from rollama.data.case import Split
from rollama.data.dataset import open_dataset
from rollama.data.intake import (
    Raw,
    check_cases,
    contradictions,
    import_cases,
    nifti_cases,
    nnunet_cases,
)
from rollama.data.plan import Dose, Plan, Side, Surgery, Technique, Volume, render_plan
from rollama.data.texts import Source, read_texts
from rollama.data.volumes import Volume as Ct

SHAPE = (20, 16, 10)
OBLIQUE = np.array([[0.0, -2.0, 0, 30], [2.0, 0, 0, -20], [0, 0, 3.0, 5], [0, 0, 0, 1]])
PLAIN = np.diag([2.0, 2.0, 3.0, 1.0])


def plan(side: Side = Side.LEFT, target: bool = True) -> str:
    found = Plan(
        side=side, surgery=Surgery.CONSERVING, volume=Volume.BREAST, dose=Dose(gy=40.05, fractions=15),
        technique=Technique.VMAT,
    )  # fmt: skip
    nothing = {"volume": None, "dose": None, "technique": None}
    return render_plan(found if target else found.model_copy(update=nothing))


def ct() -> np.ndarray:
    array = np.full(SHAPE, -1000, np.float32)
    array[2:18, 2:14] = 40
    return array


def mask(side: Side = Side.LEFT) -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[3:8, 4:9, 3:7] = 1  # low x: the patient's left in RAS
    return array if side is Side.LEFT else array[::-1].copy()


def save(path: Path, array: np.ndarray, affine: np.ndarray = PLAIN) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, affine)  # type: ignore[no-untyped-call]
    image.header["descrip"] = b"DOE^JANE"
    image.header["intent_name"] = b"DOE^JANE"
    nibabel.save(image, path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    for name, side in (("p1", Side.LEFT), ("p2", Side.RIGHT), ("p3", Side.LEFT)):
        save(folder / name / "ct.nii.gz", ct())
        save(folder / name / "target.nii.gz", mask(side))
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> Callable[..., dict[str, object]]:
    def write(**plans: str) -> dict[str, object]:
        lines = [{"mrn": name, "PLAN": text, "set": "train"} for name, text in plans.items()]
        (tmp_path / "plans.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        found = Source(tmp_path / "plans.jsonl", {"plan": "PLAN"}, "mrn", "set")
        return read_texts(found)  # type: ignore[return-value]

    return write


GOOD = {"p1": plan(), "p2": plan(Side.RIGHT), "p3": "Irradiate what was discussed."}


def test_cases_come_in_as_they_are(source: Path, texts: Callable[..., object], tmp_path: Path) -> None:
    taken = import_cases(
        nifti_cases(source, "{id}/ct.nii.gz", "{id}/target.nii.gz"), texts(**GOOD, p9=plan()),  # type: ignore[arg-type]
        tmp_path / "out", "here", "CTV",
    )  # fmt: skip
    assert taken.left_out == {} and [case.case_id for case in taken.dataset.cases] == ["p1", "p2", "p3"]
    opened = open_dataset(tmp_path / "out")
    assert opened.info.label == "CTV" and not opened.info.synthetic and "CLINICAL" in opened.info.notice
    assert opened.cases == taken.dataset.cases and {case.split for case in opened.cases} == {Split.TRAIN}
    first = opened.cases[0]
    assert first.plan is not None and opened.cases[2].plan is None and first.note == ""
    stored = nibabel.load(first.image)  # type: ignore[attr-defined]
    assert np.array_equal(stored.get_fdata(), ct()) and np.array_equal(stored.affine, PLAIN)
    assert np.array_equal(nibabel.load(first.target).get_fdata(), mask())  # type: ignore[attr-defined]
    assert b"DOE" not in stored.header.binaryblock
    (step,) = opened.info.origins
    assert (step.kind, step.data, step.synthetic) == ("nifti", opened.info.content_hash, False)
    assert step.version.startswith(__version__)
    assert stored.get_data_dtype() == np.int16
    assert check_cases(opened.cases) == {}


def test_every_bad_case_is_named_at_once_or_left_out(
    source: Path, texts: Callable[..., object], tmp_path: Path
) -> None:
    save(source / "p4" / "ct.nii.gz", ct())
    save(source / "p4" / "target.nii.gz", mask(), OBLIQUE)
    save(source / "p5" / "ct.nii.gz", ct())
    (source / "p5" / "target.nii.gz").write_bytes(b"not a volume")
    save(source / "p6" / "ct.nii.gz", np.where(ct() > 0, np.nan, ct()))
    save(source / "p6" / "target.nii.gz", mask())
    save(source / "p7" / "ct.nii.gz", ct())
    save(source / "p7" / "target.nii.gz", mask() * 0)
    save(source / "p8" / "ct.nii.gz", ct())
    save(source / "p9" / "ct.nii.gz", ct())
    save(source / "p9" / "target.nii.gz", 3 * mask())
    save(source / "pa" / "ct.nii.gz", ct())
    save(source / "pa" / "target.nii.gz", mask().astype(np.float32) * 0.7)
    save(source / "pb" / "ct.nii.gz", ct())
    save(source / "pb" / "target.nii.gz", mask())
    plans = {**GOOD, "p1": plan(Side.RIGHT), "p2": plan(Side.RIGHT, target=False)}
    plans |= dict.fromkeys(("p4", "p5", "p6", "p7", "p9", "pa"), plan()) | {"pb": plan().replace("left", "Left")}
    raws = nifti_cases(source, "{id}/ct.nii.gz", "{id}/target.nii.gz")
    with pytest.raises(DataError, match="10 of 11 cases") as caught:
        import_cases(raws, texts(**plans), tmp_path / "out", "here", "PTV")  # type: ignore[arg-type]
    reasons = dict(line.strip().split(": ", 1) for line in str(caught.value).splitlines()[1:])
    for name, word in {
        "p1": "plan says right, but 100%", "p2": "no target, the mask is not", "p4": "affine", "p5": "readable",
        "p6": "NaN", "p7": "the mask is empty", "p8": "no text",
        "p9": "say which of them are target", "pa": "whole numbers", "pb": "side",
    }.items():  # fmt: skip
        assert word in reasons[name], name
    assert not (tmp_path / "out").exists()
    taken = import_cases(raws, texts(**plans), tmp_path / "out", "here", "PTV", skip_bad=True)  # type: ignore[arg-type]
    assert [case.case_id for case in taken.dataset.cases] == ["p3"] and len(taken.left_out) == 10


def test_an_oblique_left_handed_float_ct_keeps_its_grid(texts: Callable[..., object], tmp_path: Path) -> None:
    turned = np.ascontiguousarray(np.moveaxis(ct(), 0, 1)) + 0.25
    save(tmp_path / "s" / "p1-ct.nii", turned, OBLIQUE)
    save(tmp_path / "s" / "p1-gtv.nii", np.moveaxis(mask(), 0, 1).copy(), OBLIQUE)
    raws = nifti_cases(tmp_path / "s", "{id}-ct.nii", "{id}-gtv.nii")
    # In OBLIQUE patient x falls with the second index: low index is the right.
    import_cases(raws, texts(p1=plan(Side.RIGHT)), tmp_path / "out", "here", "CTV")  # type: ignore[arg-type]
    stored = nibabel.load(open_dataset(tmp_path / "out").cases[0].image)  # type: ignore[attr-defined]
    assert np.array_equal(stored.affine, OBLIQUE) and np.array_equal(stored.get_fdata(), turned)
    with pytest.raises(DataError, match="plan says left"):
        import_cases(raws, texts(p1=plan()), tmp_path / "other", "here", "CTV")  # type: ignore[arg-type]


def test_a_target_may_cross_the_midline_a_little() -> None:
    volume = Ct(ct(), PLAIN)
    across = mask()
    across[8:10, 4:9, 3:7] = 1  # the midline is at 9
    assert contradictions(volume, across, plan()) == []
    across[8:16, 4:9, 3:7] = 1
    assert "lie on the other side" in contradictions(volume, across, plan())[0]
    assert contradictions(volume, mask(), " ") == ["its plan's text is empty"]
    assert "in the plan's form" in contradictions(volume, mask() * 0, "nothing to do")[0]


def test_nnunet(texts: Callable[..., object], tmp_path: Path) -> None:
    folder = tmp_path / "Dataset501_X"
    for part, name in (("Tr", "p1"), ("Tr", "p2"), ("Ts", "p3")):
        save(folder / f"images{part}" / f"{name}_0000.nii.gz", ct())
        save(folder / f"labels{part}" / f"{name}.nii.gz", 2 * mask() + mask(Side.RIGHT))  # 2 left, 1 right
    about = {"file_ending": ".nii.gz", "channel_names": {"0": "CT"}}
    (folder / "dataset.json").write_text(json.dumps(about))
    (folder / "splits_final.json").write_text(json.dumps([{"train": ["p1"], "val": ["p2"]}]))
    records = {name: (None, {"plan_text": plan()}) for name in ("p1", "p2", "p3")}
    found = import_cases(nnunet_cases(folder, (2,)), records, tmp_path / "out", "here", "CTV").dataset
    assert [step.kind for step in found.info.origins] == ["nnunet"]
    assert {case.case_id: case.split for case in found.cases} == {
        "p1": Split.TRAIN, "p2": Split.VALIDATION, "p3": Split.TEST,
    }  # fmt: skip
    assert np.array_equal(nibabel.load(found.cases[0].target).get_fdata(), mask())  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="the mask is empty"):
        import_cases(nnunet_cases(folder, (7,)), records, tmp_path / "b", "here", "CTV")
    with pytest.raises(DataError, match="has the values 0, 1, 2"):
        import_cases(nnunet_cases(folder), records, tmp_path / "b", "here", "CTV")
    (folder / "dataset.json").write_text(json.dumps({**about, "channel_names": {"0": "CT", "1": "PET"}}))
    with pytest.raises(DataError, match="2 channels"):
        nnunet_cases(folder)


def test_what_cannot_be_meant(source: Path, texts: Callable[..., object], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="once"):
        nifti_cases(source, "ct.nii.gz", "{id}/target.nii.gz")
    with pytest.raises(DataError, match="no file fits"):
        nifti_cases(source, "{id}/pet.nii.gz", "{id}/target.nii.gz")
    raws = nifti_cases(source, "{id}/ct.nii.gz", "{id}/target.nii.gz")
    known = texts(**GOOD)
    with pytest.raises(ConfigError, match="there already"):
        import_cases(raws, known, source, "here", "CTV")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="letters, digits"):
        import_cases(raws, known, tmp_path / "o", "Our Place", "CTV")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="more than once: p1"):
        import_cases([*raws, raws[0]], known, tmp_path / "o", "here", "CTV")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no case"):
        import_cases([], known, tmp_path / "o", "here", "CTV")  # type: ignore[arg-type]


def test_masks_beside_their_cts_and_nrrd(texts: Callable[..., object], tmp_path: Path) -> None:
    import SimpleITK

    folder = tmp_path / "flat"
    folder.mkdir()
    for name, array in (("p1", ct()), ("p1_seg", mask())):
        image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array[::-1, ::-1].transpose(2, 1, 0)))  # LPS
        image.SetSpacing((2.0, 2.0, 3.0))
        SimpleITK.WriteImage(image, str(folder / f"{name}.nrrd"))
    found = import_cases(
        nifti_cases(folder, "{id}.nrrd", "{id}_seg.nrrd"),
        texts(p1=plan()),
        tmp_path / "out",
        "here",
        "CTV",  # type: ignore[arg-type]
    ).dataset
    assert [case.case_id for case in found.cases] == ["p1"] and check_cases(found.cases) == {}


def test_a_full_disk_ends_the_import_whatever_is_skipped(
    source: Path, texts: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object) -> None:
        raise DataError(f"{path}: the disk is full")

    monkeypatch.setattr("rollama.data.intake.write_mask", full)
    raws = nifti_cases(source, "{id}/ct.nii.gz", "{id}/target.nii.gz")
    with pytest.raises(DataError, match="the disk is full"):
        import_cases(raws, texts(**GOOD), tmp_path / "out", "here", "CTV", skip_bad=True)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_splits_are_drawn_by_id_when_nothing_says_them(source: Path, tmp_path: Path) -> None:
    load = nifti_cases(source, "{id}/ct.nii.gz", "{id}/target.nii.gz")[0].load
    records = {f"c{number}": (None, {"plan_text": plan()}) for number in range(40)}

    def drawn(count: int, name: str) -> dict[str, Split]:
        raws = [Raw(f"c{number}", load) for number in range(count)]
        cases = import_cases(raws, records, tmp_path / name, "here", "CTV", shares=(0.3, 0.3)).dataset.cases
        return {case.case_id: case.split for case in cases}

    few, many = drawn(20, "few"), drawn(40, "many")
    assert set(many.values()) == {Split.TRAIN, Split.VALIDATION, Split.TEST}
    assert few == {name: many[name] for name in few}
