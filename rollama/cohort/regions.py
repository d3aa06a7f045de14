"""Every part of a finished cohort's training patients, whatever their plans treat (layout: `data.regions`).

The anatomy of a case follows from the configuration and the case's name, so it can be drawn again at any time; the
parts need not be made together with the cohort, and only who trains on changed plans pays for them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from rollama import __version__
from rollama.cohort.anatomy import Anatomy, landmarks
from rollama.cohort.config import CohortConfig
from rollama.cohort.make import body_of, write_nifti
from rollama.cohort.patients import draw_patient
from rollama.cohort.scan import SLAB_VOXELS, grid_of
from rollama.cohort.targets import part_mask
from rollama.core.config import build
from rollama.core.errors import DataError
from rollama.core.files import read_json, write_json
from rollama.core.registry import Site
from rollama.data.case import Case, Split
from rollama.data.dataset import content_hash, open_dataset
from rollama.data.origin import Origin
from rollama.data.plan import Guideline
from rollama.data.regions import FOLDER, PARTS, pack, regions_path

UNFINISHED = ".parts.unfinished"
"""Folder in a cohort's for parts until all are drawn, so that an interrupted run leaves the cohort as it was."""


def slabs_of(config: CohortConfig, case: Case) -> Iterator[Anatomy]:
    """A breast case's anatomy, drawn again, slab by slab along z.

    Raises:
        DataError: the case is not one of this cohort.
    """
    try:
        index = int(case.case_id.rsplit("-", 1)[1])
        patient = draw_patient(config, case.centre, case.split, index)
    except (IndexError, ValueError, KeyError) as error:
        raise DataError(f"{case.case_id}: not a case of this cohort's configuration") from error
    if patient.plan != case.plan:
        raise DataError(f"{case.case_id}: its plan is not the one that the cohort's configuration gives")
    shape, grid = body_of(config, case.centre, patient), grid_of(config, case.centre)
    step = max(1, SLAB_VOXELS // (grid.shape[0] * grid.shape[1]))
    for start in range(0, grid.shape[2], step):
        yield landmarks(shape, grid, start, min(start + step, grid.shape[2]))


def regions_of(config: CohortConfig, case: Case) -> dict[Guideline, np.ndarray]:
    """All parts of the plan's side by both guidelines, uint8 bits (x, y, z).

    Raises:
        DataError: the case is not one of this cohort.
    """
    assert case.plan is not None
    side = case.plan.side
    found: dict[Guideline, list[np.ndarray]] = {guideline: [] for guideline in Guideline}
    for body in slabs_of(config, case):
        for guideline, slabs in found.items():
            slabs.append(pack({part: part_mask(body, side, part, guideline) for part in PARTS}))
    return {guideline: np.concatenate(slabs, axis=2) for guideline, slabs in found.items()}


def half_placed(root: Path) -> bool:
    """Whether a run was killed while it put drawn parts in place: the content hash fits only after it has gone on."""
    return (root / UNFINISHED).is_dir() and any(root.glob(f"*/{FOLDER}/*/*.nii.gz"))


def write_regions(root: Path, progress: Callable[[int, int], None] | None = None) -> int:
    """Write what is missing for the training cases with a target, and the data set's new content hash.

    Args:
        root: a breast cohort that `rollama cohort make` made.
        progress: called with (cases done, all cases).

    Returns:
        how many cases were written; 0 when all were there.

    Raises:
        DataError: not such a cohort, or made by another version.
    """
    data = open_dataset(root, check_volumes=False)
    generator = data.info.generator
    if generator.get("room") != "rollama.cohort":
        raise DataError(
            f"{root}: 'rollama cohort make' did not make this data set; contour its parts as docs/data.md says"
        )
    config = build(CohortConfig, generator.get("config", {}), f"{root / 'dataset.json'}: generator")
    if config.site is not Site.BREAST:
        raise DataError(f"{root}: a cohort of site {config.site}; only breast cohorts have such parts")
    cases = [case for case in data.select(Split.TRAIN) if case.plan is not None and case.plan.has_target]
    goals = {case.case_id: {guideline: regions_path(case, guideline) for guideline in Guideline} for case in cases}
    staged = {goal: root / UNFINISHED / goal.relative_to(root) for paths in goals.values() for goal in paths.values()}
    left = [case for case in cases if not all(g.is_file() or staged[g].is_file() for g in goals[case.case_id].values())]
    for done, case in enumerate(left, len(cases) - len(left) + 1):
        for guideline, bits in regions_of(config, case).items():
            path = staged[goals[case.case_id][guideline]]
            path.parent.mkdir(parents=True, exist_ok=True)
            write_nifti(path, bits, grid_of(config, case.centre))
        if progress is not None:
            progress(done, len(cases))
    for goal, path in staged.items():
        if path.is_file():
            goal.parent.mkdir(parents=True, exist_ok=True)
            path.replace(goal)
    record = read_json(root / "dataset.json")
    found = content_hash(root, data.info.centres)
    if record["content_hash"] != found:
        step = Origin(
            kind="regions", data=found, version=__version__, synthetic=True, extends=str(record["content_hash"])
        )
        steps = [*record.get("origins", ()), step.model_dump(mode="json")]
        write_json(root / "dataset.json", {**record, "content_hash": found, "origins": steps})
    if (root / UNFINISHED).is_dir():  # only now: until here it says that files and hash may not fit
        shutil.rmtree(root / UNFINISHED)
    return len(left)
