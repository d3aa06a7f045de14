"""Wrong anatomies are what they are called, on the patient's own grid, and differ from the patient."""

from __future__ import annotations

import numpy as np
import pytest

from rollama.cohort.config import CohortConfig
from rollama.cohort.make import make_cohort
from rollama.core.config import build
from rollama.data.case import Case
from rollama.data.dataset import open_dataset
from rollama.data.plan import Volume, parse_plan
from rollama.data.volumes import read_ct
from rollama.evaluation.phantoms import KINDS, NO_BREAST, Phantom, phantoms

CONFIG = build(
    CohortConfig,
    {"size": "xs", "train": 0, "validation": 0, "test": 2, "external": 2, "combination": 0, "counterfactual": 0},
    "test",
)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, ...]:
    root = tmp_path_factory.mktemp("phantoms") / "cohort"
    make_cohort(root, CONFIG)
    return open_dataset(root, check_volumes=False).cases


@pytest.fixture(scope="module")
def drawn(held_out: tuple[Case, ...]) -> dict[str, Phantom]:
    return {phantom.kind: phantom for phantom in phantoms(CONFIG, held_out, 1)}


def test_one_of_every_kind_on_the_patients_grid(drawn: dict[str, Phantom]) -> None:
    assert set(drawn) == set(KINDS)
    for phantom in drawn.values():
        own = read_ct(phantom.case.image)
        assert phantom.volume.shape == own.shape
        np.testing.assert_allclose(phantom.volume.affine, own.affine)
        if phantom.kind != NO_BREAST:  # hers may be gone already
            assert np.abs(phantom.volume.array - own.array).mean() > 20


def test_the_same_case_gives_the_same_phantom(held_out: tuple[Case, ...], drawn: dict[str, Phantom]) -> None:
    again = {phantom.kind: phantom for phantom in phantoms(CONFIG, held_out, 1)}
    assert all(np.array_equal(again[kind].volume.array, drawn[kind].volume.array) for kind in KINDS)


def test_anatomy(drawn: dict[str, Phantom]) -> None:
    litres = {kind: phantom.volume.voxel_cc / 1000 for kind, phantom in drawn.items()}
    inside = (slice(10, 30), slice(10, 24))  # away from couch and skin
    lung = {k: (p.volume.array[inside] < -500).mean() for k, p in drawn.items()}
    assert lung["abdomen"] < 0.05 < 0.2 < lung["arms down"]
    flesh = {k: (p.volume.array > -200).sum() * litres[k] for k, p in drawn.items()}
    assert flesh["head"] < 0.4 * flesh["abdomen"]
    plan = parse_plan(drawn[NO_BREAST].plan_text)
    assert plan.volume is Volume.BREAST and plan.side is parse_plan(drawn[NO_BREAST].case.plan_text).side
    assert parse_plan(drawn["head"].plan_text) == drawn["head"].case.plan
