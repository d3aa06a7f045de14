"""How large the synthetic cohort is and which seed it grows from.

A cohort that changes when one asks for ten more cases cannot be compared with last week's. Counts therefore only
say how many cases are written; what a case is depends on the seed, its centre and its own name.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from rollama.cohort.shifts import CENTRES
from rollama.core.config import StrictModel
from rollama.core.registry import CohortSize, Site
from rollama.data.case import Split

Count = Annotated[int, Field(ge=0, le=100_000)]

TRAINING_CENTRES = tuple(name for name, profile in CENTRES.items() if not profile.external)
EXTERNAL_CENTRES = tuple(name for name, profile in CENTRES.items() if profile.external)
FIELD_MM = (440.0, 330.0, 250.0)
"""The least field that holds every target of every patient, along x, y and z."""
VARIANTS = 3
"""Other notes and plans for each CT of the counterfactual split."""

SIZES: dict[str, dict[str, Any]] = {
    "xs": {
        "train": 6, "validation": 2, "test": 2, "external": 3, "combination": 1, "counterfactual": 1,
        "grid": (40, 32, 24), "spacing": (12.5, 12.5, 12.0),
    },
    "s": {"train": 75, "validation": 6, "test": 4, "external": 16, "combination": 3, "counterfactual": 5},
    "m": {"train": 150, "validation": 15, "test": 24, "external": 60, "combination": 10, "counterfactual": 20},
    "full": {
        "train": 150, "validation": 15, "test": 24, "external": 60, "combination": 10, "counterfactual": 20,
        "grid": (512, 512, 96), "spacing": (0.9765625, 0.9765625, 3.0),
    },
}  # fmt: skip
"""Named sizes: tests, demo, study, and the study at clinical resolution (slices of 2 to 5 mm by centre)."""


class CohortConfig(StrictModel):
    """Size, grid and seed of a cohort.

    `train`, `validation`, `test` and `combination` count cases of each training centre; `external` counts cases of
    each unseen centre and `counterfactual` those among them (at most all) whose CT gets other notes and plans as well.
    `grid` is the number of voxels (x, y, z) and `spacing` their size in mm; scanners deviate from it (see `shifts`).
    `size` fills in what is not given. `rules` is the breast's decision table: "standard" or a .yaml file. `site`
    prostate is a small second site with plans in free text.
    """

    site: Site = Site.BREAST
    name: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]*)?$")
    version: str = "2"
    size: CohortSize | None = None
    seed: int = Field(default=2311, ge=0)
    train: Count = 150
    validation: Count = 15
    test: Count = 24
    external: Count = 60
    combination: Count = 0
    counterfactual: Count = 0
    grid: tuple[int, int, int] = (80, 64, 48)
    spacing: tuple[float, float, float] = (6.25, 6.25, 6.0)
    twin_fraction: float = Field(default=0.3, ge=0, le=0.9)
    rules: str = "standard"

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        site = values.get("site", "breast")
        small = {"combination": 0} if site == "prostate" else {}
        named = SIZES.get(str(values.get("size")), {})
        return {"name": f"rollama-synthetic-{site}", **named, **small, **values}

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if min(self.grid) < 8 or max(self.grid) > 1024:
            raise ValueError(f"grid must have 8 to 1024 voxels along each axis, found {self.grid}")
        if min(self.spacing) < 0.5 or max(self.spacing) > 20:
            raise ValueError(f"spacing must be 0.5 to 20 mm along each axis, found {self.spacing}")
        field = [n * step for n, step in zip(self.grid, self.spacing, strict=True)]
        if any(have < need for have, need in zip(field, FIELD_MM, strict=True)):
            shown, least = (" x ".join(f"{mm:g}" for mm in sizes) for sizes in (field, FIELD_MM))
            raise ValueError(f"grid times spacing is a field of {shown} mm; targets need at least {least} mm (x, y, z)")
        if not self.cases:
            raise ValueError("at least one of train, validation, test, external and combination must be above 0")
        if self.site is Site.PROSTATE and self.combination:
            raise ValueError("the prostate site has no held-out combinations; combination must be 0")
        return self

    @property
    def cases(self) -> int:
        """Number of cases over all centres."""
        return sum(sum(self.counts(name).values()) for name in CENTRES)

    def counts(self, centre: str) -> dict[Split, int]:
        """Cases a split at one centre."""
        if centre in EXTERNAL_CENTRES:
            return {
                Split.EXTERNAL: self.external,
                Split.COUNTERFACTUAL: min(self.counterfactual, self.external) * VARIANTS,
            }
        return {
            Split.TRAIN: self.train,
            Split.VALIDATION: self.validation,
            Split.TEST: self.test,
            Split.COMBINATION: self.combination,
        }
