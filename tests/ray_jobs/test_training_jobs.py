"""Real Ray Train jobs with two workers: they learn, survive SIGKILL, resume, and say what went wrong."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from ray_jobs.train_segmentation import train_segmentation
from ray_jobs.train_text import train_text
from rollama.core.errors import CheckpointError, DataError
from rollama.core.registry import Task
from rollama.presets import load_preset
from rollama.training.artefact import artefact_hash, load_artefact
from tests.ray_jobs.faults import KillOnce, losses

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
STEPS, EVERY = 7, 3


def settings(section: str):
    overrides = [f"{section}.steps={STEPS}", f"{section}.scale.checkpoint_every={EVERY}"]
    return load_preset("tiny", overrides)


def run_text(cohort: Path, folder: Path, callbacks=(), seen=None):
    on_step = None if seen is None else seen.append
    train_text(settings("s").s, Task.SUMMARY, cohort, folder / "run", folder / "model", on_step, callbacks)


def run_segmentation(cohort: Path, folder: Path, callbacks=(), seen=None):
    on_step = None if seen is None else seen.append
    train_segmentation(
        settings("segmentation").segmentation, cohort, folder / "run", folder / "model", on_step, callbacks
    )


@pytest.fixture(scope="module")
def straight(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[..., None]], Path]:
    """Folder with the run and the model of a job that nothing disturbed; each job is run once, and nobody changes it.

    Whoever goes on with a run copies it, as a user may who moves a workspace.
    """
    made: dict[str, Path] = {}

    def of(job: Callable[..., None]) -> Path:
        if job.__name__ not in made:
            folder = tmp_path_factory.mktemp(job.__name__)
            seen: list[dict[str, float]] = []
            job(cohort, folder, seen=seen)
            assert seen[-1]["step"] == STEPS
            made[job.__name__] = folder
        return made[job.__name__]

    return of


@pytest.mark.parametrize("job", [run_text, run_segmentation])
def test_a_killed_worker_changes_nothing(cohort, tmp_path, straight, job):
    """SIGKILL at a random step between two checkpoints; every loss and the model equal the straight run's."""
    step = random.SystemRandom().choice([4, 5])
    marker = tmp_path / "killed"
    snapshot = tmp_path / "run" / "ray" / "checkpoint_manager_snapshot.json"
    job(cohort, tmp_path, [KillOnce(step, str(marker), str(snapshot), f"step-{EVERY:06d}")])
    assert marker.exists()
    undisturbed = straight(job)
    first, second = losses(undisturbed / "run" / "metrics.jsonl"), losses(tmp_path / "run" / "metrics.jsonl")
    assert list(first) == list(second) == list(range(1, STEPS + 1))
    assert second == pytest.approx(first, abs=1e-5, rel=0), f"killed after step {step}"
    attempts = [row for row in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines() if '"attempt": 1' in row]
    assert len(attempts) == STEPS - EVERY  # went on from the checkpoint of step 3, not from the start
    assert artefact_hash(undisturbed / "model") == artefact_hash(tmp_path / "model")


def test_the_same_run_goes_on_and_another_configuration_is_refused(cohort, tmp_path, straight):
    shutil.copytree(straight(run_text), tmp_path, dirs_exist_ok=True)
    before = artefact_hash(tmp_path / "model")
    run_text(cohort, tmp_path)  # nothing left to do
    assert artefact_hash(tmp_path / "model") == before
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == STEPS
    other = load_preset("tiny", [f"s.steps={STEPS}", "s.lr=1e-3"]).s
    with pytest.raises(CheckpointError, match="another configuration or data"):
        train_text(other, Task.SUMMARY, cohort, tmp_path / "run", tmp_path / "model")
    assert artefact_hash(tmp_path / "model") == before


def test_a_damaged_checkpoint_costs_its_steps_and_is_said(cohort, tmp_path, straight, caplog):
    """The newest is truncated, the one before is gone on from, and the end is the same."""
    before = artefact_hash(straight(run_text) / "model")
    shutil.copytree(straight(run_text) / "run", tmp_path / "run")
    weights = tmp_path / "run" / "ray" / f"step-{STEPS:06d}" / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    run_text(cohort, tmp_path)
    assert artefact_hash(tmp_path / "model") == before
    assert "SHA-256 differs" in caplog.text and "going on from step-000006" in caplog.text
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows if '"attempt": 1' in row] == [STEPS]


def test_errors_of_workers_reach_the_driver_in_their_own_words_and_at_once(cohort, tmp_path):
    short = load_preset("tiny", ["s.max_tokens=40"]).s
    assert short.scale.max_failures > 1
    with pytest.raises(DataError, match="max_tokens"):
        train_text(short, Task.SUMMARY, cohort, tmp_path / "run", tmp_path / "model")
    assert not (tmp_path / "model").exists()
    logs = Path(ray._private.worker._global_node.get_session_dir_path(), "logs", "train")
    newest = max(logs.glob("ray-train-sys-controller-*.log"), key=lambda path: path.stat().st_mtime)
    assert newest.read_text().count("Attempting to start training worker group") == 1


def test_artefacts_say_what_they_are(straight):
    tensors, manifest = load_artefact(straight(run_segmentation) / "model")
    assert manifest["kind"] == "segmentation"
    assert "RESEARCH USE ONLY" in manifest["notice"]
    assert not any("embed_tokens" in name for name in tensors)  # the frozen encoder is not copied
