"""From a body to a case's files, alike for every site: grid, scan, true and drawn contours, the line of text.jsonl.

What is random here is keyed by the case and not by the site's code, so that sites cannot drift apart: who shares a scan
shares its noise and contrast, and at a centre whose training contours are one reader's they are that in every site.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rollama.cohort.config import CohortConfig
from rollama.cohort.patients import case_name
from rollama.cohort.readers import READERS, draw_as_reader, reader_map
from rollama.cohort.sdf import Grid
from rollama.cohort.shifts import CENTRES, Scanner, apply_scanner, scan_spacing
from rollama.core.seeding import numpy_generator
from rollama.data.case import Evidence, Split

SLAB_VOXELS = 3_000_000
"""Voxels that are built at once: bounds the memory of a case at clinical resolution."""

Slab = Callable[[Scanner, int, int], tuple[np.ndarray, np.ndarray]]
"""Noise-free CT (float32 HU) and label map (uint8) of slices `start:stop`."""


@dataclass(frozen=True)
class Item:
    """One case to be made."""

    centre: str
    split: Split
    index: int

    @property
    def name(self) -> str:
        """Its case id."""
        return case_name(self.centre, self.split, self.index)


@dataclass(frozen=True, eq=False)
class Volumes:
    """A case's arrays (x, y, z) on one grid: CT int16 HU, target uint8 0/1, label maps of parts and readers uint8."""

    ct: np.ndarray
    target: np.ndarray
    parts: np.ndarray
    readers: np.ndarray
    grid: Grid


class Subject(Protocol):
    """What the patients of all sites have."""

    @property
    def case_id(self) -> str: ...
    @property
    def anatomy_of(self) -> str: ...
    @property
    def scan_of(self) -> str: ...
    @property
    def note(self) -> str: ...
    @property
    def evidence(self) -> tuple[Evidence, ...]: ...
    @property
    def summary(self) -> str: ...


def grid_of(config: CohortConfig, centre: str) -> Grid:
    """The centre's voxel grid: the configured field in the scanner's own voxel size."""
    spacing = scan_spacing(config.spacing, CENTRES[centre].scanner)
    shape = [round(n * step / mine) for n, step, mine in zip(config.grid, config.spacing, spacing, strict=True)]
    return Grid((shape[0], shape[1], shape[2]), spacing)


def one_reader(centre: str, split: Split) -> bool:
    """Whether the targets of a centre's split are a single reader's and not exact."""
    return bool(CENTRES[centre].reader_mm) and split is Split.TRAIN


def acquire(config: CohortConfig, centre: str, split: Split, patient: Subject, slab: Slab) -> Volumes:
    """Scan a body, and draw its target exactly, as readers do, and as the training contour is drawn.

    Args:
        config: seed and grid.
        centre: its scanner and contours.
        split: exact targets but in training at a centre with one reader.
        patient: whose case and whose scan it is.
        slab: builds the body, slab by slab, so that memory stays bounded.
    """
    profile, grid = CENTRES[centre], grid_of(config, centre)
    scan = numpy_generator(config.seed, centre, patient.scan_of, "scan")
    contrast = profile.scanner.contrast_hu * float(scan.random() < profile.scanner.contrast_share)
    scanner = profile.scanner.updated(contrast_hu=contrast)
    hu, labels = np.empty(grid.shape, np.float32), np.empty(grid.shape, np.uint8)
    step = max(1, SLAB_VOXELS // (grid.shape[0] * grid.shape[1]))
    for start in range(0, grid.shape[2], step):
        stop = min(start + step, grid.shape[2])
        hu[:, :, start:stop], labels[:, :, start:stop] = slab(scanner, start, stop)
    ct = apply_scanner(hu, grid.spacing, scanner, scan)
    key = (config.seed, centre, patient.case_id)
    readers = reader_map(labels, grid, [numpy_generator(*key, "reader", number) for number in range(READERS)])
    target = (labels > 0).astype(np.uint8)
    if one_reader(centre, split):
        rng = numpy_generator(*key, "training contour")
        target = draw_as_reader(labels, grid, profile.reader_mm, rng).astype(np.uint8)
    return Volumes(ct, target, labels, readers, grid)


def case_record(item: Item, patient: Subject, plan_text: str, **provenance: str) -> dict[str, Any]:
    """A case's line of text.jsonl; `provenance` is what the site adds to it."""
    return {
        "case_id": patient.case_id,
        "note": patient.note,
        "summary": patient.summary,
        "plan_text": plan_text,
        "evidence": [entry.model_dump() for entry in patient.evidence],
        "provenance": {
            "synthetic": True,
            "centre": item.centre,
            "anatomy_of": patient.anatomy_of,
            "scan_of": patient.scan_of,
            "label": "one reader" if one_reader(item.centre, item.split) else "exact",
            **provenance,
        },
    }
