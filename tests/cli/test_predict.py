"""`rollama predict` as its user meets it: real files, real tiny models, good and bad input."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from rollama.cli.main import main
from rollama.cohort.config import CohortConfig
from rollama.cohort.make import make_cohort
from rollama.core.files import read_json
from rollama.data.dataset import Dataset, open_dataset
from rollama.data.volumes import read_ct
from rollama.dicom.write import Identity, write_series
from tests.chain.tiny import make_models

OUTPUTS = {"summary.txt", "plan.txt", "target.nii.gz", "overlay.png", "manifest.json"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("data") / "cohort"
    make_cohort(root, CohortConfig(train=0, validation=0, test=1, external=1, grid=(40, 32, 24), spacing=(12, 12, 12)))
    return open_dataset(root)


@pytest.fixture
def predict(capsys, models, tmp_path):
    """Run the verb; return exit code and the message."""

    def run(*arguments: object) -> tuple[int, str]:
        out = ["--out", str(tmp_path / "out"), "--models", str(models)]
        with pytest.raises(SystemExit) as ended:
            main(["predict", *(str(value) for value in arguments), *out])
        return ended.value.code, " ".join(capsys.readouterr().err.split())

    return run


def test_a_note_and_a_ct_become_all_files(predict, dataset, tmp_path):
    case = dataset.cases[0]
    note = tmp_path / "note.txt"
    note.write_text(case.note)
    code, message = predict("--note", note, "--ct", case.image)
    assert code == 0, message
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} >= OUTPUTS
    target, ct = nibabel.load(out / "target.nii.gz"), nibabel.load(case.image)
    assert target.shape == ct.shape
    assert np.array_equal(target.affine, ct.affine)
    manifest = read_json(out / "manifest.json")
    assert case.note[:40] not in (out / "manifest.json").read_text()
    assert set(manifest["models"]) == {"s", "p", "seg"}
    assert "RESEARCH USE ONLY" in message


def test_a_plan_skips_the_text_models(predict, dataset, tmp_path):
    case = next(case for case in dataset.cases if case.plan.has_target)
    plan = tmp_path / "plan.txt"
    plan.write_text(case.plan_text)
    code, _ = predict("--plan", plan, "--ct", case.image)
    assert code == 0
    assert set(read_json(tmp_path / "out" / "manifest.json")["models"]) == {"seg"}
    code, _ = predict("--plan", tmp_path / "out" / "plan.yaml", "--ct", case.image, "--probability")  # own output
    assert code == 0
    likely = nibabel.load(tmp_path / "out" / "probability.nii.gz").get_fdata()
    mask = np.asarray(nibabel.load(tmp_path / "out" / "target.nii.gz").dataobj)
    assert likely.shape == mask.shape and likely.min() >= 0 and likely.max() <= 1


def test_a_dicom_series_gets_a_structure_set(predict, dataset, tmp_path):
    case = next(case for case in dataset.cases if case.plan.has_target)
    (tmp_path / "plan.txt").write_text(case.plan_text)
    write_series(tmp_path / "ct", read_ct(case.image), Identity("p1", "test", True))
    code, message = predict("--plan", tmp_path / "plan.txt", "--ct", tmp_path / "ct")
    assert code == 0
    manifest = read_json(tmp_path / "out" / "manifest.json")
    drawn = manifest["target"]["voxels"] > 0
    assert ("target.dcm" in manifest["files"]) == drawn == (tmp_path / "out" / "target.dcm").is_file()
    assert ("no target.dcm" in message) == (not drawn)


def bad_ct(folder: Path, dataset: Dataset, kind: str) -> Path:
    image = nibabel.load(dataset.cases[0].image)
    array = np.asarray(image.dataobj, dtype=np.float32)
    path = folder / f"{kind}.nii.gz"
    if kind == "nan":
        array[3, 3, 3] = np.nan
    if kind == "single":
        array = array[:, :, :1]
    if kind == "scaled":
        array = (array - array.min()) / (array.max() - array.min())
    nibabel.save(nibabel.Nifti1Image(array, image.affine), path)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    if kind == "noise":
        path.write_bytes(b"this is no image")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nan", "voxel(s) are NaN or infinite"),
        ("single", "a CT needs at least 3 slices"),
        ("scaled", "not rescaled to HU?"),
        ("cut", "cut.nii.gz"),
        ("noise", "not a readable NIfTI file"),
    ],
)
def test_bad_cts_are_one_message(predict, dataset, tmp_path, kind, message):
    note = tmp_path / "note.txt"
    note.write_text(dataset.cases[0].note)
    code, found = predict("--note", note, "--ct", bad_ct(tmp_path, dataset, kind))
    assert code == 1
    assert message in found
    assert "Traceback" not in found
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "content", "message"),
    [
        ("--note", b"", "is empty"),
        ("--note", "Patientin 54 J\xe4hrig".encode("latin-1"), "not UTF-8 text"),
        ("--note", b"breast " * 9000, "tokens"),
        ("--plan", b"Side: left. Irradiate.", "no 'Surgery:' sentence"),
    ],
)
def test_bad_texts_are_one_message_that_does_not_repeat_them(predict, dataset, tmp_path, option, content, message):
    text = tmp_path / "text.txt"
    text.write_bytes(content)
    code, found = predict(option, text, "--ct", dataset.cases[0].image)
    assert code == 1
    assert message in found
    assert "Irradiate" not in found
    assert "Patientin" not in found
    assert not (tmp_path / "out").exists()


def test_models_and_places_that_do_not_fit(predict, dataset, tmp_path, capsys):
    note = tmp_path / "note.txt"
    note.write_text("a note")
    with pytest.raises(SystemExit) as ended:
        main(["predict", "--note", str(note), "--ct", "x.nii.gz", "--out", str(tmp_path / "o"), "--models", "nowhere"])
    assert ended.value.code == 1
    assert "no such model; train it" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.docx").write_text("years of work")
    code, message = predict("--note", note, "--ct", dataset.cases[0].image)
    assert code == 1
    assert "holds files that are not an earlier prediction" in message
    assert (tmp_path / "out" / "thesis.docx").read_text() == "years of work"


def test_a_full_disk_is_one_message_and_leaves_nothing(predict, dataset, tmp_path, monkeypatch):
    import errno
    import os

    from rollama.chain import outputs

    def full(path: Path, *rest: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(outputs, "write_mask", full)
    plan = tmp_path / "plan.txt"
    plan.write_text(dataset.cases[0].plan_text)
    code, message = predict("--plan", plan, "--ct", dataset.cases[0].image)
    assert code == 1
    assert "No space left on device" in message
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".part")] == []
