"""The verb as a person meets it: 80 columns, the labels, the files, one error for all that is wrong."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from rollama.cli.cohort_score import score
from rollama.core.errors import DataError
from rollama.core.files import write_json
from rollama.data.case import Split
from rollama.data.dataset import content_hash, open_dataset, write_centre
from rollama.data.parts import Part

AFFINE = np.diag([6.0, 6.0, 6.0, 1.0])
SHAPE = (16, 12, 8)
PLAN = (
    "Side: left. Surgery: breast-conserving. Volumes: whole breast. Nodes: L1. Boost: none. "
    "Prescription: 40.05 Gy in 15 fractions. Technique: VMAT."
)
CENTRES = {"north": Split.TEST, "west": Split.TEST, "south": Split.EXTERNAL}


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    ct = np.full(SHAPE, -1000, dtype=np.int16)
    ct[1:15, 1:11] = 20
    target = np.zeros(SHAPE, dtype=np.uint8)
    target[2:6, 3:8, 2:6] = 1
    for centre, split in CENTRES.items():
        items = []
        for number in range(3):
            name = f"{centre}-{number}"
            for kind, array in (("images", ct), ("labels", target), ("parts", target * np.uint8(Part.L1)),
                                ("readers", target * np.uint8(3) + np.roll(target, 1, 0) * np.uint8(4))):  # fmt: skip
                save(folder / centre / kind / f"{name}.nii.gz", array)
            items.append((split, {"case_id": name, "note": "n", "summary": f"SECRET {number}", "plan_text": PLAN}))
        write_centre(folder / centre, items)
    write_json(folder / "dataset.json", {
        "name": "toy", "version": "1", "synthetic": True, "label": "CTV", "notice": "n", "centres": list(CENTRES),
        "external_centres": ["south"], "content_hash": content_hash(folder, CENTRES),
    })  # fmt: skip
    return folder


@pytest.fixture
def predictions(root: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    lines = []
    for case in open_dataset(root).cases:
        shutil.copy(case.target, folder)
        lines.append({"case_id": case.case_id, "summary": case.summary, "plan_text": case.plan_text})
    (folder / "text.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    half = np.zeros(SHAPE, dtype=np.uint8)
    half[2:4, 3:8, 2:6] = 1
    save(folder / "west-1.nii.gz", half)
    return folder


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(score)
    return CliRunner().invoke(app, [str(value) for value in arguments], env={"COLUMNS": "80", "TERM": "dumb"})


def words(text: str) -> str:
    return " ".join(text.split())


def test_tables_fit_the_terminal_and_carry_the_labels(root: Path, predictions: Path) -> None:
    result = run(root, predictions)
    assert result.exit_code == 0, result.output
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
    assert "…" not in result.stdout
    shown = words(result.stdout)
    assert "RESEARCH USE ONLY" in shown
    assert "SYNTHETIC patients: toy 1, content " in shown
    assert "held-out cases: test 6, external 3" in shown
    assert "Worst Dice: west-1 (test) 66.7; north-0 (test) 100.0;" in shown
    assert "Plans outside the form (wrong in every field): 0 of 9 given." in shown
    (dice,) = (line for line in result.stdout.splitlines() if line.strip().startswith("Dice  "))
    assert dice.split()[1] == "94.4" and dice.split()[-4:] == ["100.0", "[100.0,", "100.0],", "3"]
    (pairs,) = (line for line in result.stdout.splitlines() if line.strip().startswith("Dice in pairs"))
    assert pairs.split()[3] == "83.3"  # (1 + 0.75 + 0.75) / 3
    assert "By centre: test" in shown and "By centre: external" not in shown
    assert "SECRET" not in result.output


def test_the_report_has_every_centre_and_figure(root: Path, predictions: Path, tmp_path: Path) -> None:
    result = run(root, predictions, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"scores.json", "scores.md", "cases.jsonl"}
    report = (tmp_path / "out" / "scores.md").read_text()
    assert "RESEARCH USE ONLY" in report and "SYNTHETIC" in report and "SECRET" not in report
    lines = report.splitlines()
    start = lines.index("## Target masks: test")
    assert lines[start + 2] == "|  | test | north | west |"
    dice = lines[start + 4].split(" | ")
    assert dice[0] == "| Dice" and dice[1].startswith("94.4 [") and dice[2] == "100.0 [100.0, 100.0], 3"
    assert dice[3].startswith("88.9 [")
    assert "| L1 | 91.7" in report
    kept = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert kept["readers"]["cases"] == 9


def test_all_that_is_wrong_comes_at_once_and_missing_cases_can_be_allowed(root: Path, predictions: Path) -> None:
    (predictions / "north-0.nii.gz").unlink()
    result = run(root, predictions)
    assert isinstance(result.exception, DataError)
    assert "1 of 9 held-out cases have no mask: north-0" in str(result.exception)
    assert "--allow-missing" in str(result.exception)
    allowed = run(root, predictions, "--allow-missing")
    assert allowed.exit_code == 0, allowed.output
    assert "Target masks: 1 of 9 cases are missing and count as empty." in words(allowed.stdout)
    assert "north-0 (test) 0.0, missing;" in words(allowed.stdout)


def test_one_split_only_and_what_is_ignored_is_told(root: Path, predictions: Path) -> None:
    (predictions / "text.jsonl").unlink()
    result = run(root, predictions, "--split", "external")
    assert result.exit_code == 0, result.output
    shown = words(result.stdout)
    assert "held-out cases: external 3" in shown
    assert "Ignored: 6 mask(s) and 0 line(s) of text.jsonl, of cases that are not in the scored splits." in shown
    assert "Not scored, as none was given: summaries, plans." in shown
    assert "test" not in shown.replace("content", "")


def test_a_changed_data_set_is_a_warning(root: Path, predictions: Path) -> None:
    (root / "north" / "readers" / "north-0.nii.gz").unlink()
    shown = words(run(root, predictions).stdout)
    assert "WARNING: the data set's files differ from its content hash" in shown
    assert "1 case(s) have no simulated readers and are not in the ceiling." in shown


def test_help_tells_the_form() -> None:
    shown = words(run("--help").stdout)
    assert "<case_id>.nii.gz" in shown
    assert '"plan_text"' in shown
