"""How well would a person do? Simulated readers on edited plans: python -m benchmarks.edit_ceiling COHORT

That a model follows 80 % of the edits and changes a fifth of the target elsewhere says little as long as nobody knows
what is possible. Here the readers of `cohort.readers`, who know the plan and every rule and err by 2 to 3 mm, draw the
target of a case's own plan and of each edited plan, and are scored as a model is (`evaluation.counterfactual`). Once
with the same hand (the border errs alike in both drawings, as a network's does), once drawing anew, where two drawings
of the same plan differ as well.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.segmentation_study import OBEDIENCE, held_out
from rollama.cli.progress import bar
from rollama.cohort.readers import JITTER_MM, draw_as_reader
from rollama.cohort.scan import grid_of
from rollama.core.errors import DataError
from rollama.core.seeding import numpy_generator
from rollama.data.case import Case, Split
from rollama.data.dataset import open_dataset
from rollama.data.plan import Plan
from rollama.evaluation.answers import Answers
from rollama.evaluation.counterfactual import another_patients_plan, edit_scores, trace_voxels
from rollama.evaluation.edits import Expect, edits_of
from rollama.evaluation.masks import dice

HANDS = {"same hand": False, "drawn anew": True}
Scores = dict[str, float]


def score_reader(answers: Answers, case: Case, other: Plan | None, reader: int, anew: bool) -> Scores:
    """One reader on one case: Dice with the own plan's target, then the mean over edits of what a model is scored by.

    Args:
        answers: the true targets.
        case: with a plan and a target.
        other: another patient's plan of another target.
        reader: index into `JITTER_MM`.
        anew: whether each drawing errs in a way of its own.
    """
    assert case.plan is not None
    grid = grid_of(answers.config, case.centre)

    def draw(mask: np.ndarray, name: str) -> np.ndarray:
        rng = numpy_generator("edit ceiling", reader, case.case_id, name if anew else "")
        return draw_as_reader(mask.astype(np.uint8), grid, JITTER_MM[reader], rng, missed=0.0)

    truth = answers.target(case, case.plan)
    before = draw(truth, "own plan")
    found: dict[str, list[float]] = defaultdict(list)
    least = trace_voxels(grid.spacing)
    for edit in edits_of(case.plan, case.case_id, other):
        if edit.expect is not Expect.CHANGE or edit.plan is None or not edit.plan.has_target:
            continue
        wanted = answers.target(case, edit.plan)
        for name, value in edit_scores(before, draw(wanted, edit.name), truth, wanted, grid.spacing, least).items():
            found[name].append(value)
    means = {name: float(np.nanmean(values)) for name, values in found.items() if not np.isnan(values).all()}
    return {"dice": dice(truth, before), **means}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--limit", type=int, help="at most so many cases a centre and split")
    given = parser.parse_args()
    data = open_dataset(given.cohort, check_volumes=False)
    answers = Answers.of(data.info)
    if answers is None:
        raise DataError(f"{given.cohort}: the true targets of other plans are known for our breast cohorts only")
    cases = held_out(data, given.limit)
    found: dict[tuple[int, str, bool], list[Scores]] = defaultdict(list)
    with bar("drawing edited plans", len(cases)) as update:
        for done, case in enumerate(cases, 1):
            other = another_patients_plan(cases, done - 1)
            for reader in range(len(JITTER_MM)):
                for hand, anew in HANDS.items():
                    scores = score_reader(answers, case, other, reader, anew)
                    found[reader, hand, case.split is Split.EXTERNAL].append(scores)
            update(done)
    print("| reader | cases | Dice | edits followed | leakage | leakage without tolerance |\n" + "|---" * 6 + "|")
    for (reader, hand, external), each in sorted(found.items()):
        means = {name: float(np.nanmean([one.get(name, math.nan) for one in each])) for name in ("dice", *OBEDIENCE)}
        where = f"{'external' if external else 'internal'} ({len(each)})"
        shares = " | ".join(f"{100 * means[name]:.1f} %" for name in OBEDIENCE)
        print(f"| {JITTER_MM[reader]} mm, {hand} | {where} | {means['dice']:.3f} | {shares} |")


if __name__ == "__main__":
    main()
