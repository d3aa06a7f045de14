"""Wrong anatomy: CTs that no breast plan fits, drawn on the bodies of held-out patients.

A model must say so when it is sent one. Each phantom keeps the patient's grid, scanner and noise, so that nothing but
the anatomy gives it away. They are simple drawings, and synthetic: passing them is necessary, not sufficient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rollama.cohort.anatomy import Anatomy, landmarks
from rollama.cohort.body import SIGN, seen_as
from rollama.cohort.config import CohortConfig
from rollama.cohort.facts import Mound, Site
from rollama.cohort.make import body_of
from rollama.cohort.organs import paint_ct
from rollama.cohort.painting import Painter, paint_couch
from rollama.cohort.patients import draw_patient
from rollama.cohort.scan import SLAB_VOXELS, grid_of
from rollama.cohort.sdf import capsule, ellipse, ellipsoid, smooth_union
from rollama.cohort.shifts import CENTRES, Scanner, apply_scanner
from rollama.core.seeding import numpy_generator
from rollama.data.case import Case, Split
from rollama.data.dataset import evenly
from rollama.data.plan import Side, Surgery, Volume
from rollama.data.plan import render_plan as render
from rollama.data.volumes import Volume as Ct

Paint = Callable[[Anatomy, Scanner], np.ndarray]
FAT, SOFT, BRAIN, LIVER, BONE, MARROW, GAS = -100, 45, 35, 60, 700, 200, -900


@dataclass(frozen=True, eq=False)
class Phantom:
    """A CT of the wrong anatomy and the plan it is sent with."""

    kind: str
    case: Case
    volume: Ct
    plan_text: str


def phantoms(config: CohortConfig, cases: Sequence[Case], each: int) -> Iterator[Phantom]:
    """`each` phantoms of every kind, on the bodies of `cases` with a target (cases of a breast cohort of `config`)."""
    treated = [case for case in cases if case.plan is not None and case.plan.has_target]
    chosen = evenly(sorted(treated, key=lambda case: case.centre))
    for place, (kind, paint) in enumerate(KINDS.items()):
        for case in chosen[place * each : (place + 1) * each] or chosen[:each]:
            assert case.plan is not None
            plan = case.plan
            if kind == NO_BREAST:
                plan = plan.model_copy(update={"volume": Volume.BREAST, "surgery": Surgery.CONSERVING, "levels": ()})
            yield Phantom(kind, case, _scan(config, case, paint, flat=kind == NO_BREAST), render(plan))


def _scan(config: CohortConfig, case: Case, paint: Paint, flat: bool) -> Ct:
    """Scan what is painted on a case's body as the case itself was scanned."""
    index = int(case.case_id.rsplit("-", 1)[1])
    patient = draw_patient(config, case.centre, Split(case.split), index)
    shape, grid = body_of(config, case.centre, patient), grid_of(config, case.centre)
    if flat:
        nothing: dict[Side, Site | None] = dict.fromkeys(Side)
        gone = replace(shape.visible, mounds=dict.fromkeys(Side, Mound.FLAT), clips=nothing, seroma=nothing)
        shape = seen_as(shape, gone)
    scanner = CENTRES[case.centre].scanner.updated(contrast_hu=0.0, metal=False)
    step = max(1, SLAB_VOXELS // (grid.shape[0] * grid.shape[1]))
    slabs = [landmarks(shape, grid, start, min(start + step, grid.shape[2])) for start in range(0, grid.shape[2], step)]
    hu = np.concatenate([paint(slab, scanner) for slab in slabs], axis=2)
    ct = apply_scanner(hu, grid.spacing, scanner, numpy_generator(config.seed, case.case_id, "phantom"))
    return Ct(ct.astype(np.float32), grid.affine, f"phantom {case.case_id}")


def _head(body: Anatomy, scanner: Scanner) -> np.ndarray:
    painter, x, y, z = Painter(body), body.x, body.y, body.z
    paint_couch(painter, scanner, -105.0)
    skull = ellipsoid(x, y, z - 30, (76.0, 96.0, 100.0))
    neck = np.maximum(ellipse(x, y + 25, (58.0, 60.0)), z - 10)
    painter.paint(smooth_union(skull - 6, neck, 20.0), SOFT)
    painter.paint(skull, BONE)
    painter.paint(skull + 8, BRAIN)
    painter.ball((0.0, 75.0, -20.0), (16.0, 20.0, 22.0), GAS)
    painter.tube([(0.0, -45.0, -40.0), (0.0, -45.0, -190.0)], 14.0, MARROW)
    painter.tube([(0.0, 5.0, -40.0), (0.0, 5.0, -190.0)], 9.0, GAS)
    return painter.hu


def _abdomen(body: Anatomy, scanner: Scanner) -> np.ndarray:
    painter, x, y, z = Painter(body), body.x, body.y, body.z
    over = 12 + body.shape.fat
    paint_couch(painter, scanner, -24 - (100 + over))
    outside = ellipse(x, y + 24, (150.0 + over, 100.0 + over)) + 0 * z
    painter.paint(outside, FAT)
    painter.paint(outside + over, SOFT)
    painter.paint(outside + over + 14, FAT + 60)
    painter.ball((70.0, 0.0, 90.0), (80.0, 70.0, 80.0), LIVER)
    painter.ball((-90.0, -40.0, 90.0), (35.0, 45.0, 55.0), LIVER - 10)
    for side in SIGN.values():
        painter.ball((side * 62.0, -60.0, 10.0), (28.0, 26.0, 55.0), SOFT - 10)
    for number in range(7):
        painter.ball((-85.0 + 28 * number, 38.0, -60.0 + 25 * (number % 3)), (15.0, 14.0, 17.0), GAS)
    painter.tube([(0.0, -78.0, -200.0), (0.0, -78.0, 200.0)], 24.0, BONE - 200)
    painter.tube([(0.0, -78.0, -200.0), (0.0, -78.0, 200.0)], 19.0, MARROW)
    return painter.hu


def _arms_down(body: Anatomy, scanner: Scanner) -> np.ndarray:
    hu = paint_ct(body, scanner)
    u, y, z = body.u, body.y, body.z
    hu[np.broadcast_to((u > 168) & (z > 60), hu.shape)] = -1000  # the raised arms
    arm = capsule(u, y, z, (178.0, -34.0, 84.0), (206.0, -34.0, -170.0), 40.0 + 0.3 * body.shape.fat)
    free = (hu < -400) & (arm < 0) | (u > 172) & (arm < 0)
    hu[free] = np.where(arm < -9, SOFT, FAT)[free]
    bone = capsule(u, y, z, (180.0, -34.0, 80.0), (206.0, -34.0, -170.0), 12.0)
    hu[free & (bone < 0)] = BONE
    return hu


NO_BREAST = "chest without a breast"
KINDS: Mapping[str, Paint] = {
    "head": _head,
    "abdomen": _abdomen,
    "arms down": _arms_down,
    NO_BREAST: paint_ct,
}
"""What is painted; a chest without a breast is the patient's own, after mastectomy on both sides."""
