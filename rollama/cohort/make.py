"""Write the cohort to disk in the dataset layout, the same bytes for the same configuration.

Cases are drawn one by one, each from generators keyed by (seed, centre, case id, purpose): asking for more cases adds
cases and changes none. Compressed files carry no time stamp, so that one content hash names one cohort.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rollama import RESEARCH_ONLY
from rollama.cohort.anatomy import Grid, build_anatomy, draw_shape
from rollama.cohort.card import dataset_card
from rollama.cohort.config import EXTERNAL_CENTRES, CohortConfig
from rollama.cohort.facts import Facts, draw_facts
from rollama.cohort.notes import write_note, write_summary
from rollama.cohort.rules import plan_for
from rollama.cohort.shifts import CENTRES, apply_scanner
from rollama.cohort.styles import STYLES
from rollama.cohort.targets import target_mask
from rollama.core.errors import DataError
from rollama.core.files import new_folder, read_json, write_json, write_text
from rollama.core.seeding import numpy_generator
from rollama.data.case import Evidence, Split
from rollama.data.dataset import DatasetInfo, content_hash, write_centre
from rollama.data.plan import Plan, Side, render_plan

TWIN_ATTEMPTS = 500
GZIP_LEVEL = 3


@dataclass(frozen=True)
class Patient:
    """One case before it is written: `anatomy_of` names the case whose body and scan it has (itself or a twin)."""

    case_id: str
    anatomy_of: str
    style: str
    facts: Facts
    note: str
    evidence: tuple[Evidence, ...]
    summary: str
    plan: Plan


def make_cohort(root: Path, config: CohortConfig, progress: Callable[[int, int], None] | None = None) -> DatasetInfo:
    """Make the cohort and write it to `root`, replacing what is there once everything is written.

    Args:
        root: the dataset's folder.
        config: size, grid and seed.
        progress: called with (cases done, cases in all) after each case.

    Returns:
        the dataset's description with its content hash.

    Raises:
        DataError: the folder cannot be written, or it exists and is not a dataset.
    """
    if root.exists() and not (root / "dataset.json").is_file() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root}: exists and is not a dataset; it would be replaced, so choose another folder")
    done, counts = 0, {name: config.counts(name) for name in CENTRES}
    centres = tuple(name for name, splits in counts.items() if sum(splits.values()))
    with new_folder(root) as folder:
        for centre in centres:
            for kind in ("images", "labels"):
                (folder / centre / kind).mkdir(parents=True)
            items = []
            for split, count in counts[centre].items():
                for index in range(count):
                    patient = draw_patient(config, centre, split, index)
                    _write_volumes(folder / centre, config, centre, patient)
                    items.append((split, _record(centre, patient)))
                    done += 1
                    if progress is not None:
                        progress(done, config.cases)
            write_centre(folder / centre, items)
        info = DatasetInfo(
            name=config.name,
            version=config.version,
            synthetic=True,
            label="CTV",
            notice=f"SYNTHETIC DATA. {RESEARCH_ONLY}",
            centres=centres,
            external_centres=tuple(name for name in centres if name in EXTERNAL_CENTRES),
            content_hash=content_hash(folder, centres),
            generator={
                "room": "rollama.cohort",
                "config": config.model_dump(mode="json"),
                "config_hash": config.digest(),
            },
        )
        write_json(folder / "dataset.json", info.model_dump(mode="json"))
        write_text(folder / "dataset_card.md", dataset_card(info, counts))
    return info


def is_made(root: Path, config: CohortConfig) -> bool:
    """Whether `root` holds the cohort of exactly this configuration, with the bytes it was written with.

    Raises:
        DataError: it says so, but its files were changed or damaged.
    """
    path = root / "dataset.json"
    if not path.is_file():
        return False
    record = read_json(path)
    if not isinstance(record, dict) or record.get("generator", {}).get("config_hash") != config.digest():
        return False
    if content_hash(root, record["centres"]) != record["content_hash"]:
        raise DataError(f"{root}: files differ from the content hash in {path}; remove the folder to make it again")
    return True


def case_name(centre: str, split: Split, index: int) -> str:
    """Case ids: centre, split and running number, such as `northgate-train-0007`."""
    return f"{centre}-{split}-{index:04d}"


def draw_patient(config: CohortConfig, centre: str, split: Split, index: int) -> Patient:
    """Draw one case's facts and texts; depends on nothing but the seed, the centre and the case's name."""
    name = case_name(centre, split, index)
    source = _twin_of(config, centre, split, index)
    facts = _facts(config, centre, name, 0)
    if source is not None:
        model = _facts(config, centre, source, 0)
        known = render_plan(plan_for(model))
        for attempt in range(TWIN_ATTEMPTS):  # another patient whom the same CT could show
            facts = _facts(config, centre, name, attempt)
            if facts.mounds == model.mounds and render_plan(plan_for(facts)) != known:
                break
        else:
            raise DataError(f"{name}: no other plan fits the anatomy of {source}; change the seed")
    rng = numpy_generator(config.seed, centre, name, "note")
    style = STYLES[centre][int(rng.integers(len(STYLES[centre])))]
    note, evidence = write_note(facts, style, rng)
    return Patient(name, source or name, style.name, facts, note, evidence, write_summary(facts), plan_for(facts))


def _facts(config: CohortConfig, centre: str, name: str, attempt: int) -> Facts:
    return draw_facts(numpy_generator(config.seed, centre, name, "facts", attempt), CENTRES[centre].population)


def _twin_of(config: CohortConfig, centre: str, split: Split, index: int) -> str | None:
    """The case whose anatomy this one reuses, always an earlier one with a body of its own; None for most cases."""

    def drawn(i: int) -> np.random.Generator | None:
        rng = numpy_generator(config.seed, centre, case_name(centre, split, i), "twin")
        return rng if i > 0 and rng.random() < config.twin_fraction else None

    if split is not Split.TRAIN or (rng := drawn(index)) is None:
        return None
    other = int(rng.integers(index))
    while drawn(other) is not None:
        other -= 1
    return case_name(centre, split, other)


def grid_of(config: CohortConfig, centre: str) -> Grid:
    """The centre's voxel grid: the configured one, or the same field in the scanner's own voxel size.

    A scanner's voxel size is stated for 6 mm cohorts and scales with the configured spacing.
    """
    own = CENTRES[centre].scanner.spacing
    if own is None:
        return Grid(config.grid, config.spacing)
    spacing = [step * mine / 6.0 for step, mine in zip(config.spacing, own, strict=True)]
    shape = [round(n * step / mine) for n, step, mine in zip(config.grid, config.spacing, spacing, strict=True)]
    return Grid((shape[0], shape[1], shape[2]), (spacing[0], spacing[1], spacing[2]))


def make_volumes(config: CohortConfig, centre: str, patient: Patient) -> tuple[np.ndarray, np.ndarray, Grid]:
    """CT (int16 HU) and target (uint8 0/1), both (x, y, z), and their grid.

    Twins share body and texture but not the scan's noise: two scans of one patient are never the same bits.
    """
    scanner = CENTRES[centre].scanner
    key = (config.seed, centre, patient.anatomy_of)
    shape = draw_shape(numpy_generator(*key, "shape"), patient.facts.mounds, CENTRES[centre].population.size)
    grid = grid_of(config, centre)
    anatomy = build_anatomy(shape, grid, scanner, numpy_generator(*key, "texture"))
    ct = apply_scanner(anatomy.hu, grid.spacing, scanner, numpy_generator(config.seed, centre, patient.case_id, "scan"))
    return ct, target_mask(anatomy, patient.plan), grid


def _write_volumes(folder: Path, config: CohortConfig, centre: str, patient: Patient) -> None:
    ct, mask, grid = make_volumes(config, centre, patient)
    write_nifti(folder / "images" / f"{patient.case_id}.nii.gz", ct, grid)
    write_nifti(folder / "labels" / f"{patient.case_id}.nii.gz", mask, grid)


def write_nifti(path: Path, values: np.ndarray, grid: Grid) -> None:
    """Write a .nii.gz whose bytes depend on the content only (no time stamp, no file name in the gzip header)."""
    import nibabel

    image: Any = nibabel.Nifti1Image(values, grid.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(grid.affine, code=1)
    image.set_qform(grid.affine, code=1)
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=GZIP_LEVEL, mtime=0) as stream:
        stream.write(image.to_bytes())
    path.write_bytes(buffer.getvalue())  # inside make_cohort's temporary folder; renamed as a whole


def _record(centre: str, patient: Patient) -> dict[str, Any]:
    return {
        "case_id": patient.case_id,
        "note": patient.note,
        "summary": patient.summary,
        "plan_text": render_plan(patient.plan),
        "evidence": [item.model_dump() for item in patient.evidence],
        "provenance": {
            "synthetic": True,
            "centre": centre,
            "style": patient.style,
            "anatomy_of": patient.anatomy_of,
            "site": str(patient.facts.site),
            "mound_left": patient.facts.mounds[Side.LEFT],
            "mound_right": patient.facts.mounds[Side.RIGHT],
        },
    }
