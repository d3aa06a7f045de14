"""Traces of surgery show on the side they belong to, old ones like new ones, and nothing else tells the side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from rollama.cohort.anatomy import Anatomy, landmarks
from rollama.cohort.body import SIGN, Shape, draw_shape
from rollama.cohort.facts import Contralateral, Facts, Mound, Reconstruction, Site, Visible
from rollama.cohort.organs import paint_ct
from rollama.cohort.painting import SALINE, SILICONE
from rollama.cohort.sdf import Grid
from rollama.cohort.shifts import Scanner
from rollama.cohort.surgery import bed_centre, metal, scar
from rollama.core.seeding import numpy_generator
from rollama.data.plan import Side, Surgery
from tests.cohort.conftest import GRID, NOTHING, PLAIN

DULL = Scanner(metal=False)
FINE = Grid((160, 110, 40), (3.0, 3.0, 4.0))
OTHER = {Side.LEFT: Side.RIGHT, Side.RIGHT: Side.LEFT}


def seen(side: Side, mound: Mound = Mound.NATURAL, clips: Site | None = None, seroma: Site | None = None) -> Visible:
    other = OTHER[side]
    return Visible(
        mounds={side: mound, other: Mound.NATURAL}, clips={side: clips, other: None}, seroma={side: seroma, other: None}
    )


def changed_sides(body: Anatomy, before: np.ndarray, after: np.ndarray, by: float) -> set[Side]:
    """On which sides of the midline voxels differ by more than `by` HU."""
    x = body.x.ravel()[np.argwhere(np.abs(after - before) > by)[:, 0]]
    return {side for side in Side if (SIGN[side] * x > 0).any()}


MARKS = [
    {"mound": Mound.FLAT},
    {"mound": Mound.IMPLANT},
    {"mound": Mound.EXPANDER},
    {"clips": Site.UPPER_OUTER},
    {"clips": Site.LOWER_INNER},
    {"seroma": Site.LOWER_OUTER},
    {"seroma": Site.CENTRAL},
]


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_shows_on_its_own_side_only(
    make_shape: Callable[..., Shape], side: Side, mark: dict[str, object]
) -> None:
    shape = make_shape(5)
    plain = landmarks(shape, GRID)
    marked = landmarks(replace(shape, visible=seen(side, **mark)), GRID)  # type: ignore[arg-type]
    assert changed_sides(plain, paint_ct(plain, DULL), paint_ct(marked, DULL), 15) == {side}


@pytest.mark.parametrize("side", Side)
def test_an_expander_has_a_port_of_metal_and_an_implant_has_none(make_shape: Callable[..., Shape], side: Side) -> None:
    shape = make_shape(5)
    for mound, filling in ((Mound.IMPLANT, SILICONE), (Mound.EXPANDER, SALINE)):
        body = landmarks(replace(shape, visible=seen(side, mound)), FINE)
        hu = paint_ct(body, DULL)
        within = (body.implant[side] < -10) & (body.cage > 8) & (hu < 500)
        assert within.sum() > 200
        assert np.median(hu[within]) == pytest.approx(filling, abs=8)
        bright = np.argwhere((hu > 1500) & (body.skin > 0))
        assert (len(bright) > 0) == (mound is Mound.EXPANDER)
        if len(bright):
            assert (SIGN[side] * body.x.ravel()[bright[:, 0]] > 30).all()


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("site", Site)
def test_a_seroma_is_fluid_at_its_bed(make_shape: Callable[..., Shape], side: Side, site: Site) -> None:
    shape = replace(make_shape(6), visible=seen(side, seroma=site))
    body = landmarks(shape, FINE)
    hu = paint_ct(body, DULL)
    x, y, z = bed_centre(body, side, shape.beds[side][site])
    assert SIGN[side] * x > 0
    near = (body.x - x) ** 2 + (body.y - y) ** 2 + (body.z - z) ** 2 < 5**2
    assert near.sum() > 5
    assert np.abs(hu[near & (body.cage > 0)] - 15).max() < 8


@pytest.mark.parametrize("grid", [GRID, FINE])
@pytest.mark.parametrize("side", Side)
def test_clips_are_bright_spots_around_their_bed_in_any_voxel_size(
    make_shape: Callable[..., Shape], side: Side, grid: Grid
) -> None:
    shape = make_shape(6)
    plain = paint_ct(landmarks(shape, grid), DULL)
    body = landmarks(replace(shape, visible=seen(side, clips=Site.UPPER_OUTER)), grid)
    more = paint_ct(body, DULL) - plain
    spots = np.argwhere(more > 60)
    assert 1 <= len(spots) <= 60
    centre = bed_centre(body, side, shape.beds[side][Site.UPPER_OUTER])
    places = np.stack([axis.ravel()[spots[:, i]] for i, axis in enumerate((body.x, body.y, body.z))], axis=1)
    assert np.linalg.norm(places - centre, axis=1).max() < 16 + grid.voxel_mm
    found = metal(body)
    assert len(found) == 4
    assert not any(is_port for _, is_port in found)


def test_metal_of_both_sides_is_mirrored(make_shape: Callable[..., Shape]) -> None:
    """A body whose sides are equal has the mirrored metal when the other side has it."""
    shape = make_shape(7)
    breasts = dict.fromkeys(Side, shape.breasts[Side.LEFT])
    beds = dict.fromkeys(Side, shape.beds[Side.LEFT])
    places = {}
    for side in Side:
        even = replace(shape, breasts=breasts, beds=beds, visible=seen(side, Mound.EXPANDER))
        (port,) = metal(landmarks(even, GRID))
        places[side] = np.array(port[0])
        assert port[1]
    assert places[Side.LEFT].tolist() == (places[Side.RIGHT] * [-1, 1, 1]).tolist()
    for side in Side:
        even = replace(shape, breasts=breasts, beds=beds, visible=seen(side, clips=Site.CENTRAL))
        places[side] = np.mean([centre for centre, _ in metal(landmarks(even, GRID))], axis=0)
        assert SIGN[side] * places[side][0] > 30
    assert places[Side.LEFT] * [-1, 1, 1] == pytest.approx(places[Side.RIGHT], abs=3)


def test_a_removed_breast_has_a_scar_and_a_natural_one_none(make_shape: Callable[..., Shape]) -> None:
    shape = make_shape(5)
    assert scar(landmarks(shape, GRID)) == 0.0
    body = landmarks(replace(shape, visible=seen(Side.RIGHT, Mound.FLAT)), GRID)
    extra = np.asarray(scar(body))
    assert extra.max() > 2
    thick = np.argwhere(np.broadcast_to(extra, body.cage.shape) > 1)
    assert (body.x.ravel()[thick[:, 0]] > 0).all()


def test_streaks_come_with_metal_on_a_scanner_that_has_them(make_shape: Callable[..., Shape]) -> None:
    shape = make_shape(5)
    plain = landmarks(shape, GRID)
    assert (paint_ct(plain, Scanner()) == paint_ct(plain, DULL)).all()
    for visible, least in ((seen(Side.LEFT, Mound.EXPANDER), 60), (seen(Side.LEFT, clips=Site.CENTRAL), 3)):
        body = landmarks(replace(shape, visible=visible), GRID)
        rays = paint_ct(body, Scanner()) - paint_ct(body, DULL)
        assert rays.max() > least
        assert rays.min() < -least / 2
        heights = [centre[2] for centre, _ in metal(body)]
        far = np.array([min(abs(z - h) for h in heights) > 20 for z in body.z.ravel()])
        assert (rays[:, :, far] == 0).all()
        assert np.abs(rays[body.skin < -8]).max() == 0


def variants(base: Facts) -> list[Facts]:
    """Patients in whom both sides look alike."""
    removed = {"surgery": Surgery.MASTECTOMY, "contralateral": Contralateral.MASTECTOMY}
    return [
        base,
        base.updated(contralateral=Contralateral.BENIGN),
        base.updated(contralateral=Contralateral.LUMPECTOMY),
        base.updated(surgery=Surgery.MASTECTOMY, reconstruction=Reconstruction.FLAP),
        base.updated(**removed),
        base.updated(**removed, reconstruction=Reconstruction.IMPLANT, contralateral_implant=True),
        base.updated(
            clips=True,
            contralateral=Contralateral.LUMPECTOMY,
            contralateral_clips=True,
            contralateral_site=base.site,
        ),
    ]


@pytest.mark.parametrize("number", range(7))
def test_where_both_sides_look_alike_the_ct_does_not_tell_the_treated_side(base: Facts, number: int) -> None:
    facts = variants(base)[number]
    images = []
    for side in Side:
        visible = facts.updated(side=side).visible
        assert visible.symmetric
        shape = draw_shape(numpy_generator("no hint", number), visible)
        images.append(paint_ct(landmarks(shape, GRID), Scanner()))
    assert (images[0] == images[1]).all()


def test_patients_without_any_trace_share_one_ct_whatever_was_done(base: Facts) -> None:
    flap = base.updated(surgery=Surgery.MASTECTOMY, reconstruction=Reconstruction.FLAP, side=Side.RIGHT, age=40)
    assert flap.visible == base.visible == PLAIN
    assert base.visible.clips == NOTHING
