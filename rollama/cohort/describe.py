"""What is in a dataset, in one row a centre and split: the first thing to read before training on it.

Works on any opened dataset, not only on a synthetic one; nothing of a note's text enters the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rollama.core.errors import DataError
from rollama.data.case import Case, Split
from rollama.data.dataset import Dataset
from rollama.data.plan import Level, Side, Surgery


def describe_cohort(dataset: Dataset) -> list[dict[str, str]]:
    """One row a centre and split, and a last row for all; every row has the same keys.

    Shares are in percent of the cases whose plan parses; volumes are quartiles over non-empty targets in cm3.

    Raises:
        DataError: a target cannot be read.
    """
    rows = [
        {"centre": centre, "split": str(split)} | _row(cases)
        for centre in dataset.info.centres
        for split in Split
        if (cases := dataset.select(split, centre=centre))
    ]
    return [*rows, {"centre": "all", "split": "all"} | _row(dataset.cases)]


def plan_frequencies(cases: Sequence[Case]) -> list[tuple[str, int]]:
    """Plan texts and how often they occur, most frequent first (ties by text)."""
    return sorted(Counter(case.plan_text for case in cases).items(), key=lambda item: (-item[1], item[0]))


def target_volumes(cases: Sequence[Case]) -> np.ndarray:
    """Target volume of each case in cm3, float64 (N,).

    Raises:
        DataError: a target cannot be read.
    """
    return np.array([_volume(case.target) for case in cases], dtype=float)


def _volume(path: Path) -> float:
    import nibabel

    try:
        mask: Any = nibabel.load(path)
        voxels = int(np.count_nonzero(np.asarray(mask.dataobj)))
    except Exception as error:  # nibabel raises its own, zlib's and OS errors for damaged files
        raise DataError(f"{path}: not a readable NIfTI file ({type(error).__name__})") from error
    return voxels * float(abs(np.linalg.det(mask.affine[:3, :3]))) / 1000.0


def _row(cases: Sequence[Case]) -> dict[str, str]:
    plans = [case.plan for case in cases if case.plan is not None]

    def share(count: int) -> str:
        return f"{100 * count / len(plans):.0f}" if plans else "-"

    frequencies = plan_frequencies(cases)
    words = np.array([len(case.note.split()) for case in cases])
    volumes = target_volumes(cases)
    filled = volumes[volumes > 0]
    quartiles = "-" if not filled.size else "/".join(f"{q:.0f}" for q in np.percentile(filled, [25, 50, 75]))
    return {
        "cases": str(len(cases)),
        "left %": share(sum(plan.side is Side.LEFT for plan in plans)),
        "mast. %": share(sum(plan.surgery is Surgery.MASTECTOMY for plan in plans)),
        "nodes %": share(sum(bool(plan.levels) for plan in plans)),
        "IMN %": share(sum(Level.IMN in plan.levels for plan in plans)),
        "boost %": share(sum(plan.boost is not None for plan in plans)),
        "no target %": share(sum(not plan.has_target for plan in plans)),
        "plans": str(len(frequencies)),
        "commonest %": f"{100 * frequencies[0][1] / len(cases):.0f}",
        "note words": f"{words.min()}-{np.median(words):.0f}-{words.max()}",
        "target cc": quartiles,
        "empty masks": str(int((volumes == 0).sum())),
    }
