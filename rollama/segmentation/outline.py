"""What a segmentation returns; apart from `predict`, so that whoever receives it need not load torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Outline(NamedTuple):
    """A target and how far to trust it.

    `mask` uint8 (x,y,z) on the CT's own grid. `unusual`: distance of CT and plan from the training cases (see
    `normality`), above 1 a reason to look twice; NaN when not known. `refused`: why the text was not taken for a plan
    (see `readable`); the mask is then empty. `probability`: calibrated, uint8 (x,y,z) on the same grid in half percents
    (`data.volumes.STEPS_OF_ONE`), where it was asked for.
    """

    mask: npt.NDArray[np.uint8]
    unusual: float = float("nan")
    refused: str = ""
    probability: npt.NDArray[np.uint8] | None = None
