"""Runs on one and two workers, with and without a compiler: the losses must be the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # three launches of processes that each import everything
STAGES = (2, 3)
FULL: dict[str, Any] = {"lora": {"enabled": False}, "dtype": "float32"}
KINDS: dict[str, dict[str, Any]] = {
    "hidden": {"consistency": "hidden", "steps": 2},
    "sbert": {"consistency": "sbert", "steps": 2},
    "whole": {"consistency": "sbert", "steps": 2, "lora": {"enabled": False}},
    "whole-kl": {"consistency": "kl", "steps": 2, "lora": {"enabled": False}, "consistency_every": 2},
}
Losses = dict[str, dict[int, float]]


def launch(world: int, runs: list[dict[str, Any]], dataset: Path, folder: Path, path: str | None = None) -> Losses:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **({} if path is None else {"PATH": path})}
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distributed")


@pytest.fixture(scope="module")
def one(dataset: Path, folder: Path) -> Losses:
    """Everything on one worker."""
    runs = [run(f"one{stage}", stage, 1) for stage in STAGES] + [run("one-full", 3, 1, **FULL)]
    return launch(1, runs + [run(f"one-{name}", 2, 1, **changes) for name, changes in KINDS.items()], dataset, folder)


@pytest.fixture(scope="module")
def two(one: Losses, dataset: Path, folder: Path) -> Losses:
    """On two workers, with no compiler: DeepSpeed otherwise compiles a shared-memory extension at every CPU start."""
    tools = folder / "bin"
    tools.mkdir()
    runs = [run(f"two{stage}", stage, 2) for stage in STAGES]
    runs += [run(f"grown{stage}", stage, 2, resume=f"one{stage}/step-000002") for stage in STAGES]
    runs += [run(f"again{stage}", stage, 2, resume=f"two{stage}/step-000002") for stage in STAGES]
    runs += [run("two-full", 3, 2, **FULL), run("grown-full", 3, 2, resume="one-full/step-000002", **FULL)]
    runs += [run(f"two-{name}", 3, 2, **changes) for name, changes in KINDS.items()]
    runs += [run(f"bf16-{stage}", stage, 2, steps=2, dtype="bfloat16") for stage in STAGES]
    return launch(2, runs, dataset, folder, path=str(tools))


@pytest.fixture(scope="module")
def back(two: Losses, dataset: Path, folder: Path) -> Losses:
    """On one worker again, from checkpoints of two."""
    runs = [run(f"shrunk{stage}", stage, 1, resume=f"two{stage}/step-000002") for stage in STAGES]
    return launch(1, [*runs, run("shrunk-full", 3, 1, resume="two-full/step-000002", **FULL)], dataset, folder)


@pytest.mark.parametrize("stage", STAGES)
def test_one_and_two_workers_have_the_same_losses_and_resume_each_other(
    stage: int, one: Losses, two: Losses, back: Losses
) -> None:
    straight = one[f"one{stage}"]
    assert straight[4] < straight[1]
    assert two[f"two{stage}"] == pytest.approx(straight, abs=1e-5)
    late = {step: straight[step] for step in (3, 4)}
    assert two[f"grown{stage}"] == pytest.approx(late, abs=1e-5)
    assert back[f"shrunk{stage}"] == pytest.approx(late, abs=1e-5)
    assert two[f"again{stage}"] == {step: two[f"two{stage}"][step] for step in (3, 4)}  # to the bit
    assert one["one2"] == pytest.approx(one["one3"], abs=1e-5)


def test_full_fine_tuning_under_zero_3_resumes_on_another_number_of_workers(
    one: Losses, two: Losses, back: Losses, folder: Path
) -> None:
    """Its state is written in pieces; noise is on."""
    assert {path.name for path in (folder / "two-full" / "step-000002").iterdir()} == {
        "manifest.json", "shard-00000.safetensors", "shard-00001.safetensors"
    }  # fmt: skip
    straight = one["one-full"]
    late = {step: straight[step] for step in (3, 4)}
    assert two["two-full"] == pytest.approx(straight, abs=1e-5) and straight[4] < straight[1]
    assert two["grown-full"] == pytest.approx(late, abs=1e-5) and back["shrunk-full"] == pytest.approx(late, abs=1e-5)


def test_other_spaces_of_consistency_under_zero_3(one: Losses, two: Losses) -> None:
    """`sbert` uses the head more than once in a pass, whose weight is partitioned when all weights are trained."""
    for name in KINDS:
        assert two[f"two-{name}"] == pytest.approx(one[f"one-{name}"], abs=1e-5), name
    assert len({one[f"one-{name}"][2] for name in KINDS}) == len(KINDS)


def test_two_workers_need_no_compiler(two: Losses) -> None:
    assert {stage: len(two[f"bf16-{stage}"]) for stage in STAGES} == dict.fromkeys(STAGES, 2)
