"""The bound of models that see only the CT is the true optimum, and lies well below 1 where the CT tells nothing."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from rollama.cohort.anatomy import landmarks
from rollama.cohort.bound import (
    Posterior,
    best_dice,
    bounds,
    case_bound,
    look_of,
    target_of,
)
from rollama.cohort.config import CohortConfig
from rollama.cohort.facts import Contralateral, Facts
from rollama.cohort.make import body_of
from rollama.cohort.patients import COMBINATIONS, cues, draw_patient
from rollama.cohort.rules import plan_for
from rollama.cohort.scan import grid_of
from rollama.cohort.targets import part_mask, target_mask
from rollama.core.errors import DataError
from rollama.data.case import Split
from rollama.data.parts import Part
from rollama.data.plan import Guideline, Side, Surgery

CONFIG = CohortConfig(size="xs", train=30)


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollama.cohort.bound.CHUNK", 250)
    monkeypatch.setattr("rollama.cohort.bound.ENOUGH", 20)


@pytest.fixture(scope="module")
def posterior() -> Posterior:
    return Posterior(CONFIG, "northgate")


def expected_dice(mask: np.ndarray, masks: Sequence[np.ndarray], weights: Sequence[float]) -> float:
    return float(sum(w * 2 * (mask & m).sum() / (mask.sum() + m.sum()) for m, w in zip(masks, weights, strict=True)))


def mask_of(*voxels: int, size: int = 40) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[list(voxels)] = True
    return mask


def test_one_target_is_reached() -> None:
    assert best_dice([mask_of(3, 4, 5)], [1.0]) == pytest.approx(1)
    assert best_dice([mask_of(3, 4, 5)] * 2, [0.3, 0.7]) == pytest.approx(1)


def test_two_targets_that_share_nothing_allow_two_thirds() -> None:
    left, right = mask_of(*range(10)), mask_of(*range(20, 30))
    assert best_dice([left, right], [0.5, 0.5]) == pytest.approx(2 / 3)


def test_a_likely_target_is_drawn_alone() -> None:
    left, right = mask_of(*range(10)), mask_of(*range(20, 30))
    assert best_dice([left, right], [0.95, 0.05]) == pytest.approx(0.95)


def test_a_target_within_another_allows_what_can_be_computed_by_hand() -> None:
    """10 voxels within 20: drawing all gives (1 + 20/30) / 2, drawing the inner ones (20/30 + 1) / 2."""
    assert best_dice([mask_of(*range(10)), mask_of(*range(20))], [0.5, 0.5]) == pytest.approx(5 / 6)


@pytest.mark.parametrize("seed", range(12))
def test_it_is_the_best_of_all_masks_of_a_tiny_example(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [rng.random(8) < 0.45 for _ in range(4)]
    masks = [mask if mask.any() else np.ones(8, bool) for mask in masks]
    weights = rng.dirichlet(np.ones(4)).tolist()
    every = (np.array(bits, bool) for bits in itertools.product((0, 1), repeat=8) if any(bits))
    most = max(expected_dice(mask, masks, weights) for mask in every)
    assert best_dice(masks, weights) == pytest.approx(most, abs=1e-3)


def test_no_mask_of_a_larger_example_exceeds_it() -> None:
    rng = np.random.default_rng(5)
    centres = rng.uniform(6, 18, (5, 3))
    grid = np.stack(np.meshgrid(*[np.arange(24)] * 3, indexing="ij"), axis=-1)
    masks = [np.linalg.norm(grid - centre, axis=-1) < rng.uniform(4, 8) for centre in centres]
    weights = rng.dirichlet(np.ones(5)).tolist()
    best = best_dice(masks, weights)
    votes = np.tensordot(weights, np.array(masks, float), 1)
    tried = [expected_dice(votes > level, masks, weights) for level in np.unique(votes)[:-1]]
    assert best >= max(tried + [expected_dice(mask, masks, weights) for mask in masks]) - 1e-3
    assert best <= max(tried) + 0.1


def test_the_look_is_what_bears_on_the_plan(base: Facts) -> None:
    assert look_of(base) == look_of(base.updated(side=Side.RIGHT, age=40, nodes_positive=3))
    assert look_of(base) != look_of(base.updated(surgery=Surgery.MASTECTOMY))
    assert look_of(base) != look_of(base.updated(clips=True))
    assert look_of(base.updated(clips=True)) != look_of(base.updated(clips=True, side=Side.RIGHT))
    assert look_of(base) != look_of(base.updated(contralateral=Contralateral.MASTECTOMY))


def test_a_boost_and_the_dose_do_not_make_another_target(base: Facts) -> None:
    young = base.updated(age=45)
    assert plan_for(young) != plan_for(base)
    assert target_of(plan_for(young)) == target_of(plan_for(base))
    assert target_of(plan_for(base)) == (Side.LEFT, frozenset({Part.BREAST}), Guideline.ESTRO)


def test_the_posterior_is_a_distribution_over_both_sides_where_nothing_is_seen(
    base: Facts, posterior: Posterior
) -> None:
    found = posterior.targets(base)
    assert sum(found.values()) == pytest.approx(1)
    assert posterior.found[look_of(base)].total() >= 20
    left = sum(share for (side, _, _), share in found.items() if side is Side.LEFT)
    assert 0.3 < left < 0.7
    assert len(found) > 5
    assert all(parts for _, parts, _ in found)
    assert {guideline for _, _, guideline in found} == {Guideline.ESTRO}


def test_the_posterior_knows_the_side_of_a_seroma(base: Facts, posterior: Posterior) -> None:
    found = posterior.targets(base.updated(seroma=True, side=Side.RIGHT))
    assert {side for side, _, _ in found} == {Side.RIGHT}
    assert all(Part.BREAST in parts for _, parts, _ in found)


def test_a_training_centre_s_posterior_has_no_held_out_combination(base: Facts, posterior: Posterior) -> None:
    posterior.targets(base)
    everything = [target for counter in posterior.found.values() for target in counter]
    assert len(everything) > 10
    assert frozenset({Part.BREAST, Part.L3, Part.L4}) not in {parts for _, parts, _ in everything}
    assert len(COMBINATIONS) == 2


def test_a_look_that_nobody_has_is_refused(base: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollama.cohort.bound.MOST", 100)
    monkeypatch.setattr("rollama.cohort.bound.CHUNK", 50)
    rare = base.updated(clips=True, seroma=True, contralateral=Contralateral.LUMPECTOMY, contralateral_clips=True)
    with pytest.raises(DataError, match="northgate: nobody with a target looks like this case in 100 draws"):
        Posterior(CONFIG, "northgate").targets(rare)


def test_where_nothing_is_seen_the_bound_is_well_below_one_and_above_any_guess(posterior: Posterior) -> None:
    found = 0
    for index in range(12):
        patient = draw_patient(CONFIG, "northgate", Split.TRAIN, index)
        if cues(patient.facts) != "none":
            continue
        bound = case_bound(CONFIG, "northgate", Split.TRAIN, index, posterior)
        assert (bound is None) == (not patient.plan.has_target)
        if bound is None:
            continue
        found += 1
        assert (bound.case_id, bound.cues) == (patient.case_id, cues(patient.facts))
        assert 0.4 < bound.dice < 0.9
        body = landmarks(body_of(CONFIG, "northgate", patient), grid_of(CONFIG, "northgate"))
        likely = posterior.targets(patient.facts)
        masks = [
            np.any([part_mask(body, side, part, guideline) for part in parts], axis=0)
            for side, parts, guideline in likely
        ]
        weights = list(likely.values())
        votes = np.tensordot(weights, np.array(masks, float), 1)
        guesses = [*masks, votes > 0.5, votes > 0.3, votes > 0, target_mask(body, patient.plan) > 0]
        assert bound.dice >= max(expected_dice(mask, masks, weights) for mask in guesses if mask.any()) - 1e-3
    assert found >= 3


def test_bounds_cover_all_cases_with_a_target_and_tell_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollama.cohort.bound.ENOUGH", 5)
    config = CONFIG.updated(test=2, external=2, counterfactual=0)
    seen: list[tuple[int, int]] = []
    found = list(bounds(config, (Split.TEST, Split.EXTERNAL), lambda done, total: seen.append((done, total))))
    assert seen == [(n + 1, 10) for n in range(10)]
    assert len(found) == len({bound.case_id for bound in found})
    wanted = {
        patient.case_id
        for centre in ("northgate", "riverside", "hillcrest", "eastmoor", "lakeside")
        for index in range(2)
        if (patient := draw_patient(config, centre, Split.EXTERNAL if centre == "lakeside" else Split.TEST, index))
        and patient.plan.has_target
    }
    assert {bound.case_id for bound in found} == wanted
    assert all(0 < bound.dice <= 1 + 1e-9 and bound.targets >= 1 for bound in found)
