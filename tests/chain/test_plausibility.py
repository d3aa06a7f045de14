"""A chest that lies as its file says raises no doubt; one whose file exchanges axes does."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from rollama.chain.plausibility import doubts
from rollama.cohort.make import make_cohort
from rollama.data.volumes import Volume, read_ct
from rollama.presets import load_preset

FLIPS = {
    "front and back": np.diag([1.0, -1.0, 1.0, 1.0]),
    "turned about": np.diag([-1.0, -1.0, 1.0, 1.0]),
}
EXCHANGED = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], float)


COUNTS = ("cohort.train=1", "cohort.validation=0", "cohort.test=1", "cohort.external=2")


@pytest.fixture(scope="module")
def chests(tmp_path_factory) -> list[Volume]:
    root = tmp_path_factory.mktemp("made") / "cohort"
    make_cohort(root, load_preset("demo", COUNTS).cohort, None)
    return [read_ct(path) for path in sorted(root.glob("*/images/*.nii.gz"))]


def moved(volume: Volume, by: np.ndarray) -> Volume:
    return dataclasses.replace(volume, affine=by @ volume.affine)


def test_the_cohorts_chests_lie_right(chests):
    assert [doubts(chest) for chest in chests] == [[]] * len(chests)


@pytest.mark.parametrize("name", FLIPS)
def test_front_for_back_is_doubted(chests, name):
    for chest in chests:
        assert any("bones lie in front" in doubt for doubt in doubts(moved(chest, FLIPS[name])))


def test_an_exchanged_axis_is_doubted(chests):
    told = [doubts(moved(chest, EXCHANGED)) for chest in chests]
    assert sum(any("mm wide" in doubt for doubt in found) for found in told) > 0.8 * len(told)


def test_too_little_body_says_nothing():
    assert doubts(Volume(np.full((40, 40, 40), -1000, np.float32), np.eye(4))) == []
