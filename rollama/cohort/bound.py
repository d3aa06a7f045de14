"""The best Dice that any model can reach which sees the CT and not the text, computed and not estimated by training.

"Text is needed" is proven only if no plan-blind model, however good, could do without it. For this cohort the
generator is known, so the bound can be computed: for a CT, all patients who could have it are drawn, with their plans;
their targets on this very anatomy are known; and the one mask with the highest expected Dice over them is found. The
imagined model knows the centre, the anatomy without noise, every rule, and that there is a target. No real one does.

For a fixed number m of voxels the expected Dice is a sum over voxels, so the best mask of that size takes the voxels
with the highest score sum_p w_p 2 [v in T_p] / (m + |T_p|). Voxels that belong to the same targets are one atom, so
trying every size is cheap. The bound holds in expectation over patients; for rare looks, of which few
patients are drawn, it comes out a little too high.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rollama.cohort.anatomy import landmarks
from rollama.cohort.config import EXTERNAL_CENTRES, CohortConfig
from rollama.cohort.facts import Facts, draw_facts
from rollama.cohort.make import body_of
from rollama.cohort.patients import combination_of, cues, draw_patient
from rollama.cohort.rules import load_rules
from rollama.cohort.scan import grid_of
from rollama.cohort.sdf import Grid
from rollama.cohort.shifts import CENTRES
from rollama.cohort.targets import part_mask
from rollama.core.errors import DataError
from rollama.core.seeding import numpy_generator
from rollama.data.case import Split
from rollama.data.parts import Part, parts_of
from rollama.data.plan import Guideline, Plan, Side

SIZES = 600
"""Mask sizes that are tried; between them the expected Dice changes by less than 0.001."""
ENOUGH = 40
"""Patients with one look that are drawn at least."""
CHUNK, MOST = 5_000, 200_000
MANY = 1_000_000

Target = tuple[Side, frozenset[Part], Guideline]


@dataclass(frozen=True)
class Bound:
    """One case's bound: highest expected Dice, how many targets its CT allows, and what its CT shows."""

    case_id: str
    dice: float
    targets: int
    cues: str


class Posterior:
    """Which targets the patients of one centre have who look alike on CT."""

    def __init__(self, config: CohortConfig, centre: str) -> None:
        self.config, self.centre, self.drawn = config, centre, 0
        self.rules = load_rules(config.rules)
        self.found: dict[str, Counter[Target]] = defaultdict(Counter)

    def targets(self, facts: Facts) -> Mapping[Target, float]:
        """Probability of each target that is not empty, given all that the CT shows of `facts`."""
        look = look_of(facts)
        while self.found[look].total() < ENOUGH and self.drawn < MOST:
            self._draw()
        counts = self.found[look]
        if not counts:
            raise DataError(f"{self.centre}: nobody with a target looks like this case in {MOST} draws")
        return {target: count / counts.total() for target, count in counts.items()}

    def _draw(self) -> None:
        population = CENTRES[self.centre].population
        for number in range(self.drawn, self.drawn + CHUNK):
            facts = draw_facts(numpy_generator(self.config.seed, self.centre, "posterior", number), population)
            plan = self.rules.plan_for(facts)
            if plan.has_target and (self.centre in EXTERNAL_CENTRES or combination_of(facts, plan) is None):
                self.found[look_of(facts)][target_of(plan)] += 1
        self.drawn += CHUNK


def target_of(plan: Plan) -> Target:
    """What a plan's target depends on, given the anatomy."""
    return plan.side, frozenset(parts_of(plan)) - {Part.BOOST}, plan.guideline or Guideline.ESTRO


def look_of(facts: Facts) -> str:
    """What the CT shows that bears on the plan: breasts; of clips and fluid the side and whether they are medial."""
    shown = facts.visible
    marks = [str(shown.mounds[side]) for side in Side]
    for places in (shown.clips, shown.seroma):
        marks += ["-" if (site := places[side]) is None else str(site.medial_or_central) for side in Side]
    return " ".join(marks)


def best_dice(masks: Sequence[np.ndarray], weights: Sequence[float]) -> float:
    """Highest expected Dice of any one mask with masks that occur with these probabilities.

    Args:
        masks: bool arrays of one shape, none empty.
        weights: their probabilities.
    """
    stack = np.stack([mask.ravel() for mask in masks])
    members, counts = np.unique(stack[:, stack.any(0)], axis=1, return_counts=True)
    totals = stack.sum(1)
    sizes = np.unique(np.concatenate([np.linspace(1, counts.sum(), SIZES).astype(int), totals]))
    weighted = members * np.asarray(weights)[:, None]
    best = 0.0
    for size in sizes:
        score = (weighted * (2.0 / (size + totals))[:, None]).sum(0)
        order = np.argsort(-score)
        filled = np.minimum(counts[order], np.maximum(size - (np.cumsum(counts[order]) - counts[order]), 0))
        best = max(best, float((filled * score[order]).sum()))
    return best


def case_bound(config: CohortConfig, centre: str, split: Split, index: int, posterior: Posterior) -> Bound | None:
    """The bound of one case; None when it has no target."""
    patient = draw_patient(config, centre, split, index)
    if not patient.plan.has_target:
        return None
    body = landmarks(body_of(config, centre, patient), _coarse(grid_of(config, centre)))
    likely = posterior.targets(patient.facts)
    parts: dict[tuple[Side, Part, Guideline], np.ndarray] = {}

    def union(target: Target) -> np.ndarray:
        side, wanted, guideline = target
        for part in wanted:
            if (side, part, guideline) not in parts:
                parts[side, part, guideline] = part_mask(body, side, part, guideline)
        mask: np.ndarray = np.any([parts[side, part, guideline] for part in sorted(wanted)], axis=0)
        return mask

    dice = best_dice([union(target) for target in likely], list(likely.values()))
    return Bound(patient.case_id, dice, len(likely), cues(patient.facts))


def _coarse(grid: Grid) -> Grid:
    """The same field in voxels of 6 mm where they are smaller: Dice hardly changes, memory and time do."""
    if np.prod(grid.shape) <= MANY:
        return grid
    steps = [max(step, 6.0) for step in grid.spacing]
    shape = [round(mm / step) for mm, step in zip(grid.field_mm, steps, strict=True)]
    return Grid((shape[0], shape[1], shape[2]), (steps[0], steps[1], steps[2]))


def bounds(
    config: CohortConfig, splits: Sequence[Split], progress: Callable[[int, int], None] | None = None
) -> Iterator[Bound]:
    """The bounds of all cases with a target in some splits.

    Args:
        config: the cohort's.
        splits: which.
        progress: called with (cases done, cases in all).
    """
    counts = {centre: config.counts(centre) for centre in CENTRES}
    total, done = sum(found.get(split, 0) for found in counts.values() for split in splits), 0
    for centre, found in counts.items():
        posterior = Posterior(config, centre)
        for split in splits:
            for index in range(found.get(split, 0)):
                bound = case_bound(config, centre, split, index, posterior)
                done += 1
                if progress is not None:
                    progress(done, total)
                if bound is not None:
                    yield bound
