"""The cohort on disk: same bytes for the same configuration, same cases when it grows, twins with another plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rollama.cohort.config import CohortConfig
from rollama.cohort.describe import describe_cohort, plan_frequencies, target_volumes
from rollama.cohort.make import case_name, draw_patient, grid_of, make_cohort, make_volumes
from rollama.cohort.shifts import CENTRES
from rollama.core.config import build
from rollama.core.errors import ConfigError, DataError
from rollama.core.files import hash_file
from rollama.data.case import Split
from rollama.data.dataset import Dataset, content_hash, open_dataset
from rollama.data.plan import render_plan

SMALL = CohortConfig(train=4, validation=1, test=1, external=2, grid=(40, 32, 24), spacing=(12.0, 12.0, 12.0))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("cohort") / "small"
    seen: list[tuple[int, int]] = []
    info = make_cohort(root, SMALL, lambda done, total: seen.append((done, total)))
    assert seen == [(n + 1, SMALL.cases) for n in range(SMALL.cases)]
    opened = open_dataset(root)
    assert opened.info == info
    return opened


def test_open_dataset_accepts_it(dataset: Dataset) -> None:
    assert len(dataset.cases) == SMALL.cases == 20
    assert dataset.info.synthetic
    assert dataset.info.label == "CTV"
    assert "SYNTHETIC" in dataset.info.notice
    assert dataset.info.external_centres == ("lakeside",)
    assert dataset.info.content_hash == content_hash(dataset.root, dataset.info.centres)
    for case in dataset.cases:
        assert case.plan is not None
        assert case.evidence
        assert (case.split is Split.EXTERNAL) == (case.centre == "lakeside")


def test_the_same_configuration_gives_the_same_bytes(dataset: Dataset, tmp_path: Path) -> None:
    assert make_cohort(tmp_path / "again", SMALL).content_hash == dataset.info.content_hash


def test_other_counts_change_no_case(dataset: Dataset, tmp_path: Path) -> None:
    fewer = SMALL.updated(train=2, validation=0, external=1)
    make_cohort(tmp_path / "fewer", fewer)
    kept = {case.case_id: case for case in dataset.cases}
    for case in open_dataset(tmp_path / "fewer").cases:
        same = kept[case.case_id]
        assert (case.note, case.plan_text, case.provenance) == (same.note, same.plan_text, same.provenance)
        assert hash_file(case.image) == hash_file(same.image)
        assert hash_file(case.target) == hash_file(same.target)


def test_another_seed_is_another_cohort() -> None:
    one = draw_patient(SMALL, "northgate", Split.TRAIN, 0)
    other = draw_patient(SMALL.updated(seed=1), "northgate", Split.TRAIN, 0)
    assert one.note != other.note


def test_twins_share_the_body_and_not_the_plan() -> None:
    config = CohortConfig(train=40)
    drawn = {
        case_name(c, Split.TRAIN, i): draw_patient(config, c, Split.TRAIN, i) for c in ("riverside",) for i in range(40)
    }
    twins = [patient for patient in drawn.values() if patient.anatomy_of != patient.case_id]
    assert 5 <= len(twins) <= 20
    for twin in twins:
        model = drawn[twin.anatomy_of]
        assert model.anatomy_of == model.case_id
        assert model.facts.mounds == twin.facts.mounds
        assert render_plan(model.plan) != render_plan(twin.plan)
    twin = twins[0]
    ct, mask, _ = make_volumes(config, "riverside", twin)
    first, _, _ = make_volumes(config, "riverside", drawn[twin.anatomy_of])
    other, _, _ = make_volumes(config, "riverside", next(p for p in drawn.values() if p.anatomy_of != twin.anatomy_of))
    gap, far = (np.abs(ct.astype(int) - image).mean() for image in (first, other))
    assert gap < 40 < far
    assert set(np.unique(mask)) <= {0, 1}


@pytest.mark.parametrize("split", [Split.VALIDATION, Split.TEST])
def test_only_training_cases_have_twins(split: Split) -> None:
    for index in range(25):
        assert (patient := draw_patient(SMALL, "hillcrest", split, index)).anatomy_of == patient.case_id


def test_the_external_centre_has_its_own_voxels_in_the_same_field() -> None:
    config = CohortConfig()
    inside, outside = grid_of(config, "northgate"), grid_of(config, "lakeside")
    assert outside.spacing == pytest.approx((5.5, 5.5, 5.0))
    fields = [np.multiply(grid.shape, grid.spacing) for grid in (inside, outside)]
    assert np.allclose(fields[0], fields[1], atol=3)


def test_the_card_says_what_it_is(dataset: Dataset) -> None:
    card = (dataset.root / "dataset_card.md").read_text(encoding="utf-8")
    for needed in ("SYNTHETIC", "RESEARCH USE ONLY", dataset.info.content_hash, "CTV", "lakeside", "AMAROS", "Limits"):
        assert needed in card


def test_description_counts(dataset: Dataset) -> None:
    rows = describe_cohort(dataset)
    assert len({tuple(row) for row in rows}) == 1
    assert rows[-1]["cases"] == str(SMALL.cases)
    assert sum(int(row["cases"]) for row in rows[:-1]) == SMALL.cases
    assert sum(count for _, count in plan_frequencies(dataset.cases)) == SMALL.cases
    empty = [case.plan is not None and not case.plan.has_target for case in dataset.cases]
    assert (target_volumes(dataset.cases) == 0).tolist() == empty


def test_a_folder_that_is_no_dataset_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match="is not a dataset"):
        make_cohort(tmp_path, SMALL)
    assert (tmp_path / "thesis.txt").is_file()


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_cohort(tmp_path / "cohort", SMALL, stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trian": 3}, "did you mean 'train'"),
        ({"grid": (4, 64, 48)}, "8 to 512 voxels"),
        ({"spacing": (0.1, 6, 6)}, "1 to 20 mm"),
        ({"train": 0, "validation": 0, "test": 0, "external": 0}, "at least one"),
    ],
)
def test_wrong_configurations_are_explained(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(CohortConfig, values, "cohort")


def test_centres_have_their_share() -> None:
    assert CohortConfig().cases == 3 * 250 + 60
    assert set(CENTRES) == {"northgate", "riverside", "hillcrest", "lakeside"}
