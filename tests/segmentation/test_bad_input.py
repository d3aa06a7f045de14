"""Volumes as hospitals send them: handled exactly, or refused by name."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from rollama.core.errors import DataError
from rollama.data.case import Case, Split
from rollama.data.plan import Side, render_plan
from rollama.data.transforms import prepare
from rollama.data.volumes import Volume, read_ct
from rollama.segmentation.checkpoint import build_network
from rollama.segmentation.config import SegConfig
from rollama.segmentation.predict import SegmentationModel
from tests.segmentation.conftest import make_plan
from tests.segmentation.test_predict import TEXT, make_volume

SHAPE = (24, 20, 12)


@pytest.fixture
def model(config: SegConfig) -> SegmentationModel:
    network, _ = build_network(config, torch.device("cpu"))
    model = SegmentationModel(network, {}, torch.device("cpu"))
    model.threshold = float(np.median(model.probability(make_volume(SHAPE, 10.0), TEXT)))
    return model


def test_an_oblique_scan_keeps_its_axes(model: SegmentationModel) -> None:
    plain = make_volume(SHAPE, 10.0)
    turned = plain.affine.copy()
    angle = math.radians(20)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turned[:2, :2] = rotation @ turned[:2, :2]
    mask = model.predict(Volume(plain.array, turned), TEXT)
    assert mask.any()
    assert np.array_equal(mask, model.predict(plain, TEXT))


def test_padding_values_are_air(model: SegmentationModel) -> None:
    plain = make_volume(SHAPE, 10.0)
    padded = Volume(np.where(plain.array < -900, np.float32(-3024), plain.array), plain.affine)
    assert np.array_equal(model.predict(padded, TEXT), model.predict(plain, TEXT))


def test_uneven_voxels_and_fractions_of_hu(model: SegmentationModel) -> None:
    array = np.full((60, 25, 8), -1000.25, np.float32)
    array[6:-6, 3:-3] = 39.5
    volume = Volume(array, np.diag([4.0, 8.0, 15.0, 1.0]))
    assert model.predict(volume, TEXT).shape == volume.shape


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_fewer_slices_than_a_window(model: SegmentationModel, slices: int) -> None:
    volume = make_volume((24, 20, slices), 10.0)
    assert model.predict(volume, TEXT).shape == (24, 20, slices)


def test_nothing_but_air_gives_a_mask_and_no_error(model: SegmentationModel) -> None:
    volume = Volume(np.full(SHAPE, -1000, np.float32), np.diag([10.0, 10.0, 10.0, 1.0]))
    assert model.predict(volume, TEXT).shape == SHAPE


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    array = np.zeros((8, 8, 8), np.float32)
    array[1, 1, 1] = np.nan
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "p7.nii.gz")  # type: ignore[no-untyped-call]
    with pytest.raises(DataError, match=r"p7\.nii\.gz"):
        read_ct(tmp_path / "p7.nii.gz")


def test_a_target_beside_the_body_is_not_cut_off(config: SegConfig, tmp_path: Path) -> None:
    array = np.full((60, 20, 12), -1000, np.float32)
    array[4:20, 4:16] = 40
    target = np.zeros(array.shape, np.uint8)
    target[50:54, 8:12, 4:8] = 1
    for name, values in (("ct", array), ("target", target)):
        image = nibabel.Nifti1Image(values, np.diag([10.0, 10.0, 10.0, 1.0]))  # type: ignore[no-untyped-call]
        nibabel.save(image, tmp_path / f"{name}.nii.gz")
    plan = make_plan(Side.RIGHT)
    case = Case(
        case_id="c", centre="a", split=Split.TRAIN, note="n", summary="s", plan=plan, plan_text=render_plan(plan),
        image=tmp_path / "ct.nii.gz", target=tmp_path / "target.nii.gz", spacing=(10, 10, 10),
    )  # fmt: skip
    prepared = prepare(case, config)
    assert prepared.target.sum() == target.sum()
    assert prepared.image.shape[0] < array.shape[0]  # the far air is left out all the same
