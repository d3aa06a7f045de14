"""Does anything but the text tell the answer? Case ids, order, centre, file sizes, note lengths, the CT itself.

A benchmark whose ids alternate left and right is solved by counting. Each check trains a random forest to guess an
answer (treated side, volume, nodes) from one kind of hint only, in cross-validation with all cases of one body in one
fold, and compares it with the same forest on shuffled answers. What the CT may tell (a removed breast) is reported
beside what it must not: the side in patients with nothing to be seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rollama.core.seeding import derive_seed
from rollama.data.case import Case
from rollama.data.dataset import Dataset
from rollama.data.volumes import read_ct, to_canonical

FOLDS, TREES, SHUFFLES = 5, 40, 20
ALARM = 3.5
"""Standard deviations above chance."""
BLOCKS = (12, 8, 6)
"""Cells into which a CT is averaged for the CT's own hints."""


@dataclass(frozen=True)
class Check:
    """One check: accuracy of guessing `answer` from `hint`, mean and spread with shuffled answers, and its p-value.

    `must_fail` marks hints that must tell nothing.
    """

    answer: str
    hint: str
    cases: int
    accuracy: float
    shuffled: float
    spread: float
    p: float
    must_fail: bool

    @property
    def leaks(self) -> bool:
        """Whether a hint that must tell nothing tells something: far above chance, so that ten checks do not alarm."""
        return self.must_fail and self.accuracy > self.shuffled + ALARM * self.spread


ANSWERS: dict[str, Callable[[Case], str]] = {
    "side": lambda case: str(case.plan.side) if case.plan else "",
    "volume": lambda case: str(case.plan.volume) if case.plan else "",
    "nodes": lambda case: ", ".join(case.plan.levels) if case.plan else "",
}


def check_leakage(dataset: Dataset, progress: Callable[[int, int], None] | None = None) -> list[Check]:
    """All checks on a synthetic data set; every case is used, whatever its split.

    Raises:
        DataError: a CT cannot be read.
    """
    cases = [case for case in dataset.cases if case.plan is not None]
    bodies = np.array([f"{case.centre}/{case.provenance.get('anatomy_of', case.case_id)}" for case in cases])
    hidden = np.array([case.provenance.get("cues") == "none" for case in cases])
    names = np.array([_name_hints(case, place) for place, case in enumerate(cases)], float)
    centres = np.array([[case.centre == name for name in dataset.info.centres] for case in cases], float)
    sizes = np.array([[case.image.stat().st_size] for case in cases], float)
    lengths = np.array([[len(case.note), len(case.note.split()), len(case.summary)] for case in cases], float)
    images = []
    for done, case in enumerate(cases, 1):
        images.append(asymmetry(case))
        if progress is not None:
            progress(done, len(cases))
    asymmetries = np.array(images)
    everybody = np.ones(len(cases), bool)
    plans = [
        ("side", "case id and order", names, everybody, True),
        ("side", "centre", centres, everybody, True),
        ("side", "size of the CT's file", sizes, everybody, True),
        ("side", "length of the note", lengths, everybody, True),
        ("side", "CT, nothing to be seen", asymmetries, hidden, True),
        ("side", "CT, all patients", asymmetries, everybody, False),
        ("volume", "case id and order", names, everybody, True),
        ("volume", "centre", centres, everybody, False),
        ("nodes", "case id and order", names, everybody, True),
        ("nodes", "centre", centres, everybody, False),
    ]
    return [
        _check(answer, hint, values[chosen], [case for case, use in zip(cases, chosen, strict=True) if use],
               bodies[chosen], must_fail)
        for answer, hint, values, chosen, must_fail in plans
        if chosen.sum() >= 4 * FOLDS
    ]  # fmt: skip


def asymmetry(case: Case) -> np.ndarray:
    """Differences between the patient's right and left on a coarse grid, float64 (n,)."""
    array = to_canonical(read_ct(case.image)).array.clip(-1000, 500)
    edges = [np.linspace(0, size, count + 1).astype(int) for size, count in zip(array.shape, BLOCKS, strict=True)]
    for axis, edge in enumerate(edges):
        array = np.add.reduceat(array, edge[:-1], axis=axis) / np.diff(edge).reshape(
            [-1 if i == axis else 1 for i in range(3)]
        )
    half = BLOCKS[0] // 2
    difference: np.ndarray = array[half:] - array[:half][::-1]
    return difference.ravel().astype(np.float64)


def _name_hints(case: Case, place: int) -> list[int]:
    """Running number and place in the list, their remainders (a forest does not find parity), and a hash of the id."""
    found = re.search(r"(\d+)$", case.case_id)
    number = int(found[1]) if found else 0
    remainders = [value % base for value in (number, place) for base in (2, 3, 4, 5)]
    return [number, place, *remainders, derive_seed(case.case_id) % 1000]


def _check(
    answer: str, hint: str, values: np.ndarray, cases: Sequence[Case], bodies: np.ndarray, must_fail: bool
) -> Check:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GroupKFold, cross_val_score

    truth = np.array([ANSWERS[answer](case) for case in cases])
    rng = np.random.default_rng(derive_seed("leakage", answer, hint))

    def accuracy(labels: np.ndarray) -> float:
        forest = RandomForestClassifier(TREES, min_samples_leaf=3, random_state=0)
        return float(cross_val_score(forest, values, labels, groups=bodies, cv=GroupKFold(FOLDS)).mean())

    found = accuracy(truth)
    shuffled = [accuracy(rng.permutation(truth)) for _ in range(SHUFFLES)]
    p = (1 + sum(value >= found for value in shuffled)) / (1 + SHUFFLES)
    return Check(answer, hint, len(cases), found, float(np.mean(shuffled)), float(np.std(shuffled)), p, must_fail)
