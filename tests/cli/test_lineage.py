"""`rollama lineage` as its user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rollama.cli.main import main
from rollama.core.files import hash_file
from rollama.lineage.ledger import Ledger
from tests.lineage.conftest import *  # noqa: F403 (fixtures)


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["lineage", *arguments])
    out = capsys.readouterr()
    assert ended.value.code == code, out.err
    return out.out if code == 0 else out.err


def test_questions(ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ("--workspace", str(tmp_path))
    assert [line.split()[0] for line in run(capsys, *at).splitlines()[1:]] == ["aaa1", "aaa2", "bbb3"]
    assert "aaa2" not in run(capsys, *at, "--case", "a-0")
    assert "no recorded model saw a-3" in run(capsys, *at, "--case", "a-3")
    told = run(capsys, *at, "--model", "bbb")
    assert "began with  aaa2" in told and "one (1 test, 2 train, 1 validation)" in told and "in use" in told
    assert "no model is recorded" in run(capsys, "--workspace", str(tmp_path / "other"))
    assert "one thing at a time" in run(capsys, *at, "--model", "bbb", "--case", "a-0", code=2)
    assert "no model" in run(capsys, *at, "--model", "zzz", code=1)


def test_withdrawing(ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, "withdraw", "a-5", "--workspace", str(tmp_path))
    assert "a-5 was withdrawn" in told and "bbb3" in told and "aaa1" not in told
    assert "SAW A WITHDRAWN SUBJECT  a-5" in run(capsys, "--workspace", str(tmp_path), "--model", "bbb")


def test_what_made_a_contour(ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "prediction"
    made.mkdir()
    (made / "target.nii.gz").write_bytes(b"mask")
    files = {"target.nii.gz": hash_file(made / "target.nii.gz")}
    manifest = {"kind": "prediction", "created": "now", "models": {"p": "bbb3", "seg": "ccc"}, "inputs": {"ct": "c1"}}
    (made / "manifest.json").write_text(json.dumps({**manifest, "files": files}))
    for place in (made, made / "target.nii.gz"):
        told = run(capsys, "--workspace", str(tmp_path), "--contour", str(place))
        assert "model p" in told and "not recorded in this workspace" in told and "input ct" in told
    run(capsys, "withdraw", "a-5", "--workspace", str(tmp_path))
    assert "saw withdrawn a-5" in run(capsys, "--workspace", str(tmp_path), "--contour", str(made))
    (made / "target.nii.gz").write_bytes(b"other")
    assert "changed or replaced" in run(capsys, "--workspace", str(tmp_path), "--contour", str(made), code=1)
    (made / "manifest.json").write_text(json.dumps({"kind": "evaluation"}))
    assert "expected 'prediction'" in run(capsys, "--workspace", str(tmp_path), "--contour", str(made), code=1)
    assert "no manifest.json" in run(capsys, "--workspace", str(tmp_path), "--contour", str(tmp_path), code=1)
