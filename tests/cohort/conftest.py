"""A plain patient and phantoms for the cohort's tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from rollama.cohort.anatomy import Anatomy, Grid, build_anatomy, draw_shape
from rollama.cohort.facts import Axilla, Chemo, Contralateral, Facts, Histology, Site
from rollama.cohort.shifts import CENTRES
from rollama.core.seeding import numpy_generator
from rollama.data.plan import Side, Surgery

GRID = Grid((80, 64, 48), (6.0, 6.0, 6.0))
BOTH = {Side.LEFT: True, Side.RIGHT: True}


@pytest.fixture
def base() -> Facts:
    """Left breast conservation, 62 years, pT1 pN0, no risk factor."""
    return Facts(
    age=62, side=Side.LEFT, site=Site.UPPER_OUTER, histology=Histology.DUCTAL, grade=2, size_mm=18, t_clinical=1,
    t_pathological=1, nodes_positive=0, nodes_examined=12, axilla=Axilla.SENTINEL, surgery=Surgery.CONSERVING,
    planned_surgery=Surgery.CONSERVING, margin_mm=5, er_positive=True, her2_positive=False, chemo=Chemo.NONE,
    reconstruction=False, contralateral=Contralateral.NONE, contralateral_years=5,
)  # fmt: skip


@pytest.fixture(scope="session")
def make_anatomy() -> Callable[..., Anatomy]:
    """Build the phantom of a numbered patient."""

    def make(number: int = 0, mounds: Mapping[Side, bool] = BOTH, grid: Grid = GRID) -> Anatomy:
        shape = draw_shape(numpy_generator("shape", number), mounds)
        return build_anatomy(shape, grid, CENTRES["northgate"].scanner, numpy_generator("texture", number))

    return make
