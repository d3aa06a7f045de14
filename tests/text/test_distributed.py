"""Runs on one and two workers, with and without a compiler: the losses must be the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # two launches of two processes that each import everything
Losses = dict[str, dict[int, float]]


def launch(world: int, runs: list[dict[str, Any]], dataset: Path, folder: Path, path: str | None = None) -> Losses:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **({} if path is None else {"PATH": path})}
    folder.mkdir(exist_ok=True)
    (folder / "store").unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.text.distributed", str(world), json.dumps(runs), str(dataset), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"name"')]
    return {line["name"]: {int(step): loss for step, loss in line["losses"].items()} for line in lines}


def run(name: str, stage: int, workers: int, resume: str | None = None, **changes: Any) -> dict[str, Any]:
    scale = {"workers": workers, "checkpoint_every": 2}
    config = {"base": "tiny", "dtype": "float32", "steps": 4, "lr": 0.02, "zero": {"stage": stage}, "scale": scale}
    return {"name": name, "config": {**config, **changes}, **({"resume": resume} if resume else {})}


def test_one_and_two_workers_have_the_same_losses_and_resume_each_other(dataset: Path, tmp_path: Path) -> None:
    stages = (2, 3)
    one = launch(1, [run(f"one{stage}", stage, 1) for stage in stages], dataset, tmp_path)
    more = [run(f"two{stage}", stage, 2) for stage in stages]
    more += [run(f"grown{stage}", stage, 2, resume=f"one{stage}/step-000002") for stage in stages]
    more += [run(f"again{stage}", stage, 2, resume=f"two{stage}/step-000002") for stage in stages]
    two = launch(2, more, dataset, tmp_path)
    fewer = [run(f"shrunk{stage}", stage, 1, resume=f"two{stage}/step-000002") for stage in stages]
    back = launch(1, fewer, dataset, tmp_path)
    for stage in stages:
        straight = one[f"one{stage}"]
        assert straight[4] < straight[1]
        assert two[f"two{stage}"] == pytest.approx(straight, abs=1e-5)
        late = {step: straight[step] for step in (3, 4)}
        assert two[f"grown{stage}"] == pytest.approx(late, abs=1e-5)
        assert back[f"shrunk{stage}"] == pytest.approx(late, abs=1e-5)
        assert two[f"again{stage}"] == {step: two[f"two{stage}"][step] for step in (3, 4)}  # to the bit
    assert one["one2"] == pytest.approx(one["one3"], abs=1e-5)


def test_full_fine_tuning_under_zero_3_resumes_on_another_number_of_workers(dataset: Path, tmp_path: Path) -> None:
    """Its state is written in pieces; noise is on."""
    full = {"lora": {"enabled": False}, "dtype": "float32"}
    one = launch(1, [run("one", 3, 1, **full)], dataset, tmp_path)["one"]
    more = [run("two", 3, 2, **full), run("grown", 3, 2, resume="one/step-000002", **full)]
    two = launch(2, more, dataset, tmp_path)
    assert {path.name for path in (tmp_path / "two" / "step-000002").iterdir()} == {
        "manifest.json", "shard-00000.safetensors", "shard-00001.safetensors"
    }  # fmt: skip
    late = {step: one[step] for step in (3, 4)}
    back = launch(1, [run("shrunk", 3, 1, resume="two/step-000002", **full)], dataset, tmp_path)
    assert two["two"] == pytest.approx(one, abs=1e-5) and one[4] < one[1]
    assert two["grown"] == pytest.approx(late, abs=1e-5) and back["shrunk"] == pytest.approx(late, abs=1e-5)


def test_other_spaces_of_consistency_under_zero_3(dataset: Path, tmp_path: Path) -> None:
    """`sbert` uses the head more than once in a pass, whose weight is partitioned when all weights are trained."""
    kinds = {kind: {"consistency": kind, "steps": 2} for kind in ("hidden", "sbert")}
    kinds["whole"] = {"consistency": "sbert", "steps": 2, "lora": {"enabled": False}}
    kinds["whole-kl"] = {"consistency": "kl", "steps": 2, "lora": {"enabled": False}, "consistency_every": 2}
    one = launch(1, [run(name, 2, 1, **changes) for name, changes in kinds.items()], dataset, tmp_path / "one")
    two = launch(2, [run(name, 3, 2, **changes) for name, changes in kinds.items()], dataset, tmp_path / "two")
    for name, losses in one.items():
        assert two[name] == pytest.approx(losses, abs=1e-5), name
    assert len({losses[2] for losses in one.values()}) == len(kinds)


def test_two_workers_need_no_compiler(dataset: Path, tmp_path: Path) -> None:
    """DeepSpeed otherwise compiles a shared-memory extension at every start on CPU."""
    tools = tmp_path / "bin"
    tools.mkdir()
    runs = [run(f"stage{stage}", stage, 2, steps=2, dtype="bfloat16") for stage in (2, 3)]
    losses = launch(2, runs, dataset, tmp_path, path=str(tools))
    assert {name: len(steps) for name, steps in losses.items()} == {"stage2": 2, "stage3": 2}
