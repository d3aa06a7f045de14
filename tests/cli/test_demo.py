"""The whole demo on the tiny preset, twice: everything is made, and the second run reuses it."""

from __future__ import annotations

import pytest

from rollama.cli.main import main
from rollama.core.files import read_json
from rollama.training.artefact import artefact_hash

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def run(capsys, root):
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--preset", "tiny", "--workspace", str(root)])
    message = " ".join(capsys.readouterr().err.split())
    assert ended.value.code == 0, message
    return message


def test_demo_makes_everything_and_a_second_run_reuses_it(tmp_path, capsys):
    message = run(capsys, tmp_path)
    assert "[8/8] report" in message
    hashes = {name: artefact_hash(tmp_path / "models" / name) for name in ("s", "p", "seg")}
    evaluation = read_json(tmp_path / "evaluation" / "evaluation.json")
    assert evaluation["models"] == hashes
    page = (tmp_path / "report.html").read_text()
    assert "RESEARCH USE ONLY" in page
    assert "synthetic" in page
    # An S trained for so few steps may write nothing at all; test_examples.py looks at examples that are there.
    assert page.count("data:image/png;base64,") == 1 + len(list(tmp_path.glob("predictions/*")))
    assert all((case / "target.nii.gz").is_file() for case in tmp_path.glob("predictions/*"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("predictions/*/manifest.json")}
    again = run(capsys, tmp_path)
    assert again.count("already trained") == 3
    assert {name: artefact_hash(tmp_path / "models" / name) for name in hashes} == hashes
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("predictions/*/manifest.json")} == before
