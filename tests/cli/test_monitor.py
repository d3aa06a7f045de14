"""`rollama monitor drift` from models and metrics to the exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rollama.cli.main import main
from rollama.data.profile import Profile
from rollama.training.artefact import save_artefact


@pytest.fixture
def models(tmp_path: Path) -> Path:
    profile = Profile({"north": {"plan_side": {"left": 100, "right": 100}}, "_all": {"plan_side": {"left": 200}}})
    manifest = {"kind": "text-adapter", "task": "p", "profile": profile.as_dict()}
    save_artefact(tmp_path / "models/p", {"w": torch.ones(1)}, manifest)
    return tmp_path / "models"


def metrics(path: Path, left: int, right: int, centre: str = "north") -> str:
    lines = [
        f'ray_rollama_profile_total{{bin="{kind}",centre="{centre}",feature="plan_side",model="p"}} {n}'
        for kind, n in (("left", left), ("right", right))
    ]
    path.write_text("# TYPE ray_rollama_profile_total counter\n" + "\n".join(lines) + "\n")
    return str(path)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["monitor", "drift", *arguments])
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("left", "right", "code", "said"),
    [(40, 38, 0, "north: 1 none"), (78, 2, 3, "plan_side  drift"), (3, 4, 4, "north: 1 too few")],
)
def test_the_exit_code_is_the_answer(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], left: int, right: int, code: int, said: str
) -> None:
    out = tmp_path / "out"
    assert run(str(models), "--metrics", metrics(tmp_path / "now.txt", left, right), "--out", str(out)) == code
    assert said in capsys.readouterr().out.replace("\n", " ")
    assert {path.name for path in out.iterdir()} == {"drift.html", "drift.md", "drift.json"}


def test_only_what_came_since_is_judged(models: Path, tmp_path: Path) -> None:
    now = metrics(tmp_path / "now.txt", 178, 102)
    assert run(str(models), "--metrics", now) == 0
    assert run(str(models), "--metrics", now, "--before", metrics(tmp_path / "before.txt", 100, 100)) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "either --dataset or --metrics"),
        (["--dataset", "x", "--metrics", "y"], 2, "either --dataset or --metrics"),
        (["--dataset", "x", "--before", "y"], 2, "--before belongs to --metrics"),
        (["--metrics", "absent.txt"], 1, "absent.txt: metrics cannot be read"),
    ],
)
def test_what_is_missing_is_said(
    models: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    assert run(str(models), *arguments) == code
    assert said in capsys.readouterr().err.replace("\n", " ")
