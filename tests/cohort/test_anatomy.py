"""The body fits its field, has a real body's measures, and is the same on any grid and in any slabs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from rollama.cohort.anatomy import Anatomy, front, landmarks, lift, rib_cage, rib_distance
from rollama.cohort.body import SIGN, Shape
from rollama.cohort.facts import Mound, Site, Visible
from rollama.cohort.organs import paint_ct
from rollama.cohort.sdf import Grid
from rollama.cohort.shifts import CENTRES
from rollama.cohort.targets import label_map
from rollama.data.plan import Boost, BoostKind, Dose, Guideline, Level, Plan, Side, Surgery, Technique, Volume
from tests.cohort.conftest import GRID, PLAIN


def looks(left: Mound, right: Mound = Mound.NATURAL) -> Visible:
    return replace(PLAIN, mounds={Side.LEFT: left, Side.RIGHT: right})


def bulge(body: Anatomy, side: Side) -> float:
    """Volume in cc that stands out before the chest on one side, below the shoulders."""
    out = (SIGN[side] * body.x > 0) & (body.skin > 0) & (body.cage > 32) & (body.y > 20) & (body.z < 20)
    return float(out.sum() * np.prod(body.grid.spacing) / 1000)


def test_twelve_patients_fit_the_grid(make_anatomy: Callable[..., Anatomy]) -> None:
    for number in range(12):
        body = make_anatomy(number)
        solid = body.skin > 0
        chest = solid[:, :, body.z.ravel() < 60]  # raised arms may reach the edge, as on a scanner
        assert not solid[:, 0].any()
        assert not solid[:, -1].any()
        assert not chest[[0, -1]].any()
        assert chest.any(axis=(0, 1)).all()


def test_patients_differ(make_anatomy: Callable[..., Anatomy]) -> None:
    volumes = [bulge(make_anatomy(number), Side.LEFT) for number in range(12)]
    assert max(volumes) > 1.5 * min(volumes)


def test_the_rib_cage_is_flat_in_front_wide_in_the_middle_and_closed_above() -> None:
    assert front(0.0, 0.0) == pytest.approx(front(30.0, 0.0), abs=10)
    assert front(0.0, 0.0) > front(90.0, 0.0)
    zero, z = np.zeros(4, np.float32), np.array([-120, 0, 60, 120], np.float32)
    depth = rib_cage(zero + 110, zero - 10, z)
    assert depth[0] < 0 < depth[2]
    assert (rib_cage(zero, zero, z) < 0).tolist() == [True, True, True, False]


def test_ribs_come_every_two_centimetres_and_slope_down_to_the_front() -> None:
    y, z = np.zeros(1200, np.float32), np.linspace(-150, 80, 1200, dtype=np.float32)
    on_rib = z[np.flatnonzero(np.diff(np.sign(np.diff(rib_distance(y, z)))) > 0) + 1]
    assert len(on_rib) == 12
    assert np.allclose(np.diff(on_rib), 20.4, atol=0.5)
    assert rib_distance(np.array([50.0]), np.array([75.2 - 15.0])) == pytest.approx(0, abs=0.1)


def test_the_pectoral_stands_off_the_cage_only_where_the_minor_lies_behind_it() -> None:
    u, z = np.array([10.0, 90.0, 90.0]), np.array([40.0, -40.0, 40.0])
    near_sternum, below, axilla = lift(u, z)
    assert near_sternum < 3
    assert below < 2
    assert axilla > 15


@pytest.mark.parametrize("side", Side)
def test_a_removed_breast_is_missing_and_the_other_one_is_not(make_anatomy: Callable[..., Anatomy], side: Side) -> None:
    both = make_anatomy(1)
    other = Side.LEFT if side is Side.RIGHT else Side.RIGHT
    one = make_anatomy(1, replace(PLAIN, mounds={side: Mound.FLAT, other: Mound.NATURAL}))
    lost = (both.skin > 0) & (one.skin <= 0)
    assert lost.sum() * np.prod(GRID.spacing) / 1000 > 100
    assert (lost <= ((SIGN[side] * one.x > 0) & (one.y > 20) & (one.z < 30))).all()
    assert not ((both.skin <= 0) & (one.skin > 0)).any()
    assert bulge(one, other) == bulge(both, other)


@pytest.mark.parametrize("mound", [Mound.IMPLANT, Mound.EXPANDER])
def test_a_reconstructed_breast_has_its_own_mound(make_anatomy: Callable[..., Anatomy], mound: Mound) -> None:
    flat, rebuilt = make_anatomy(1, looks(Mound.FLAT)), make_anatomy(1, looks(mound))
    assert bulge(rebuilt, Side.LEFT) > bulge(flat, Side.LEFT) + 60
    assert list(rebuilt.implant) == [Side.LEFT]
    within = rebuilt.implant[Side.LEFT] < 0
    assert within.sum() > 100
    assert rebuilt.skin[within].min() > 0
    assert (rebuilt.cage[within] > 0).mean() > 0.9
    assert not flat.implant


def test_the_fields_are_the_same_in_any_voxel_size(make_anatomy: Callable[..., Anatomy]) -> None:
    coarse, fine = make_anatomy(3), make_anatomy(3, grid=Grid((160, 128, 96), (3.125, 3.125, 3.0)))
    for name in ("skin", "cage", "pectoral"):
        few, many = ((getattr(body, name) > 0).sum() for body in (coarse, fine))
        assert many / 8 == pytest.approx(few, rel=0.02), name


def test_a_build_in_slabs_equals_the_whole_bit_for_bit(make_shape: Callable[..., Shape]) -> None:
    marks = {Side.LEFT: Site.UPPER_OUTER, Side.RIGHT: Site.CENTRAL}
    seen = Visible(
        mounds={Side.LEFT: Mound.NATURAL, Side.RIGHT: Mound.EXPANDER},
        clips=marks,
        seroma={Side.LEFT: Site.UPPER_OUTER, Side.RIGHT: None},
    )
    shape, scanner = make_shape(2, seen), CENTRES["riverside"].scanner
    plan = Plan(
        side=Side.LEFT, surgery=Surgery.CONSERVING, volume=Volume.BREAST, levels=tuple(Level),
        boost=Boost(kind=BoostKind.SEQUENTIAL, dose=Dose(gy=10, fractions=5)), dose=Dose(gy=50, fractions=25),
        technique=Technique.VMAT, guideline=Guideline.RTOG,
    )  # fmt: skip
    whole = landmarks(shape, GRID)
    hu, labels = paint_ct(whole, scanner), label_map(whole, plan, Site.UPPER_OUTER)
    assert len(np.unique(labels)) > 7
    for step in (1, 7, 20):
        for start in range(0, GRID.shape[2], step):
            stop = min(start + step, GRID.shape[2])
            if step == 1 and start % 6:
                continue
            slab = landmarks(shape, GRID, start, stop)
            assert (paint_ct(slab, scanner) == hu[:, :, start:stop]).all()
            assert (label_map(slab, plan, Site.UPPER_OUTER) == labels[:, :, start:stop]).all()


@dataclass(frozen=True)
class Measures:
    """One patient's volumes in cc and lengths in mm."""

    lung: float
    breast: float
    heart: float
    width: float
    depth: float


