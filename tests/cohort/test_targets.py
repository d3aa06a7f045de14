"""Targets: on the plan's side, in the plan's parts, between the borders that each guideline names."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from rollama.cohort.anatomy import MINOR_MM, WALL_MM, Anatomy, behind_minor, lift
from rollama.cohort.body import SIGN
from rollama.cohort.facts import Mound, Site, Visible
from rollama.cohort.organs import paint_ct
from rollama.cohort.sdf import Grid
from rollama.cohort.shifts import Scanner
from rollama.cohort.surgery import bed_centre
from rollama.cohort.targets import label_map, part_mask, target_mask
from rollama.core.errors import DataError
from rollama.data.parts import LEVELS, Part, parts_of, region
from rollama.data.plan import Boost, BoostKind, Dose, Guideline, Level, Plan, Side, Surgery, Technique, Volume
from tests.cohort.conftest import GRID, PLAIN

PATIENTS = range(10)
CC = float(np.prod(GRID.spacing)) / 1000
BOOST = Boost(kind=BoostKind.SEQUENTIAL, dose=Dose(gy=10, fractions=5))


def plan(
    volume: Volume | None,
    levels: tuple[Level, ...] = (),
    side: Side = Side.LEFT,
    guideline: Guideline | None = Guideline.ESTRO,
    boost: Boost | None = None,
) -> Plan:
    surgery = Surgery.CONSERVING if volume is Volume.BREAST else Surgery.MASTECTOMY
    if volume is None:
        return Plan(side=side, surgery=surgery, volume=None, dose=None, technique=None, guideline=guideline)
    return Plan(
        side=side, surgery=surgery, volume=volume, levels=levels, dose=Dose(gy=50, fractions=25),
        technique=Technique.VMAT, guideline=guideline, boost=boost,
    )  # fmt: skip


def test_no_target_is_an_empty_mask(make_anatomy: Callable[..., Anatomy]) -> None:
    body = make_anatomy()
    for mask in (target_mask(body, plan(None)), label_map(body, plan(None), Site.CENTRAL)):
        assert mask.dtype == np.uint8
        assert mask.shape == GRID.shape
        assert not mask.any()


@pytest.mark.parametrize("number", PATIENTS)
def test_every_part_of_every_patient_is_there_and_on_its_side(
    make_anatomy: Callable[..., Anatomy], number: int
) -> None:
    body = make_anatomy(number)
    for side, guideline, part in itertools.product(Side, Guideline, Part):
        mask = part_mask(body, side, part, guideline, Site.UPPER_OUTER)
        assert mask.dtype == bool
        assert mask.shape == GRID.shape
        assert mask.sum() >= 8, (side, guideline, part)
        assert (SIGN[side] * body.x.ravel()[np.argwhere(mask)[:, 0]] > 0).all()
        assert body.skin[mask].min() > 0


@pytest.mark.parametrize("volume", Volume)
def test_targets_have_a_clinical_size(make_anatomy: Callable[..., Anatomy], volume: Volume) -> None:
    low, high = {Volume.BREAST: (80, 1600), Volume.CHEST_WALL: (80, 1000)}[volume]
    sizes = [target_mask(make_anatomy(number), plan(volume)).sum() * CC for number in PATIENTS]
    assert low < min(sizes)
    assert max(sizes) < high
    assert max(sizes) > 1.3 * min(sizes)


@pytest.mark.parametrize("left", Mound)
def test_any_plan_has_a_target_on_any_anatomy(make_anatomy: Callable[..., Anatomy], left: Mound) -> None:
    mounds = {Side.LEFT: left, Side.RIGHT: Mound.FLAT}
    body = make_anatomy(2, replace(PLAIN, mounds=mounds))
    hu = paint_ct(body, Scanner(metal=False))
    for volume, side in itertools.product(Volume, Side):
        mask = target_mask(body, plan(volume, tuple(Level), side))
        assert mask.sum() * CC > 100
        assert hu[mask > 0].min() > -950  # no air outside the patient, no lung beyond a voxel's share


@pytest.mark.parametrize("guideline", Guideline)
def test_breast_keeps_its_distance_from_skin_and_muscle(
    make_anatomy: Callable[..., Anatomy], guideline: Guideline
) -> None:
    body = make_anatomy(4)
    for side in Side:
        mask = part_mask(body, side, Part.BREAST, guideline)
        least = 5 if guideline is Guideline.ESTRO else 3
        assert least < body.skin[mask].min() < least + 2
        assert body.pectoral[mask].min() > 0
        assert (body.cage - lift(body.u, body.z))[mask].min() > body.shape.pectoral


def test_rtog_s_breast_is_wider_than_estro_s(make_anatomy: Callable[..., Anatomy]) -> None:
    body = make_anatomy(4)
    estro, rtog = (part_mask(body, Side.LEFT, Part.BREAST, guideline) for guideline in Guideline)
    assert (rtog >= estro).all()
    assert rtog.sum() > 1.15 * estro.sum()


def test_rtog_s_chest_wall_includes_the_ribs_and_estro_s_does_not(make_anatomy: Callable[..., Anatomy]) -> None:
    body = make_anatomy(4)
    hu = paint_ct(body, Scanner())
    estro, rtog = (part_mask(body, Side.RIGHT, Part.CHEST_WALL, guideline) for guideline in Guideline)
    assert body.cage[estro].min() > 0
    assert -WALL_MM < body.cage[rtog].min() < -WALL_MM + 3
    assert (rtog >= estro).all()
    rib = (hu > 150) & (body.cage < 0) & (body.cage > -WALL_MM)
    assert (rib & rtog).sum() > 30
    assert not (rib & estro).any()
    for mask in (estro, rtog):
        assert (mask & (body.pectoral < 0)).any()
        assert not (mask & (body.minor < 0)).any()


def test_chest_wall_lies_around_an_implant_and_not_in_it(make_anatomy: Callable[..., Anatomy]) -> None:
    mounds = {Side.LEFT: Mound.IMPLANT, Side.RIGHT: Mound.NATURAL}
    body = make_anatomy(3, replace(PLAIN, mounds=mounds))
    mask = part_mask(body, Side.LEFT, Part.CHEST_WALL, Guideline.RTOG)
    assert not (mask & (body.implant[Side.LEFT] < 0)).any()
    natural = part_mask(make_anatomy(3), Side.LEFT, Part.CHEST_WALL, Guideline.RTOG)
    assert mask.sum() < natural.sum()


def test_rtog_s_level_4_reaches_higher_and_further_out_than_estro_s(make_anatomy: Callable[..., Anatomy]) -> None:
    for number in PATIENTS:
        body = make_anatomy(number)
        estro, rtog = (part_mask(body, Side.LEFT, Part.L4, guideline) for guideline in Guideline)
        tops = [body.z.ravel()[np.argwhere(mask)[:, 2]].max() for mask in (estro, rtog)]
        outer = [body.u.ravel()[np.argwhere(mask)[:, 0]].max() for mask in (estro, rtog)]
        assert tops[1] >= tops[0] + 10
        assert outer[1] > outer[0]


def test_estro_s_mammary_nodes_reach_higher_than_rtog_s(make_anatomy: Callable[..., Anatomy]) -> None:
    body = make_anatomy(4, grid=Grid((120, 110, 120), (3.0, 3.0, 2.0)))
    estro, rtog = (part_mask(body, Side.RIGHT, Part.IMN, guideline) for guideline in Guideline)
    assert (estro >= rtog).all()
    assert estro.sum() > rtog.sum()
    assert body.u.ravel()[np.argwhere(estro)[:, 0]].max() < 45  # beside the sternum


@pytest.mark.parametrize("guideline", Guideline)
def test_levels_lie_outside_the_cage_but_the_mammary_nodes(
    make_anatomy: Callable[..., Anatomy], guideline: Guideline
) -> None:
    for number, side in itertools.product((1, 5, 9), Side):
        body = make_anatomy(number)
        for part in LEVELS.values():
            cage = body.cage[part_mask(body, side, part, guideline)]
            assert (cage < 0).all() if part is Part.IMN else (cage >= 0).all(), part


@pytest.mark.parametrize("part", [Part.L1, Part.L2, Part.L3, Part.INTERPECTORAL])
def test_both_guidelines_draw_the_axilla_alike(make_anatomy: Callable[..., Anatomy], part: Part) -> None:
    body = make_anatomy(5)
    estro, rtog = (part_mask(body, Side.LEFT, part, guideline) for guideline in Guideline)
    assert (estro == rtog).all()


def test_levels_follow_one_another_from_the_axilla_to_the_neck(make_anatomy: Callable[..., Anatomy]) -> None:
    for number in PATIENTS:
        body = make_anatomy(number)
        masks = {part: part_mask(body, Side.LEFT, part, Guideline.ESTRO) for part in LEVELS.values()}
        u = {part: body.u.ravel()[np.argwhere(mask)[:, 0]].mean() for part, mask in masks.items()}
        z = {part: body.z.ravel()[np.argwhere(mask)[:, 2]].mean() for part, mask in masks.items()}
        assert u[Part.L1] > u[Part.L2] > u[Part.L3] > u[Part.IMN]
        assert z[Part.L1] < z[Part.L3] < z[Part.L4]
        room = body.cage - behind_minor(body.z)  # level 2 lies behind the minor, the interpectoral nodes before it
        assert room[masks[Part.L2]].max() < 0
        assert room[masks[Part.INTERPECTORAL]].min() > MINOR_MM
        assert body.cage[masks[Part.L2]].mean() + 5 < body.cage[masks[Part.INTERPECTORAL]].mean()


@pytest.mark.parametrize(("number", "guideline"), [*itertools.product((0, 3, 6), Guideline)])
def test_levels_do_not_overlap_and_every_part_keeps_its_voxels_in_the_map(
    make_anatomy: Callable[..., Anatomy], number: int, guideline: Guideline
) -> None:
    body = make_anatomy(number)
    for side, volume in itertools.product(Side, Volume):
        treated = plan(volume, tuple(Level), side, guideline, BOOST if volume is Volume.BREAST else None)
        labels = label_map(body, treated, Site.LOWER_OUTER)
        assert set(np.unique(labels)) == {0, *parts_of(treated)}
        masks = {part: part_mask(body, side, part, guideline, Site.LOWER_OUTER) for part in parts_of(treated)}
        nodes = sum(masks[part].astype(int) for part in LEVELS.values())
        assert np.max(nodes) == 1
        for part in LEVELS.values():
            assert (region(labels, part) == masks[part]).all()
        base = Part.BREAST if volume is Volume.BREAST else Part.CHEST_WALL
        assert (region(labels, base) == (masks[base] & (nodes == 0))).all()
        union = np.any(list(masks.values()), axis=0)
        assert ((labels > 0) == union).all()
        assert (target_mask(body, treated) == union).all()


def test_levels_add_to_the_union(make_anatomy: Callable[..., Anatomy]) -> None:
    body = make_anatomy(5)
    small = target_mask(body, plan(Volume.BREAST, (Level.L3, Level.L4)))
    large = target_mask(body, plan(Volume.BREAST, tuple(Level)))
    assert (large >= small).all()
    assert large.sum() > small.sum() + 60


@pytest.mark.parametrize("volume", Volume)
def test_a_target_is_one_piece(make_anatomy: Callable[..., Anatomy], volume: Volume) -> None:
    for number, guideline in itertools.product(PATIENTS, Guideline):
        mask = target_mask(make_anatomy(number), plan(volume, guideline=guideline))
        pieces, _ = ndimage.label(mask, np.ones((3, 3, 3)))
        sizes = np.sort(np.bincount(pieces.ravel())[1:])
        assert sizes[-1] > 0.98 * sizes.sum(), (number, guideline)


@pytest.mark.parametrize("site", Site)
def test_a_boost_lies_in_the_breast_at_its_site_and_does_not_change_the_union(
    make_anatomy: Callable[..., Anatomy], site: Site
) -> None:
    body = make_anatomy(7)
    without, boosted = plan(Volume.BREAST), plan(Volume.BREAST, boost=BOOST)
    labels = label_map(body, boosted, site)
    assert ((labels > 0) == (label_map(body, without) > 0)).all()
    assert (target_mask(body, boosted) == target_mask(body, without)).all()
    boost = region(labels, Part.BOOST)
    assert boost.sum() > 20
    assert not (boost & ~part_mask(body, Side.LEFT, Part.BREAST, Guideline.ESTRO)).any()
    centre = bed_centre(body, Side.LEFT, body.shape.beds[Side.LEFT][site])
    far = (body.x - centre[0]) ** 2 + (body.y - centre[1]) ** 2 + (body.z - centre[2]) ** 2
    assert np.sqrt(far[boost].max()) < body.shape.beds[Side.LEFT][site].radius + 12


def test_a_boost_without_a_site_is_refused(make_anatomy: Callable[..., Anatomy]) -> None:
    body = make_anatomy(7)
    with pytest.raises(DataError, match="boost: the tumour's site is not known"):
        part_mask(body, Side.LEFT, Part.BOOST, Guideline.ESTRO)
    with pytest.raises(DataError, match="site is not known"):
        label_map(body, plan(Volume.BREAST, boost=BOOST))


def test_without_a_guideline_estro_s_borders_hold(make_anatomy: Callable[..., Anatomy]) -> None:
    body = make_anatomy(8)
    found = {
        guideline: target_mask(body, plan(Volume.CHEST_WALL, tuple(Level), guideline=guideline))
        for guideline in (None, *Guideline)
    }
    assert (found[None] == found[Guideline.ESTRO]).all()
    assert (found[None] != found[Guideline.RTOG]).any()


def test_the_target_follows_the_plan_and_not_what_can_be_seen(make_anatomy: Callable[..., Anatomy]) -> None:
    """The same body with clips in the other breast has the same target."""
    clips = {Side.LEFT: None, Side.RIGHT: Site.CENTRAL}
    marked = make_anatomy(8, Visible(mounds=PLAIN.mounds, clips=clips, seroma=clips))
    treated = plan(Volume.BREAST, (Level.L3, Level.L4))
    assert (label_map(marked, treated) == label_map(make_anatomy(8), treated)).all()
