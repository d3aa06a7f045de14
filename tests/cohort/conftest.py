"""A plain patient, bodies and a small cohort for the cohort's tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rollama.cohort.anatomy import Anatomy, landmarks
from rollama.cohort.body import Shape, draw_shape
from rollama.cohort.config import CohortConfig
from rollama.cohort.facts import Axilla, Chemo, Contralateral, Facts, Histology, Mound, Reconstruction, Site, Visible
from rollama.cohort.make import make_cohort
from rollama.cohort.sdf import Grid
from rollama.core.seeding import numpy_generator
from rollama.data.dataset import Dataset, open_dataset
from rollama.data.plan import Guideline, Side, Surgery

GRID = Grid((80, 64, 48), (6.25, 6.25, 6.0))
NOTHING = {Side.LEFT: None, Side.RIGHT: None}
PLAIN = Visible(mounds={Side.LEFT: Mound.NATURAL, Side.RIGHT: Mound.NATURAL}, clips=NOTHING, seroma=NOTHING)
"""Both breasts and no trace of surgery."""


@pytest.fixture
def base() -> Facts:
    """Left breast conservation, 62 years, pT1 pN0, no risk factor, ESTRO, nothing to be seen on CT."""
    return Facts(
    age=62, side=Side.LEFT, site=Site.UPPER_OUTER, histology=Histology.DUCTAL, grade=2, size_mm=18, t_clinical=1,
    t_pathological=1, nodes_positive=0, nodes_examined=12, axilla=Axilla.SENTINEL, surgery=Surgery.CONSERVING,
    planned_surgery=Surgery.CONSERVING, margin_mm=5, er_positive=True, her2_positive=False, chemo=Chemo.NONE,
    reconstruction=Reconstruction.NONE, protocol=Guideline.ESTRO, imaging_size_mm=18, imaging_nodes=False, clips=False,
    seroma=False, contralateral=Contralateral.NONE, contralateral_years=5, contralateral_site=Site.CENTRAL,
    contralateral_clips=False, contralateral_implant=False,
)  # fmt: skip


@pytest.fixture(scope="session")
def make_shape() -> Callable[..., Shape]:
    """Draw the body of a numbered patient."""

    def make(number: int = 0, visible: Visible = PLAIN) -> Shape:
        return draw_shape(numpy_generator("shape", number), visible)

    return make


@pytest.fixture(scope="session")
def make_anatomy(make_shape: Callable[..., Shape]) -> Callable[..., Anatomy]:
    """Build the fields of a numbered patient's body."""

    def make(number: int = 0, visible: Visible = PLAIN, grid: Grid = GRID) -> Anatomy:
        return landmarks(make_shape(number, visible), grid)

    return make


@pytest.fixture(scope="session")
def xs(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The smallest named cohort, opened; not to be changed."""
    root = tmp_path_factory.mktemp("cohort") / "xs"
    info = make_cohort(root, CohortConfig(size="xs"))
    opened = open_dataset(root)
    assert opened.info == info
    return opened
