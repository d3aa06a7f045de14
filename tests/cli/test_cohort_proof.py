"""`rollama cohort proof` on a cohort of the smallest size: what it prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rollama.cli.main import main
from rollama.cohort import bound, leakage
from rollama.cohort.config import CohortConfig
from rollama.cohort.make import make_cohort
from rollama.core.files import read_json, write_json

pytestmark = pytest.mark.slow


def run(*arguments: object) -> object:
    with pytest.raises(SystemExit) as ended:
        main([str(value) for value in arguments])
    return ended.value.code


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("proof") / "cohort"
    make_cohort(folder, CohortConfig(size="xs", combination=0, counterfactual=0))
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leakage, "TREES", 4)
    monkeypatch.setattr(leakage, "SHUFFLES", 4)
    monkeypatch.setattr(leakage, "ALARM", 1e9)  # 35 cases and 4 shuffles say nothing; see tests/cohort/test_leakage.py
    monkeypatch.setattr(bound, "CHUNK", 1000)
    monkeypatch.setattr(bound, "ENOUGH", 5)


def test_it_prints_the_bound_the_ceiling_copying_and_leakage(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("cohort", "proof", root, "--out", tmp_path) == 0
    shown = capsys.readouterr().out
    for words in ("sees only the CT", "reader with reader", "nearest case", "case id and order"):
        assert words in shown
    found = json.loads((tmp_path / "proof.json").read_text(encoding="utf-8"))
    assert 0.3 < found["bound"]["all"]["mean"] < 0.9
    assert 0.6 < found["readers"]["dice_pairs"]["mean"] < 1.0
    assert found["bound"]["all"]["mean"] < found["readers"]["dice_reference"]["mean"]
    assert {check["hint"] for check in found["leakage"]} >= {"centre", "length of the note"}


def test_a_leak_ends_with_an_error(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leakage, "ALARM", -1e9)
    assert run("cohort", "proof", root) == 1
    assert "can be guessed without reading: side from case id and order" in " ".join(capsys.readouterr().err.split())


def test_another_site_and_another_generator_are_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_cohort(
        tmp_path / "pelvis", CohortConfig(site="prostate", size="xs", train=1, validation=0, test=1, external=1)
    )
    assert run("cohort", "proof", tmp_path / "pelvis") == 1
    assert "this is a prostate cohort" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr("rollama.cohort.make.generator_hash", lambda: "another")
    assert run("cohort", "proof", root) == 1
    assert "another version of the generator" in " ".join(capsys.readouterr().err.split())


def test_a_data_set_of_other_origin_is_refused(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in root.iterdir():
        (other / path.name).symlink_to(path)
    (other / "dataset.json").unlink()
    write_json(other / "dataset.json", read_json(root / "dataset.json") | {"generator": {}})
    assert run("cohort", "proof", other) == 1
    assert "not made by 'rollama cohort make'" in " ".join(capsys.readouterr().err.split())
