"""Does the drift report cry wolf, and does it notice? python -m benchmarks.drift COHORT [--repeats 60] [--out FILE]

COHORT is a synthetic cohort of size `m`, from `rollama cohort make`. Every case is binned once, as training and
endpoint do; a trial draws a reference and current cases from them and asks `rollama.monitoring.compare` (profiles
rounded as in a manifest) and the chart's alert rule (`helm/rollama/files/drift.yaml`, its formula in Python).

* Same distribution: of one training centre, 100 random training cases are the reference and n of the others current.
* External centre: n random cases of it against all training cases.
* Another plan mix: n of the others at a training centre, drawn with replacement, mastectomies with ten times the odds.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rollama.core.files import write_json
from rollama.core.seeding import numpy_generator
from rollama.data.case import Case, Split
from rollama.data.dataset import open_dataset
from rollama.data.features import SEES, Bins
from rollama.data.plan import Surgery
from rollama.data.profile import Profile, parse_profile, profile_of
from rollama.monitoring.compare import THRESHOLD, Answer, Finding, compare
from rollama.monitoring.distance import PSI_PER_SQUARE, divergence

REFERENCE = 100
SIZES = (10, 20, 40)
EXTERNAL_SIZES = (5, 10, 20, 40, 60)
ALERT_Z = 3.719
"""One in ten thousand, as in the alert rule."""
Binned = dict[str, Bins]
"""Model -> a case's bins."""


def binned(case: Case) -> Binned:
    """One case's bins for each model."""
    found = {}
    for task in SEES:
        counts = profile_of([case], task).centres.get(case.centre, {})
        found[task] = {feature: next(iter(cells)) for feature, cells in counts.items()}
    return found


def profiles(cases: Sequence[tuple[str, Binned]], rounded: bool) -> dict[str, Profile]:
    """Model -> counts of (centre, bins); rounded as a manifest's."""
    found = {task: Profile() for task in SEES}
    for centre, bins in cases:
        for task, profile in found.items():
            profile.add(centre, bins[task])
    return {task: parse_profile(p.as_dict(), "study") if rounded else p for task, p in found.items()}


def alarms(finding: Finding) -> bool:
    """The alert rule: beyond the threshold and beyond chance (chi squared, its quantile after Wilson and Hilferty)."""
    p, q = np.array(finding.trained), np.array(finding.seen)
    free = len(finding.bins) - 1
    if not free:
        return False
    quantile = free * (1 - 2 / (9 * free) + ALERT_Z * (2 / (9 * free)) ** 0.5) ** 3
    chance = quantile * (1 / finding.n + 1 / finding.reference_n) / PSI_PER_SQUARE
    return float(divergence(p, q)) > max(THRESHOLD**2, chance)


def summary(trials: Sequence[Sequence[Finding]]) -> dict[str, Any]:
    """Shares of trials with an alarm, of answers, and of trials in which each feature drifted."""
    answers = Counter(str(item.answer) for trial in trials for item in trial)
    features = Counter(f for trial in trials for f in {i.feature for i in trial if i.answer is Answer.DRIFT})
    count = len(trials)
    return {
        "trials": count,
        "features judged": len(trials[0]),
        "trials with drift": sum(any(i.answer is Answer.DRIFT for i in t) for t in trials) / count,
        "trials with an alert": sum(any(map(alarms, t)) for t in trials) / count,
        "answers": {str(a): round(answers[str(a)] / answers.total(), 4) for a in Answer},
        "drifted": {name: round(n / count, 3) for name, n in features.most_common()},
    }  # fmt: skip


def main() -> None:
    """Run the study and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    data = open_dataset(given.cohort, check_volumes=False)
    training = {c: data.select(Split.TRAIN, centre=c) for c in data.info.centres if c not in data.info.external_centres}
    bins = {case.case_id: binned(case) for case in data.select(Split.TRAIN, Split.EXTERNAL)}
    rng = numpy_generator("drift study")
    found: dict[str, Any] = {"cohort": data.info.content_hash, "synthetic": data.info.synthetic}

    def trial(
        reference: Sequence[Case], current: Sequence[Case], n: int, weights: Sequence[float] | None = None
    ) -> list[Finding]:
        share = None if weights is None else np.array(weights) / sum(weights)
        chosen = [current[i] for i in rng.choice(len(current), n, replace=weights is not None, p=share)]
        trained, seen = ([(case.centre, bins[case.case_id]) for case in cases] for cases in (reference, chosen))
        return compare(profiles(trained, rounded=True), profiles(seen, rounded=False))

    def halves(cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
        order = [cases[i] for i in rng.permutation(len(cases))]
        return order[:REFERENCE], order[REFERENCE:]

    for n in SIZES:
        trials = [trial(*halves(cases), n) for _ in range(given.repeats) for cases in training.values()]
        found[f"same distribution, {n} cases"] = summary(trials)
    everybody = [case for cases in training.values() for case in cases]
    external = data.select(Split.EXTERNAL)
    for n in EXTERNAL_SIZES:
        repeats = 1 if n >= len(external) else min(20, given.repeats)
        found[f"external centre, {n} cases"] = summary([trial(everybody, external, n) for _ in range(repeats)])
    for n in (20, 40):
        trials = []
        for cases in training.values():
            for _ in range(min(20, given.repeats)):
                reference, others = halves(cases)
                heavy = [3.0 if c.plan and c.plan.surgery is Surgery.MASTECTOMY else 0.3 for c in others]
                trials.append(trial(reference, others, n, heavy))
        found[f"ten times the odds of a mastectomy, {n} cases"] = summary(trials)
    print(json.dumps(found, indent=1))
    if given.out:
        write_json(given.out, found)


if __name__ == "__main__":
    main()
