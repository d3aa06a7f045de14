"""What is measured after training: it changes no weight, and goes into the artefact."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rollama.data.case import Split
from rollama.data.dataset import open_dataset
from rollama.segmentation import region
from rollama.segmentation.checkpoint import build_network, load_model, save_model
from rollama.segmentation.config import SegConfig
from rollama.segmentation.finishing import finish
from rollama.segmentation.predict import SegmentationModel

CPU = torch.device("cpu")


def test_a_network_is_measured_and_unchanged(
    config: SegConfig, toy_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(region, "LEAST_CASES", 3)
    data = open_dataset(toy_dataset)
    network, info = build_network(config, CPU)
    before = {name: value.clone() for name, value in network.named_parameters()}
    told: list[tuple[int, int]] = []
    found = finish(network, data.select(Split.TRAIN), data.select(Split.VALIDATION), CPU, lambda *one: told.append(one))
    assert told == [(done, 16) for done in range(1, 17)]
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())
    assert found["plans_only"]
    assert network.normality.known
    # Targets fill voxels 2 to 7 of 16 on the left, the body 2 to 13: 10 mm a voxel, mirrored alike.
    low, high = found["reach"]["without nodes"]
    assert (high[0] - low[0], high[1] - low[1], high[2] - low[2]) == pytest.approx((60, 80, 40), abs=10)
    assert 0 < found["threshold"] < 1
    assert found["calibration"].keys() == {"scale", "offset"}
    assert found["metrics"].keys() == {
        "validation_dice", "calibration_error_before", "calibration_error_after"
    }  # fmt: skip
    save_model(tmp_path / "m", network, info, "key", **found)
    loaded = SegmentationModel(*load_model(tmp_path / "m", CPU), CPU)
    assert loaded.network.normality.known
    assert loaded.threshold == found["threshold"]
    assert loaded.reach.boxes.keys() == {"without nodes"}


def test_without_validation_cases_nothing_is_calibrated(config: SegConfig, toy_dataset: Path) -> None:
    network, _ = build_network(config, CPU)
    found = finish(network, open_dataset(toy_dataset).select(Split.TRAIN), (), CPU)
    assert found["calibration"] == {"scale": 1.0, "offset": 0.0}
    assert found["threshold"] == pytest.approx(0.5)
    assert found["metrics"] == {"validation_dice": None}
    assert not network.normality.known
