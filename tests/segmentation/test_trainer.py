"""Training runs: resume to the bit, ranks, artefact, and that a few steps learn left from right."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed
from torch import multiprocessing as mp

from rollama.centres.measuring import measure_again
from rollama.cohort.config import CohortConfig
from rollama.cohort.make import make_cohort
from rollama.cohort.regions import write_regions
from rollama.core.errors import CheckpointError, ConfigError, DataError
from rollama.core.registry import SegMethod
from rollama.data.dataset import open_dataset
from rollama.data.organs import case_ct
from rollama.data.plan import Side, render_plan
from rollama.data.volumes import read_ct
from rollama.segmentation.config import SegConfig
from rollama.segmentation.finishing import MEASURED
from rollama.segmentation.predict import SegmentationModel
from rollama.segmentation.trainer import train_segmentation
from rollama.training.artefact import artefact_hash, load_artefact, read_manifest
from rollama.training.metrics_log import read_metrics
from rollama.training.worker import Worker
from tests.segmentation.conftest import make_plan

MakeWorker = Callable[..., Worker]


def losses(path: Path) -> list[float]:
    return [row["loss"] for row in read_metrics(path)]


def test_resume_equals_the_straight_run_to_the_bit(
    config: SegConfig, toy_dataset: Path, make_worker: MakeWorker, tmp_path: Path
) -> None:
    kept: dict[int, Path] = {}

    def report(step: int, _metrics: object, folder: Path | None) -> None:
        if folder is not None:
            kept[step] = shutil.copytree(folder, tmp_path / f"kept-{step}")

    config = config.updated(prompt_every=2)
    straight = make_worker("straight", report=report)
    train_segmentation(config, toy_dataset, tmp_path / "a", straight)
    again = make_worker("again", resume=kept[2])
    train_segmentation(config, toy_dataset, tmp_path / "b", again)
    assert losses(again.metrics_path) == losses(straight.metrics_path)[2:]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    with pytest.raises(CheckpointError, match="another configuration"):
        train_segmentation(config.updated(lr=1e-4), toy_dataset, tmp_path / "c", make_worker("c", resume=kept[2]))


def _rank(rank: int, world: int, config: SegConfig, dataset: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    worker = Worker(
        rank=rank, world=world, device=torch.device("cpu"), resume=None, scratch=folder / "scratch",
        report=lambda *_: None, metrics_path=folder / "metrics.jsonl",
    )  # fmt: skip
    train_segmentation(config, dataset, folder / "model", worker)
    distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("batch", [2, 3])  # 3 does not divide evenly: a weightless copy fills up
def test_two_ranks_give_the_losses_of_one(
    config: SegConfig, toy_dataset: Path, make_worker: MakeWorker, tmp_path: Path, batch: int
) -> None:
    config = config.updated(batch=batch, steps=3, validation={"every": 3})
    one = make_worker("one")
    train_segmentation(config, toy_dataset, tmp_path / "model", one)
    (tmp_path / "two").mkdir()
    mp.spawn(_rank, (2, config, toy_dataset, tmp_path / "two"), nprocs=2)
    two = tmp_path / "two" / "metrics.jsonl"
    assert losses(two) == pytest.approx(losses(one.metrics_path), abs=1e-5)
    figures = [read_metrics(path)[-1]["validation_dice"] for path in (one.metrics_path, two)]
    assert figures[0] == pytest.approx(figures[1], abs=2e-3)  # each rank measured a part of the cases


def test_what_the_plan_decides_counts_from_the_set_step_on(
    config: SegConfig, make_worker: MakeWorker, tmp_path: Path
) -> None:
    grid = {"grid": (40, 32, 24), "spacing": (12.5, 12.5, 12.0)}
    make_cohort(tmp_path / "cohort", CohortConfig(train=2, validation=1, test=0, external=0, **grid))
    write_regions(tmp_path / "cohort")
    config = config.updated(
        spacing=grid["spacing"], positive_crops=1.0, steps=4, plan_edits=1.0, edit_weight=1.0, edit_after=0.5
    )
    worker = make_worker("late")
    train_segmentation(config, tmp_path / "cohort", tmp_path / "m", worker)
    found = [row["contested"] for row in read_metrics(worker.metrics_path)]
    assert found[:2] == [0, 0] and max(found[2:]) > 0


def test_artefact_names_its_encoder_and_refuses_another(
    config: SegConfig, toy_dataset: Path, make_worker: MakeWorker, tmp_path: Path
) -> None:
    train_segmentation(config.updated(steps=1), toy_dataset, tmp_path / "m", make_worker("m"))
    manifest = json.loads((tmp_path / "m" / "manifest.json").read_text())
    assert manifest["kind"] == "segmentation"
    assert manifest["synthetic"] is True
    assert 0 <= manifest["metrics"]["validation_dice"] <= 1
    assert SegmentationModel.load(tmp_path / "m").config.encoder == "tiny"
    manifest["encoder"]["weights_hash"] = "0" * 64
    (tmp_path / "m" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="other weights of the text encoder"):
        SegmentationModel.load(tmp_path / "m")


def test_a_site_need_not_measure_and_whoever_has_the_model_can(
    config: SegConfig, toy_dataset: Path, make_worker: MakeWorker, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="measure: false needs a start"):
        train_segmentation(config.updated(measure=False), toy_dataset, tmp_path / "x", make_worker("x"))
    train_segmentation(config.updated(steps=1), toy_dataset, tmp_path / "start", make_worker("start"))
    start = read_manifest(tmp_path / "start")
    config = config.updated(init=artefact_hash(tmp_path / "start"), steps=8)
    for name, measure in (("site", False), ("whole", True)):
        worker = replace(make_worker(name), init=tmp_path / "start")
        train_segmentation(config.updated(measure=measure), toy_dataset, tmp_path / name, worker)
    site, whole = (read_manifest(tmp_path / name) for name in ("site", "whole"))
    assert all(site[key] == start[key] for key in MEASURED)
    again = measure_again(tmp_path / "site", toy_dataset, tmp_path / "again", device=torch.device("cpu"))
    found = read_manifest(again)
    assert all(found[key] == whole[key] for key in MEASURED)
    assert whole["calibration"] != start["calibration"]
    assert found["metrics"].items() <= whole["metrics"].items() and found["measured"]["training"] == {"toy": 6}
    tensors = [load_artefact(tmp_path / name)[0] for name in ("again", "whole")]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(value, tensors[1][name]) for name, value in tensors[0].items())
    SegmentationModel.load(again)


def test_vision_twin_trains_without_an_encoder(
    config: SegConfig, toy_dataset: Path, make_worker: MakeWorker, tmp_path: Path
) -> None:
    worker = make_worker("v")
    train_segmentation(config.updated(method=SegMethod.VISION, steps=1), toy_dataset, tmp_path / "v", worker)
    model = SegmentationModel.load(tmp_path / "v")
    volume = read_ct(open_dataset(toy_dataset).cases[0].image)
    left, right = (model.predict(volume, render_plan(make_plan(side))) for side in Side)
    assert np.array_equal(left, right)


@pytest.mark.slow
def test_the_other_side_moves_the_mask(
    config: SegConfig, toy_dataset: Path, make_worker: MakeWorker, tmp_path: Path
) -> None:
    config = config.updated(method=SegMethod.PLAIN, steps=250, lr=3e-3, batch=4, micro_batch=4)
    train_segmentation(config, toy_dataset, tmp_path / "m", make_worker("m"))
    model = SegmentationModel.load(tmp_path / "m")
    volume = read_ct(open_dataset(toy_dataset).cases[0].image)
    left, right = (model.predict(volume, render_plan(make_plan(side))) for side in (Side.LEFT, Side.RIGHT))
    assert left[:8].sum() > 4 * left[8:].sum()
    assert right[8:].sum() > 4 * right[:8].sum()


def test_a_model_reads_organs_and_says_which_case_has_none(
    config: SegConfig, toy_dataset: Path, make_worker: MakeWorker, tmp_path: Path
) -> None:
    root = shutil.copytree(toy_dataset, tmp_path / "data")
    (root / "toy" / "organs").mkdir()
    for path in (root / "toy" / "labels").iterdir():
        shutil.copy(path, root / "toy" / "organs" / path.name)  # any mask will do
    config = config.updated(organs=True, steps=1, fine_channels=0)
    train_segmentation(config, root, tmp_path / "m", make_worker("m"))
    model = SegmentationModel.load(tmp_path / "m")
    case = open_dataset(root).cases[0]
    with_mask = model.probability(case_ct(case), case.plan_text)
    empty = replace(case_ct(case), organs=np.zeros((16, 16, 8), np.uint8))
    assert not np.array_equal(with_mask, model.probability(empty, case.plan_text))
    with pytest.raises(DataError, match="none was given"):
        model.predict(read_ct(case.image), case.plan_text)
    (root / "toy" / "organs" / "toy-3.nii.gz").unlink()
    with pytest.raises(DataError, match=r"toy-3: .* reads an organ mask"):
        train_segmentation(config.updated(steps=4), root, tmp_path / "m2", make_worker("m2"))
    plain = config.updated(organs=False)
    train_segmentation(plain, root, tmp_path / "m3", make_worker("m3"))  # organs that nobody asked for change nothing
    train_segmentation(plain, toy_dataset, tmp_path / "m4", make_worker("m4"))
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("m3", "m4")]
    assert weights[0] == weights[1]
