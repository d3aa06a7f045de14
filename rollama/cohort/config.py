"""How large the synthetic cohort is and which seed it grows from.

A cohort that changes when one asks for ten more cases cannot be compared with last week's. Counts therefore only
say how many cases are written; what a case is depends on the seed, its centre and its own name.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from rollama.cohort.shifts import CENTRES
from rollama.core.config import StrictModel
from rollama.data.case import Split

Count = Annotated[int, Field(ge=0, le=100_000)]

TRAINING_CENTRES = tuple(name for name, profile in CENTRES.items() if not profile.external)
EXTERNAL_CENTRES = tuple(name for name, profile in CENTRES.items() if profile.external)


class CohortConfig(StrictModel):
    """Size, grid and seed of a cohort.

    `train`, `validation` and `test` count cases of each training centre; `external` counts cases of each unseen
    centre. `grid` is the number of voxels (x, y, z) and `spacing` their size in mm at the training centres; the
    unseen centre covers the same field with its own voxel size.
    """

    name: str = Field(default="rollama-synthetic-breast", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    version: str = "1"
    seed: int = Field(default=2311, ge=0)
    train: Count = 200
    validation: Count = 20
    test: Count = 30
    external: Count = 60
    grid: tuple[int, int, int] = (80, 64, 48)
    spacing: tuple[float, float, float] = (6.0, 6.0, 6.0)
    twin_fraction: float = Field(default=0.3, ge=0, le=0.9)

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if min(self.grid) < 8 or max(self.grid) > 512:
            raise ValueError(f"grid must have 8 to 512 voxels along each axis, found {self.grid}")
        if min(self.spacing) < 1 or max(self.spacing) > 20:
            raise ValueError(f"spacing must be 1 to 20 mm along each axis, found {self.spacing}")
        if self.train + self.validation + self.test + self.external == 0:
            raise ValueError("at least one of train, validation, test and external must be above 0")
        return self

    @property
    def cases(self) -> int:
        """Number of cases over all centres."""
        return sum(sum(self.counts(name).values()) for name in CENTRES)

    def counts(self, centre: str) -> dict[Split, int]:
        """Cases a split at one centre."""
        if centre in EXTERNAL_CENTRES:
            return {Split.EXTERNAL: self.external}
        return {Split.TRAIN: self.train, Split.VALIDATION: self.validation, Split.TEST: self.test}
