"""Which cases a training sees when the data set has several centres.

One place decides it for text and segmentation, for training and validation cases: a centre that is left out must not
choose the epoch, the threshold or the calibration either. Few-shot choices are nested (the one case is among the three,
those among the ten), so that a curve over their number compares like with like.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from rollama.core.errors import ConfigError, DataError
from rollama.core.seeding import derive_seed
from rollama.data.case import Split, TextCase
from rollama.data.dataset import Opened
from rollama.training.config import CentresSection

Kind = TypeVar("Kind", bound=TextCase)


def restricted(data: Opened[Kind], centres: CentresSection, seed: int) -> Opened[Kind]:
    """The data set with only the training and validation cases that `centres` allows; other splits are as they are.

    Args:
        data: an opened data set.
        centres: the choice.
        seed: decides which cases a few-shot training gets.

    Raises:
        ConfigError: a centre is named that the data set does not have.
        DataError: no training case is left.
    """
    weighted = () if centres.weights == "equal" else tuple(centres.weights)
    for key, names in (("only", centres.only), ("leave_out", centres.leave_out), ("weights", weighted)):
        if unknown := sorted(set(names) - set(data.info.centres)):
            raise ConfigError(
                f"centres.{key}: no centre {', '.join(unknown)}; there are {', '.join(data.info.centres)}"
            )
    kept: list[Kind] = []
    for split in (Split.TRAIN, Split.VALIDATION):
        for centre in data.info.centres:
            if centre in centres.leave_out or (centres.only and centre not in centres.only):
                continue
            cases = data.select(split, centre=centre)
            if centres.cases:
                cases = tuple(sorted(cases, key=lambda case: derive_seed(seed, "few-shot", case.case_id)))
            kept += cases[: centres.cases or None]
    if not any(case.split is Split.TRAIN for case in kept):
        chosen = f"centres.only={list(centres.only)} and centres.leave_out={list(centres.leave_out)}"
        raise DataError(f"{data.root}: no case in the training split with {chosen}")
    chosen_ids = {case.case_id for case in kept}
    return Opened(
        data.root,
        data.info,
        tuple(
            case
            for case in data.cases
            if case.case_id in chosen_ids or case.split not in (Split.TRAIN, Split.VALIDATION)
        ),
    )


def row_weights(cases: Sequence[TextCase], centres: CentresSection) -> tuple[float, ...]:
    """How often each case is drawn, relative to each other; empty where all are drawn alike."""
    counts = Counter(case.centre for case in cases)
    if centres.weights == "equal":
        return tuple(1.0 / counts[case.centre] for case in cases) if len(set(counts.values())) > 1 else ()
    if not any(centre in counts for centre in centres.weights):
        return ()
    return tuple(centres.weights.get(case.centre, 1.0) for case in cases)


def case_counts(cases: Sequence[TextCase]) -> dict[str, int]:
    """Centre -> number of cases, for an artefact's manifest."""
    return dict(sorted(Counter(case.centre for case in cases).items()))
