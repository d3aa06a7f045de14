import pytest

from rollama.cli.main import main

SMALL = [
    "--set",
    "cohort.train=1",
    "--set",
    "cohort.validation=0",
    "--set",
    "cohort.test=0",
    "--set",
    "cohort.external=1",
]


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(value) for value in arguments])
    return ended.value.code


def test_make_describe_preview(tmp_path, capsys):
    root = tmp_path / "cohort"
    assert run("cohort", "make", root, "--preset", "tiny", *SMALL) == 0
    first = (root / "dataset.json").stat().st_mtime_ns
    assert run("cohort", "make", root, "--preset", "tiny", *SMALL) == 0  # nothing to do the second time
    assert "already holds this cohort" in " ".join(capsys.readouterr().err.split())
    assert (root / "dataset.json").stat().st_mtime_ns == first
    assert run("cohort", "describe", root) == 0
    assert "synthetic cases, label CTV" in " ".join(capsys.readouterr().out.split())
    picture = tmp_path / "case.png"
    assert run("preview", "--preset", "tiny", "--dataset", root, "--picture", picture) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "4 training rows" in shown
    assert "### Radiotherapy plan" in shown
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_folder_with_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    assert run("cohort", "make", tmp_path / "mine", "--preset", "tiny") == 1
    assert "holds something else" in " ".join(capsys.readouterr().err.split())


def test_a_file_in_the_way_is_said(tmp_path, capsys):
    (tmp_path / "mine").write_text("x")
    assert run("cohort", "make", tmp_path / "mine", "--preset", "tiny") == 1
    assert "holds something else" in " ".join(capsys.readouterr().err.split())


def test_unfinished_cases_of_another_configuration_are_mentioned(tmp_path, capsys):
    (tmp_path / ".cohort.0123456789ab.unfinished").mkdir()
    assert run("cohort", "make", tmp_path / "cohort", "--preset", "tiny", *SMALL) == 0
    assert "0123456789ab.unfinished: unfinished cases of another" in " ".join(capsys.readouterr().err.split())


def test_the_second_site_and_its_export(tmp_path, capsys):
    counts = [part for key in ("train", "validation", "test") for part in ("--set", f"cohort.{key}=0")]
    root = tmp_path / "pelvis"
    assert run("cohort", "make", root, "--site", "prostate", *counts, "--set", "cohort.external=1") == 0
    assert run("cohort", "describe", root) == 0
    assert "do not parse: kept as free text" in " ".join(capsys.readouterr().out.split())
    assert run("cohort", "export", root, tmp_path / "dicom", "--format", "dicom") == 0
    assert list((tmp_path / "dicom").rglob("rtstruct.dcm"))
    assert run("cohort", "export", root, tmp_path / "nnunet", "--format", "nnunet", "--labels", "parts") == 1
    assert "export the labels 'target'" in " ".join(capsys.readouterr().err.split())


def test_a_damaged_cohort_is_named(tmp_path, capsys):
    root = tmp_path / "cohort"
    assert run("cohort", "make", root, "--preset", "tiny", *SMALL) == 0
    next(root.glob("*/images/*.nii.gz")).unlink()
    assert run("cohort", "make", root, "--preset", "tiny", *SMALL) == 1
    assert "files differ from the content hash" in " ".join(capsys.readouterr().err.split())
    assert run("cohort", "describe", root) == 1
    assert "is missing" in " ".join(capsys.readouterr().err.split())


def test_preview_of_an_unknown_case(tmp_path, capsys):
    root = tmp_path / "cohort"
    assert run("cohort", "make", root, "--preset", "tiny", *SMALL) == 0
    assert run("preview", "nobody", "--preset", "tiny", "--dataset", root) == 1
    assert "no case 'nobody'; for example" in " ".join(capsys.readouterr().err.split())
