"""`rollama lineage` as its user meets it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rollama.cli.main import main
from rollama.core.files import hash_file
from rollama.data.dataset import open_dataset
from rollama.data.plan import Side
from rollama.lineage.ledger import Ledger, open_ledger
from rollama.lineage.query import Lineage
from rollama.lineage.record import record_training
from rollama.training.artefact import artefact_hash
from tests.chain.tiny import make_models
from tests.data.test_intake import ct, mask, plan, save
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
    told = run(capsys, "--workspace", str(tmp_path), "--contour", str(made))
    assert "saw withdrawn a-5" in told and "no event vouches for it" in told
    (made / "target.nii.gz").write_bytes(b"other")
    assert "changed or replaced" in run(capsys, "--workspace", str(tmp_path), "--contour", str(made), code=1)
    contour, at = made / "target.nii.gz", ("--workspace", str(tmp_path))
    (made / "manifest.json").write_text(json.dumps({**manifest, "files": ["target.nii.gz"]}))  # of an older version
    assert "no manifest.json beside it" in run(capsys, *at, "--contour", str(contour), code=1)
    (made / "manifest.json").write_text(json.dumps({"kind": "prediction", "models": 1}))
    assert "damaged" in run(capsys, "--workspace", str(tmp_path), "--contour", str(made), code=1)
    (made / "manifest.json").write_text(json.dumps({"kind": "evaluation"}))
    assert "no manifest.json of a pred" in run(capsys, "--workspace", str(tmp_path), "--contour", str(made), code=1)
    assert "--audit goes with" in run(capsys, "--workspace", str(tmp_path), "--audit", str(tmp_path), code=2)


def rollama(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(value) for value in arguments])
    assert not ended.value.code


def test_from_a_scan_to_a_contour(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Import, correction, training, prediction: each verb as a user calls it, but for the training itself."""
    lines = []
    for name, side in (("p1", Side.LEFT), ("p2", Side.RIGHT)):
        save(tmp_path / "scans" / name / "ct.nii.gz", ct())
        save(tmp_path / "scans" / name / "target.nii.gz", mask(side))
        lines.append({"case_id": name, "plan": plan(side), "set": "train"})
    (tmp_path / "plans.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rollama("data", "import", "nifti", tmp_path / "scans", tmp_path / "one", "--texts", tmp_path / "plans.jsonl",
            "--split", "set", "--label", "CTV")  # fmt: skip
    rollama("data", "add", tmp_path / "one", tmp_path / "two", "--id", "p1b", "--corrects", "p1", "--contour",
            tmp_path / "scans" / "p1" / "target.nii.gz")  # fmt: skip
    shutil.rmtree(tmp_path / "one")  # the steps before are known from the last one
    ws, out = tmp_path / "ws", tmp_path / "out"
    scan = tmp_path / "scans" / "p2" / "ct.nii.gz"
    predict = ("predict", "--ct", scan, "--plan", tmp_path / "plan.txt", "--out", out, "--models",
               make_models(ws / "models"))  # fmt: skip
    (tmp_path / "plan.txt").write_text(plan(Side.RIGHT))
    rollama(*predict)
    assert not (ws / "lineage").exists(), "nobody keeps a ledger here"
    record_training(ws, ws / "models" / "seg", "seg", tmp_path / "two")
    rollama(*predict)
    capsys.readouterr()
    at = ("--workspace", str(ws))
    told = run(capsys, *at, "--case", "p1")
    data = open_dataset(tmp_path / "two", False).info.content_hash
    assert f"p1: train in data {data[:12]} (nifti, rollama 0.1.0" in told and "; then correction p1b of p1" in told
    model = artefact_hash(ws / "models" / "seg")
    assert told.splitlines()[-1].split()[:4] == [model[:16], "seg", data[:12], "1"]
    told = run(capsys, *at, "--model", str(ws / "models" / "seg"))
    assert f"target {hash_file(out / 'target.nii.gz')[:16]}" in told and "data from" in told
    (tmp_path / "sent").mkdir()
    contour = (out / "target.nii.gz").rename(tmp_path / "sent" / "contour.nii.gz")
    told = run(capsys, *at, "--contour", str(contour))
    assert "event in the lineage" in told and model in told and "saw withdrawn" not in told
    assert f"input ct    {hash_file(scan)}" in told
    run(capsys, "withdraw", "p1b", *at)  # the same subject
    assert "saw withdrawn p1b" in run(capsys, *at, "--contour", str(contour))
    elsewhere = tmp_path / "elsewhere"
    rollama("lineage", "carry", ws / "models" / "seg", "--workspace", ws, "--to", elsewhere)
    told = run(capsys, "--workspace", str(elsewhere), "--model", model)
    assert [line.split()[-1] for line in told.splitlines() if "SAW A WITHDRAWN" in line] == ["p1", "p1b"]
    with pytest.raises(SystemExit) as ended:
        main(["lineage", "carry", str(ws / "models" / "p"), "--workspace", str(ws), "--to", str(elsewhere)])
    assert ended.value.code == 1 and "knows no model" in capsys.readouterr().err
    text = "".join(path.read_text() for path in (ws / "lineage").rglob("*.json*"))
    assert "Side" not in text and str(tmp_path) not in text
    with pytest.raises(SystemExit) as ended:
        main(["audit", "verify", str(ws / "lineage")])
    assert ended.value.code == 0


def test_a_workspace_is_told_at_once(tmp_path: Path) -> None:
    rows = [{"case_id": f"c{number}", "s": "short", "n": "long", "set": "train"} for number in range(3)]
    (tmp_path / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for _ in range(2):  # the same once more is no second event
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        rollama("import-text", tmp_path / "texts.jsonl", tmp_path / "data", "--map", "note=n", "--map", "summary=s",
                "--split", "set", "--workspace", tmp_path / "ws")  # fmt: skip
    known = Lineage(open_ledger(tmp_path / "ws"))
    assert [event.kind for event in known.data] == ["texts"]
    assert [case for _, case, _ in known.held("c1")] == ["c1"]
