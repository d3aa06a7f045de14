"""A second site, prostate, behind the same interface: nothing outside the generator may be tied to the breast.

A dataset of this site has the breast's layout and its own anatomy, patients, notes and targets. Plans are free text
(`Case.plan` is None, `Case.plan_text` keeps it), which is what a real second site would bring on its first day.

As for the breast, a case depends on (seed, centre, its name) and on nothing else; a summary belongs to one split by its
hash; training twins have another patient's body and another plan; the counterfactual split has the very CTs of external
cases. Differences: there is no combination split, and `parts` is all 0, because its values name parts of the breast
(`rollama.data.parts`) and a label map of the pelvis would be misread. Target and readers are kept in full.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from rollama.cohort.config import VARIANTS, CohortConfig
from rollama.cohort.patients import ATTEMPTS, case_name, split_of
from rollama.cohort.pelvis.anatomy import landmarks
from rollama.cohort.pelvis.body import draw_shape
from rollama.cohort.pelvis.facts import Facts, draw_facts, extent_for, plan_text
from rollama.cohort.pelvis.notes import write_note, write_summary
from rollama.cohort.pelvis.organs import paint_ct
from rollama.cohort.pelvis.styles import STYLES
from rollama.cohort.pelvis.targets import label_map
from rollama.cohort.scan import Item, Volumes, acquire, case_record, grid_of
from rollama.cohort.shifts import CENTRES, Scanner
from rollama.core.errors import DataError
from rollama.core.seeding import numpy_generator
from rollama.data.case import Evidence, Split

OLDER = 11.0
"""Years by which a centre's men are older than its women."""


@dataclass(frozen=True)
class Patient:
    """One case before it is written; `anatomy_of` and `scan_of` name the cases whose body and whose CT it has."""

    case_id: str
    anatomy_of: str
    scan_of: str
    facts: Facts
    note: str
    evidence: tuple[Evidence, ...]
    summary: str
    plan_text: str


def make_case(config: CohortConfig, item: Item) -> tuple[dict[str, Any], Volumes]:
    """Make one case.

    Args:
        config: the cohort's configuration; seed, grid, spacing and twin_fraction are used.
        item: centre, split and index.

    Returns:
        the case's line of text.jsonl and its arrays (x, y, z): CT int16 HU, target uint8 0/1, parts uint8 all 0,
        readers uint8 bits 1, 2, 4.

    Raises:
        DataError: the combination split was asked for, no patient fits, or the target is empty on this grid.
    """
    patient = draw_patient(config, item.centre, item.split, item.index)
    record = case_record(
        item,
        patient,
        patient.plan_text,
        style=STYLES[item.centre].name,
        site="prostate",
        cues="prostatectomy" if patient.facts.prostatectomy else "none",
        combination="",
    )
    return record, _make_volumes(config, item, patient)


def draw_patient(config: CohortConfig, centre: str, split: Split, index: int) -> Patient:
    """Draw one case's facts and texts.

    Raises:
        DataError: the combination split was asked for, or no patient fits.
    """
    name, source = case_name(centre, split, index), _source(config, centre, split, index)
    facts = _facts(config, centre, split, index)
    note, evidence = write_note(facts, STYLES[centre], numpy_generator(config.seed, centre, name, "note"))
    scan = source if split is Split.COUNTERFACTUAL else None
    return Patient(name, source or name, scan or name, facts, note, evidence, write_summary(facts), plan_text(facts))


@lru_cache(maxsize=4096)
def _facts(config: CohortConfig, centre: str, split: Split, index: int) -> Facts:
    name = case_name(centre, split, index)
    if split is Split.COMBINATION:
        raise DataError(f"{name}: the prostate site has no combination split; set combination to 0")
    model, taken = _model(config, centre, split, index)
    age = CENTRES[centre].population.age + OLDER
    for attempt in range(ATTEMPTS):
        rng = numpy_generator(config.seed, centre, name, "prostate facts", attempt)
        facts = draw_facts(rng, age, None if model is None else model.prostatectomy)
        if plan_text(facts) not in taken and split_of(write_summary(facts)) is split:
            return facts
    raise DataError(f"{name}: no patient fits after {ATTEMPTS} draws; change the seed")


def _model(config: CohortConfig, centre: str, split: Split, index: int) -> tuple[Facts | None, set[str]]:
    """The patient whose body is reused, and the plans that its CT already has."""
    if split is Split.COUNTERFACTUAL:
        model = _facts(config, centre, Split.EXTERNAL, index // VARIANTS)
        earlier = range(index - index % VARIANTS, index)
        return model, {plan_text(f) for f in (model, *(_facts(config, centre, split, i) for i in earlier))}
    if _source(config, centre, split, index) is None:
        return None, set()
    model = _facts(config, centre, split, index - 1)
    return model, {plan_text(model)}


def _source(config: CohortConfig, centre: str, split: Split, index: int) -> str | None:
    """The case whose body this one has: for some odd training cases the one before, for variants an external one."""
    if split is Split.COUNTERFACTUAL:
        return case_name(centre, Split.EXTERNAL, index // VARIANTS)
    if split is not Split.TRAIN or index % 2 == 0:
        return None
    rng = numpy_generator(config.seed, centre, case_name(centre, split, index), "twin")
    return case_name(centre, split, index - 1) if rng.random() < 2 * config.twin_fraction else None


def _make_volumes(config: CohortConfig, item: Item, patient: Patient) -> Volumes:
    grid = grid_of(config, item.centre)
    body_rng = numpy_generator(config.seed, item.centre, patient.anatomy_of, "pelvis")
    shape = draw_shape(body_rng, patient.facts.prostatectomy, CENTRES[item.centre].population.size)
    extent = extent_for(patient.facts)

    def slab(scanner: Scanner, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        body = landmarks(shape, grid, start, stop)
        target = (label_map(body, extent) > 0).astype(np.uint8)  # parts would be taken for nodal levels of the breast
        return paint_ct(body, scanner), target

    volumes = acquire(config, item.centre, item.split, patient, slab)
    if not volumes.parts.any():
        raise DataError(f"{item.name}: the target is empty on a grid of {grid.spacing} mm; use smaller voxels")
    return replace(volumes, parts=np.zeros_like(volumes.parts))
