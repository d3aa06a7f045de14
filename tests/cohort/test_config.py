"""The cohort's configuration: wrong values are explained, sizes are filled in, counts are each centre's."""

from __future__ import annotations

import numpy as np
import pytest

from rollama.cohort.config import (
    EXTERNAL_CENTRES,
    FIELD_MM,
    SIZES,
    TRAINING_CENTRES,
    VARIANTS,
    CohortConfig,
)
from rollama.cohort.shifts import CENTRES
from rollama.core.config import build
from rollama.core.errors import ConfigError
from rollama.data.case import Split


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trian": 3}, "did you mean 'train'"),
        ({"size": "xxl"}, "size.*'xs', 's', 'm' or 'full'"),
        ({"grid": (4, 64, 48)}, "8 to 1024 voxels"),
        ({"grid": (80, 64, 2000)}, "8 to 1024 voxels"),
        ({"spacing": (0.1, 6, 6)}, "0.5 to 20 mm"),
        ({"spacing": (6, 6, 40)}, "0.5 to 20 mm"),
        ({"grid": (40, 64, 48)}, "a field of 250 x 400 x 288 mm; targets need at least 440 x 330 x 250 mm"),
        ({"spacing": (6.25, 6.25, 2.0)}, "a field of 500 x 400 x 96 mm"),
        ({"train": 0, "validation": 0, "test": 0, "external": 0}, "at least one"),
        ({"train": -1}, "train"),
        ({"site": "prostate", "combination": 2}, "prostate site has no held-out combinations"),
        ({"site": "lung"}, "site"),
        ({"twin_fraction": 1.0}, "twin_fraction"),
        ({"seed": -1}, "seed"),
        ({"name": "../elsewhere"}, "name"),
    ],
)
def test_wrong_configurations_are_explained(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(CohortConfig, values, "cohort")


@pytest.mark.parametrize("size", SIZES)
def test_a_named_size_fills_in_what_is_not_given(size: str) -> None:
    config = CohortConfig.model_validate({"size": size})
    for key, value in SIZES[size].items():
        assert getattr(config, key) == value, key
    assert all(have >= need for have, need in zip(np.multiply(config.grid, config.spacing), FIELD_MM, strict=True))
    assert CohortConfig.model_validate({"size": size, "train": 7}).train == 7
    assert CohortConfig.model_validate({"size": size, "train": 7}).test == SIZES[size]["test"]


def test_the_default_is_the_study_s_size_without_its_extra_splits() -> None:
    config = CohortConfig()
    assert config.cases == 4 * 189 + 60
    assert config.name == "rollama-synthetic-breast"
    study = CohortConfig(size="m")
    assert study.cases == 4 * (189 + 10) + 60 + 20 * VARIANTS


def test_prostate_takes_a_size_without_combinations_and_its_own_name() -> None:
    config = CohortConfig(site="prostate", size="xs")
    assert config.combination == 0
    assert config.train == SIZES["xs"]["train"]
    assert config.name == "rollama-synthetic-prostate"
    assert CohortConfig(site="prostate", size="xs", name="mine").name == "mine"


def test_centres_have_their_splits() -> None:
    config = CohortConfig(size="m")
    assert set(CENTRES) == {"northgate", "riverside", "hillcrest", "eastmoor", "lakeside"}
    assert {*TRAINING_CENTRES, *EXTERNAL_CENTRES} == set(CENTRES)
    assert EXTERNAL_CENTRES == ("lakeside",)
    for centre in TRAINING_CENTRES:
        assert config.counts(centre) == {
            Split.TRAIN: 150, Split.VALIDATION: 15, Split.TEST: 24, Split.COMBINATION: 10,
        }  # fmt: skip
    assert config.counts("lakeside") == {Split.EXTERNAL: 60, Split.COUNTERFACTUAL: 20 * VARIANTS}
    assert config.cases == sum(sum(config.counts(centre).values()) for centre in CENTRES)


def test_no_more_cts_get_other_plans_than_there_are_external_cases() -> None:
    config = CohortConfig(external=2, counterfactual=5)
    assert config.counts("lakeside") == {Split.EXTERNAL: 2, Split.COUNTERFACTUAL: 2 * VARIANTS}


def test_anything_given_changes_the_digest() -> None:
    config = CohortConfig(size="s")
    assert config.digest() == CohortConfig(size="s").digest()
    for changes in ({"seed": 1}, {"train": 3}, {"rules": "own.yaml"}, {"grid": (90, 64, 48)}, {"twin_fraction": 0.2}):
        assert config.updated(**changes).digest() != config.digest()
