"""`rollama cohort export` as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rollama.cli.cohort_export import LabelChoice, export
from rollama.core.errors import ConfigError, DataError
from rollama.data.nnunet import Labels
from tests.dicom.data import NO_TARGET, make_dataset

app = typer.Typer()
app.command()(export)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_dataset(tmp_path / "data")
    return tmp_path / "data"


def run(*arguments: object) -> str:
    """Run the verb; what it prints, on one line. Errors come out as they are raised."""
    result = CliRunner().invoke(app, [str(value) for value in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


@pytest.mark.parametrize("fmt", ["nifti", "dicom"])
def test_selects_and_exports(root: Path, tmp_path: Path, fmt: str) -> None:
    out = tmp_path / "out"
    said = run(root, out, "--format", fmt, "--split", "test", "--split", "train", "--centre", "north")
    assert "2 case(s)" in said
    assert names(out) == [NO_TARGET, "north-train-0"]
    assert (f"{NO_TARGET}: no target, so no rtstruct.dcm" in said) == (fmt == "dicom")
    assert (out / "north-train-0" / "note.txt").is_file()
    run(root, tmp_path / "one", "--format", fmt, "--case", "south-external-0", "--without-notes")
    assert names(tmp_path / "one") == ["south-external-0"]
    assert not list((tmp_path / "one").rglob("note.txt"))
    run(root, tmp_path / "first", "--format", fmt, "--limit", 1)
    assert names(tmp_path / "first") == [NO_TARGET]


def test_nnunet_with_parts(root: Path, tmp_path: Path) -> None:
    said = run(root, tmp_path / "raw", "--format", "nnunet", "--labels", "parts", "--number", 12)
    assert "4 case(s)" in said
    assert "CTVp_breast" in (tmp_path / "raw" / "Dataset012_ToyCohort" / "dataset.json").read_text()


def test_wrong_choices_are_named(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for error, message, options in (
        (DataError, "no split dev; it has train", ["--format", "nifti", "--split", "dev"]),
        (DataError, "no centre east; it has north, south", ["--format", "dicom", "--centre", "east"]),
        (DataError, "no case x; it has", ["--format", "nnunet", "--case", "x"]),
        (ConfigError, "belong to --format nnunet, not to dicom", ["--format", "dicom", "--labels", "parts"]),
        (ConfigError, "nnU-Net has no place for notes", ["--format", "nnunet", "--with-notes"]),
    ):
        with pytest.raises(error, match=message):
            run(root, out, *options)
    assert not out.exists()
    with pytest.raises(DataError, match="exists and is not an empty folder"):
        run(root, root, "--format", "nifti")


def test_many_remarks_are_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollama.cli.cohort_export.SHOWN_REMARKS", 3)
    dataset = make_dataset(tmp_path / "data", parts=False)
    said = run(dataset.root, tmp_path / "out", "--format", "nifti")
    assert said.count("the data set has no parts of this target") == 3
    assert "and 1 more; README.txt has them all" in said
    assert (tmp_path / "out" / "README.txt").read_text().count("the data set has no parts of this target") == 4


def test_label_choices_are_those_of_the_exporter() -> None:
    assert [choice.value for choice in LabelChoice] == [choice.value for choice in Labels]
