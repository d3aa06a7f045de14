"""A correction becomes a training case of a new version; held-out CTs never do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rollama.core.errors import ConfigError, DataError
from rollama.core.files import read_json
from rollama.data.additions import Addition, add_case
from rollama.data.case import Split
from rollama.data.dataset import open_dataset
from rollama.data.plan import Side, render_plan
from rollama.data.volumes import Volume, read_ct, read_mask
from tests.segmentation.conftest import make_plan, toy_dataset

__all__ = ["toy_dataset"]


def test_a_corrected_contour_trains_in_a_new_version(toy_dataset: Path, tmp_path: Path) -> None:
    old = open_dataset(toy_dataset)
    case = old.select(Split.TRAIN)[0]
    volume = read_ct(case.image)
    contour = read_mask(case.target, volume)
    contour[:, :, 2] = 0
    add_case(toy_dataset, Addition("again", "toy", {}, contour=contour, corrects=case.case_id), tmp_path / "v2")
    found = open_dataset(tmp_path / "v2")
    new = next(case for case in found.cases if case.case_id == "again")
    assert new.split is Split.TRAIN
    assert new.plan == case.plan
    assert new.note == case.note
    assert np.array_equal(read_mask(new.target, volume), contour)
    assert np.array_equal(read_ct(new.image).array, volume.array)
    assert new.provenance["corrects"] == case.case_id
    assert new.provenance["corrected"] == "contour"
    assert len(found.cases) == len(old.cases) + 1
    assert found.info.content_hash != old.info.content_hash
    step = found.info.origins[-1]
    assert (step.kind, step.data, step.extends) == ("correction", found.info.content_hash, old.info.content_hash)
    assert (step.case, step.corrects, step.changed) == ("again", case.case_id, ("contour",))
    add_case(tmp_path / "v2", Addition("more", "toy", {"plan_text": "Irradiate."}, corrects="again"), tmp_path / "v3")
    last = open_dataset(tmp_path / "v3").info.origins
    assert last[0] == step and (last[1].case, last[1].extends, last[1].changed) == ("more", step.data, ("plan",))
    assert open_dataset(toy_dataset).cases == old.cases  # the old version is as it was
    label = tmp_path / "v2" / "toy" / "labels" / case.target.name
    assert label.stat().st_nlink == 1  # may be edited in place
    assert len(read_json(toy_dataset / "toy" / "dataset.json")["training"]) == 6  # type: ignore[index,call-overload]


def test_a_corrected_plan_must_fit_the_contour(toy_dataset: Path, tmp_path: Path) -> None:
    case = open_dataset(toy_dataset).select(Split.TRAIN)[0]
    assert case.plan is not None
    other = {"plan_text": render_plan(case.plan.mirrored())}
    with pytest.raises(DataError, match="on the other side"):
        add_case(toy_dataset, Addition("x", "toy", other, corrects=case.case_id), tmp_path / "v2")
    assert not (tmp_path / "v2").exists()


def test_a_new_patient(toy_dataset: Path, tmp_path: Path) -> None:
    case = open_dataset(toy_dataset).select(Split.TRAIN)[0]
    volume = read_ct(case.image)
    other = Volume(volume.array + np.float32(1), volume.affine, "new")
    plan = make_plan(Side.RIGHT)
    mask = np.zeros(volume.shape, np.uint8)
    mask[8:14, 4:12, 2:6] = 1
    addition = Addition("p99", "toy", {"plan_text": render_plan(plan)}, other, mask)
    add_case(toy_dataset, addition, tmp_path / "v2")
    found = open_dataset(tmp_path / "v2")
    assert next(case for case in found.cases if case.case_id == "p99").plan == plan


def test_what_must_not_be_added(toy_dataset: Path, tmp_path: Path) -> None:
    data = open_dataset(toy_dataset)
    held, train = data.select(Split.VALIDATION)[0], data.select(Split.TRAIN)[0]
    out = tmp_path / "v2"
    with pytest.raises(DataError, match="is a held-out case"):
        add_case(toy_dataset, Addition("x", "toy", {}, corrects=held.case_id), out)
    with pytest.raises(DataError, match=f"held-out case {held.case_id}"):
        add_case(toy_dataset, Addition("x", "toy", {}, read_ct(held.image), corrects=train.case_id), out)
    ct = read_ct(held.image)
    turned = ct.affine.copy()
    turned[0, 0], turned[0, 3] = -turned[0, 0], turned[0, 3] + turned[0, 0] * (ct.shape[0] - 1)
    for other in (Volume(np.ascontiguousarray(ct.array[::-1]), turned), Volume(ct.array[:, :, 2:], ct.affine)):
        with pytest.raises(DataError, match=f"held-out case {held.case_id}"):
            add_case(toy_dataset, Addition("x", "toy", {}, other, corrects=train.case_id), out)
    with pytest.raises(DataError, match="choose another"):
        add_case(toy_dataset, Addition(train.case_id, "toy", {}, corrects=train.case_id), out)
    with pytest.raises(DataError, match="has no case nobody"):
        add_case(toy_dataset, Addition("x", "toy", {}, corrects="nobody"), out)
    with pytest.raises(DataError, match="there is no CT"):
        add_case(toy_dataset, Addition("x", "toy", {}), out)
    with pytest.raises(DataError, match="there is no contour"):
        add_case(toy_dataset, Addition("x", "toy", {}, Volume(np.zeros((4, 4, 4), np.float32), np.eye(4))), out)
    with pytest.raises(ConfigError, match="has no centre"):
        add_case(toy_dataset, Addition("x", "elsewhere", {}, corrects=train.case_id), out)
    with pytest.raises(ConfigError, match="is there already"):
        add_case(toy_dataset, Addition("x", "toy", {}, corrects=train.case_id), tmp_path)
    assert not out.exists()
