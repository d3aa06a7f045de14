"""`rollama data` as a hospital's engineer calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rollama.cli.main import main
from rollama.data.plan import Side
from tests.data.test_intake import ct, mask, plan, save


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(value) for value in arguments])
    return int(ended.value.code or 0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    lines = []
    for number, side in enumerate((Side.LEFT, Side.RIGHT, Side.LEFT)):
        save(tmp_path / "scans" / f"p{number}" / "ct.nii.gz", ct())
        save(tmp_path / "scans" / f"p{number}" / "target.nii.gz", mask(side))
        lines.append({"mrn": f"p{number}", "PLAN": plan(side), "REPORT": "SECRET report", "SHORT": "SECRET summary"})
    (tmp_path / "plans.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path


def test_import_check_describe(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = (
        "--texts",
        source / "plans.jsonl",
        "--id",
        "mrn",
        "--map",
        "plan=PLAN",
        "--label",
        "CTV",
        "--centre",
        "here",
    )
    assert run("data", "import", "nifti", source / "scans", source / "mine", *given) == 0
    assert run("data", "check", source / "mine") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "3 cases, nothing found" in said and "3 of 3 plans have the plan's form" in said
    assert run("data", "describe", source / "mine", "--pictures", source / "pictures") == 0
    pictures = sorted(path.name for path in (source / "pictures").iterdir())
    assert pictures == ["p0.png", "p1.png", "p2.png"]
    assert (source / "pictures" / "p0.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr()
    assert "3 clinical cases, label CTV" in shown.out and "SECRET" not in shown.out + shown.err


def test_a_bad_case_is_named_and_can_be_left_out(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(source / "scans" / "p1" / "target.nii.gz", mask(Side.LEFT))
    given = (
        "--texts",
        source / "plans.jsonl",
        "--id",
        "mrn",
        "--map",
        "plan=PLAN",
        "--map",
        "note=REPORT",
        "--label",
        "CTV",
    )
    assert run("data", "import", "nifti", source / "scans", source / "mine", *given) == 1
    shown = capsys.readouterr().err
    assert "p1: the plan says right, but 100%" in shown and "SECRET" not in shown and not (source / "mine").exists()
    assert run("data", "import", "nifti", source / "scans", source / "mine", *given, "--skip-bad") == 0
    assert "left out p1: the plan says right" in capsys.readouterr().err
    save(source / "mine" / "centre" / "labels" / "p0.nii.gz", mask(Side.RIGHT))
    assert run("data", "check", source / "mine") == 1
    assert "1 of 2 cases contradict themselves" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("nifti", "scans", "mine", "--texts", "none.jsonl", "--label", "CTV"), 1, "none.jsonl: cannot be read"),
        (("nifti", "scans", "mine", "--texts", "plans.jsonl", "--label", "CTV"), 1, "has no case_id, plan"),
        (("nifti", "scans", "mine", "--texts", "plans.jsonl", "--label", "CTV", "--map", "plan"), 2, "FIELD=WHERE"),
        (("nifti", "scans", "mine", "--texts", "plans.jsonl", "--label", "GTV"), 2, "'GTV' is not one of"),
        (("rtstruct", "scans", "mine", "--texts", "plans.jsonl", "--label", "CTV", "--id", "mrn",
          "--map", "plan=PLAN"), 1, "name the ROI"),
        (("nnunet", "scans", "mine", "--texts", "plans.jsonl", "--label", "CTV", "--roi", "x", "--image", "y"), 2,
         "--roi, --image: not an option of nnunet"),
    ],
)  # fmt: skip
def test_bad_input_is_one_message(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...], code: int, message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(source)
    assert run("data", "import", *arguments) == code
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_corrected_contour_is_added(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("--texts", source / "plans.jsonl", "--id", "mrn", "--map", "plan=PLAN", "--label", "CTV")
    shares = ("--validation", 0, "--test", 0)
    assert run("data", "import", "nifti", source / "scans", source / "mine", *given, *shares) == 0
    contour = source / "scans" / "p0" / "target.nii.gz"
    corrected = ("--id", "p0b", "--corrects", "p0", "--contour", contour)
    assert run("data", "add", source / "mine", source / "mine2", *corrected) == 0
    assert "p0b among them" in " ".join(capsys.readouterr().err.split())
    (source / "plan.txt").write_text(plan(Side.RIGHT))
    assert run("data", "add", source / "mine2", source / "mine3", *corrected, "--plan", source / "plan.txt") == 1
    assert "choose another" in " ".join(capsys.readouterr().err.split())
    new = ("--id", "p9", "--ct", source / "scans" / "p0" / "ct.nii.gz", "--contour", contour)
    assert run("data", "add", source / "mine2", source / "mine3", *new, "--plan", source / "plan.txt") == 1
    assert "on the other side" in " ".join(capsys.readouterr().err.split())
    assert run("data", "add", source / "mine2", source / "mine3", "--id", "p9", "--contour", contour) == 2
    assert not (source / "mine3").exists()