@pytest.fixture(scope="module")
def measures(make_shape: Callable[..., Shape]) -> list[Measures]:
    grid = Grid((125, 100, 58), (4.0, 4.0, 5.0))
    cc = float(np.prod(grid.spacing)) / 1000
    found = []
    for number in range(100, 120):
        shape = make_shape(number)
        body = landmarks(shape, grid)
        hu = paint_ct(body, CENTRES["northgate"].scanner)
        before = (body.cage > lift(body.u, body.z) + shape.pectoral) & (body.pectoral > 0) & (body.skin > 0)
        solid = body.skin > 0
        found.append(
            Measures(
                lung=float(((hu < -500) & (body.cage < -9)).sum() * cc),
                breast=float(np.mean([(before & (body.breast[side] < 0)).sum() * cc for side in Side])),
                heart=4 / 3 * math.pi * 59 * 44 * 40.5 * shape.heart**3 * math.prod(shape.scale) / 1000,
                width=float(solid.any(axis=(1, 2)).sum() * grid.spacing[0]),
                depth=float(solid.any(axis=(0, 2)).sum() * grid.spacing[1]),
            )
        )
    return found


@pytest.mark.parametrize(
    ("name", "expected", "within"),
    [("lung", 2024, 0.12), ("breast", 400, 0.15), ("heart", 440, 0.12), ("width", 474, 0.05), ("depth", 310, 0.09)],
)
def test_the_mean_patient_has_a_real_patient_s_measures(
    measures: list[Measures], name: str, expected: float, within: float
) -> None:
    values = [getattr(patient, name) for patient in measures]
    assert np.mean(values) == pytest.approx(expected, rel=within)
    assert np.std(values) > 0.02 * expected  # and patients differ
