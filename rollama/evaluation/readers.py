"""How far apart experts are: the ceiling beside which a model's Dice has to be read.

A Dice of 0.85 is poor where two experts reach 0.95 and as good as can be measured where they reach 0.84. A synthetic
case may carry three simulated readers who drew the same target, each with errors of his own, as one label map
(`rollama.data.parts.readers_path`; the bits 1, 2 and 4 of a voxel say which reader drew it). Two figures come of it:

* reader against reference: what a perfect imitator of one reader would score;
* reader against reader: as in studies of real contours, where nobody has a reference. It owes nothing to how the
  reference was made, and is the lower of the two when the reference lies between the readers.

Each is a mean within the case first and over the cases then, so that a case counts once. Both empty is not defined
and left out, as in `rollama.evaluation.masks`; a reader who drew nothing where there is a target scores 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rollama.core.errors import DataError
from rollama.data.case import Case
from rollama.data.parts import read_labels, readers_path
from rollama.data.volumes import Volume, read_ct, read_mask
from rollama.evaluation.masks import compare_masks, dice
from rollama.evaluation.run import Progress, Record
from rollama.evaluation.tables import make_tables

TASK, SYSTEM = "readers", "simulated readers"
BITS = (1, 2, 4)
"""The bit of each reader in the label map."""
METRICS = (
    *(f"dice_reader{number}" for number, _ in enumerate(BITS, 1)),
    "dice_reference",
    "dice_pairs",
    "hd95_reference_mm",
)


@dataclass(frozen=True)
class Ceiling:
    """What the readers reach.

    Attributes:
        records: one a case that has a reader file, with the keys of `METRICS`: Dice of each reader against the
            reference, their mean, the mean Dice of the pairs of readers, the mean HD95 (mm) against the reference.
        tables: rows as `rollama.evaluation.tables.make_tables` gives them: a split, pooled and by centre, each figure
            with its interval and n.
        without: number of cases that have no reader file.
    """

    records: tuple[Record, ...]
    tables: list[dict[str, Any]]
    without: int


def read_readers(case: Case, ct: Volume) -> list[np.ndarray]:
    """The mask of each reader, bool (x, y, z) on the CT's grid; an empty list when the case has no reader file.

    Raises:
        DataError: the label map is damaged, lies on another grid or has values above 7.
    """
    path = readers_path(case)
    if not path.is_file():
        return []
    labels = read_labels(path, ct)
    if labels.max() > sum(BITS):
        raise DataError(f"{path}: value {labels.max()} names no reader; accepted: 0 to {sum(BITS)}")
    return [(labels & bit) != 0 for bit in BITS]


def reader_ceiling(cases: Sequence[Case], progress: Progress | None = None) -> Ceiling:
    """Compare the readers of each case with the reference target and with each other.

    Args:
        cases: the cases that the model is scored on; those without a reader file are counted and left out.
        progress: called with (cases done, cases in all).

    Raises:
        DataError: a CT, target or reader file cannot be used.
    """
    records = []
    for done, case in enumerate(cases, 1):
        if readers_path(case).is_file():
            records.append(_compare(case))
        if progress:
            progress(done, len(cases))
    return Ceiling(tuple(records), make_tables(records), len(cases) - len(records))


def _compare(case: Case) -> Record:
    ct = read_ct(case.image)
    reference = read_mask(case.target, ct)
    readers = read_readers(case, ct)
    against = [compare_masks(reference, reader, ct.affine) for reader in readers]
    metrics = {f"dice_reader{number}": found["dice"] for number, found in enumerate(against, 1)}
    metrics["dice_reference"] = _mean([found["dice"] for found in against])
    metrics["dice_pairs"] = _mean([dice(a, b) for a, b in itertools.combinations(readers, 2)])
    metrics["hd95_reference_mm"] = _mean([found["hd95_mm"] for found in against])
    return Record(case.case_id, case.centre, case.split, TASK, SYSTEM, "reference", metrics)


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
