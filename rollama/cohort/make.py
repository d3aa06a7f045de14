"""Write the cohort to disk in the dataset layout: the same bytes for the same configuration, and none of them twice.

Every case is an item of work of its own, so any number of processes can share a cohort (`ray_jobs/make_cohort.py`
does) and an interrupted run goes on where it was: what is finished lies in `.<name>.<digest>.unfinished` beside the
cohort, case by case with the hashes of its files. Only a complete cohort gets its name. Compressed files carry no time
stamp, so that one content hash names one cohort.
"""

from __future__ import annotations

import fcntl
import gzip
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from rollama import RESEARCH_ONLY, __version__
from rollama.cohort.anatomy import landmarks
from rollama.cohort.body import Shape, check_shape, draw_shape
from rollama.cohort.card import dataset_card
from rollama.cohort.config import EXTERNAL_CENTRES, CohortConfig
from rollama.cohort.organs import paint_ct
from rollama.cohort.patients import Patient, cues, draw_patient
from rollama.cohort.rules import load_rules
from rollama.cohort.scan import Item, Volumes, acquire, case_record, grid_of
from rollama.cohort.sdf import Grid
from rollama.cohort.shifts import CENTRES, Scanner
from rollama.cohort.targets import label_map
from rollama.core.config import hash_json
from rollama.core.errors import DataError
from rollama.core.files import hash_file, read_json, write_json, write_text
from rollama.core.registry import Site
from rollama.core.seeding import numpy_generator
from rollama.data import parts
from rollama.data.case import Split
from rollama.data.dataset import DatasetInfo, content_hash, write_centre
from rollama.data.origin import Origin
from rollama.data.plan import render_plan

GZIP_LEVEL = 3
BYTES_PER_VOXEL = 1.3
"""Compressed CT, label, parts and readers, generously."""
PART = ".part-"
"""How names of files begin that are being written."""
ONLY_LOOK = {"gallery.py", "bound.py", "leakage.py", "describe.py", "card.py", "regions.py"}
"""Modules that change no case."""
FOLDERS = ("images", "labels", parts.FOLDER, parts.READERS)

Runner = Callable[[Callable[["Item"], None], Sequence["Item"]], Iterable[Any]]
"""Applies a function to all items and yields once an item, in any order."""


def run_here(work: Callable[[Item], None], items: Sequence[Item]) -> Iterator[None]:
    """Make the cases one after the other in this process."""
    for item in items:
        work(item)
        yield None


def make_cohort(
    root: Path,
    config: CohortConfig,
    progress: Callable[[int, int], None] | None = None,
    run: Runner = run_here,
) -> DatasetInfo:
    """Make the cohort and write it to `root`, replacing a dataset there once everything is written.

    Args:
        root: the dataset's folder.
        config: size, grid and seed.
        progress: called with (cases done, cases in all), first with what an earlier, interrupted run finished.
        run: who does the work.

    Returns:
        the dataset's description with its content hash.

    Raises:
        DataError: the folder cannot be written, is too small or busy, or it exists and is not a dataset.
        ConfigError: the rules table is wrong.
    """
    root = root.resolve()
    _require_replaceable(root)
    digest = cohort_digest(config)
    items = [Item(c, split, i) for c in CENTRES for split, count in config.counts(c).items() for i in range(count)]
    staging = unfinished(root, config)
    with _alone(staging):
        for half in staging.rglob(f"{PART}*"):  # of a run that was killed while it wrote
            half.unlink()
        kept = {item for item in items if _is_done(staging, item)}
        left = [item for item in items if item not in kept]
        _require_space(staging, config, len(left))
        done = len(kept)
        if progress is not None and done:
            progress(done, len(items))
        try:
            for _ in run(CaseMaker(staging, config), left):
                done += 1
                if progress is not None:
                    progress(done, len(items))
        except OSError as error:
            kept_now = sum(_is_done(staging, item) for item in items)
            raise DataError(
                f"{staging}: cannot be written ({error.strerror or error}); {kept_now} of {len(items)} cases are "
                "kept there: free space and run the same command again"
            ) from error
        if cohort_digest(config) != digest:
            raise DataError(f"{config.rules}: the rules were changed while the cohort was made; run the command again")
        try:
            return _finish(root, staging, config, items)
        except OSError as error:
            raise DataError(
                f"{root}: cannot be written ({error.strerror or error}); all cases are kept in {staging}"
            ) from error


def unfinished(root: Path, config: CohortConfig) -> Path:
    """Where the finished cases of an interrupted run are kept."""
    root = root.resolve()
    return root.with_name(f".{root.name}.{cohort_digest(config)[:12]}.unfinished")


def cohort_digest(config: CohortConfig) -> str:
    """Identity of a cohort before it is made: its configuration, the content of its rules table, and the generator."""
    return hash_json([config.digest(), load_rules(config.rules).digest, generator_hash()])


@cache
def generator_hash() -> str:
    """Hash of the sources that decide what a case is: cases of another generator are never taken for this one's."""
    here = Path(__file__).parent
    files = [path for path in sorted(here.rglob("*.py")) if path.name not in ONLY_LOOK]
    return hash_json({path.relative_to(here).as_posix(): hash_file(path) for path in files})


def is_made(root: Path, config: CohortConfig) -> bool:
    """Whether `root` holds the cohort of exactly this configuration, with the bytes it was written with.

    Raises:
        DataError: it says so, but its files were changed or damaged.
    """
    path = root / "dataset.json"
    if not path.is_file():
        return False
    record = read_json(path)
    if not isinstance(record, dict) or record.get("generator", {}).get("config_hash") != cohort_digest(config):
        return False
    if content_hash(root, record["centres"]) != record["content_hash"]:
        raise DataError(f"{root}: files differ from the content hash in {path}; remove the folder to make it again")
    return True


@dataclass(frozen=True)
class CaseMaker:
    """Writes one case into a folder; can be sent to another process."""

    folder: Path
    config: CohortConfig

    def __call__(self, item: Item) -> None:
        """Make and write the case; its record last, so that a cut leaves nothing that looks finished.

        Raises:
            OSError: the folder cannot be written.
            DataError: no patient fits, or her geometry is impossible.
        """
        record, volumes = make_case(self.config, item)
        arrays = zip(FOLDERS, (volumes.ct, volumes.target, volumes.parts, volumes.readers), strict=True)
        hashes = {}
        for kind, values in arrays:
            path = self.folder / item.centre / kind / f"{item.name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_nifti(path, values, volumes.grid)
            hashes[f"{item.centre}/{kind}/{path.name}"] = hash_file(path)
        try:
            write_json(self.folder / "records" / f"{item.name}.json", {"files": hashes, "record": record})
        except DataError as error:
            raise (error.__cause__ if isinstance(error.__cause__, OSError) else error) from None


def make_case(config: CohortConfig, item: Item) -> tuple[dict[str, Any], Volumes]:
    """One case of the configured site: its line of text.jsonl, and its arrays."""
    if config.site is Site.PROSTATE:
        from rollama.cohort import prostate

        return prostate.make_case(config, item)
    patient = draw_patient(config, item.centre, item.split, item.index)
    record = case_record(
        item,
        patient,
        render_plan(patient.plan),
        style=patient.style,
        site=str(patient.facts.site),
        cues=cues(patient.facts),
        visible=patient.facts.visible.key,
        protocol=str(patient.facts.protocol),
        combination=patient.combination or "",
    )
    return record, make_volumes(config, item.centre, patient, item.split)


def rule_rows(config: CohortConfig) -> list[tuple[str, str, str, str]]:
    """The configured site's decision table as rows (decides, when, gives, source)."""
    if config.site is Site.PROSTATE:
        from rollama.cohort.pelvis import facts

        return facts.rows()
    return load_rules(config.rules).rows()


def body_of(config: CohortConfig, centre: str, patient: Patient) -> Shape:
    """The patient's body: drawn for the case whose anatomy it is, with this patient's surgery."""
    rng = numpy_generator(config.seed, centre, patient.anatomy_of, "shape")
    shape = draw_shape(rng, patient.facts.visible, CENTRES[centre].population.size)
    check_shape(shape)
    return shape


def make_volumes(config: CohortConfig, centre: str, patient: Patient, split: Split) -> Volumes:
    """CT, target, parts and readers of one breast case.

    Training twins share body and texture but not the scan's noise; counterfactual cases share every bit of the CT.
    """
    shape, grid = body_of(config, centre, patient), grid_of(config, centre)

    def slab(scanner: Scanner, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        body = landmarks(shape, grid, start, stop)
        return paint_ct(body, scanner), label_map(body, patient.plan, patient.facts.site)

    return acquire(config, centre, split, patient, slab)


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
    temporary = path.with_name(f"{PART}{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(buffer.getvalue())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_done(staging: Path, item: Item) -> bool:
    """Whether a case was finished and its files are still what they were."""
    path = staging / "records" / f"{item.name}.json"
    if not path.is_file():
        return False
    try:
        files: Mapping[str, str] = read_json(path)["files"]
    except (DataError, KeyError, TypeError):
        return False
    return all((staging / name).is_file() and hash_file(staging / name) == value for name, value in files.items())


def _require_space(staging: Path, config: CohortConfig, cases: int) -> None:
    needed = int(cases * float(np.prod(config.grid)) * BYTES_PER_VOXEL)
    free = shutil.disk_usage(staging).free
    if free < needed:
        raise DataError(
            f"{staging.parent}: {free / 1e9:.1f} GB free, {cases} cases need about {needed / 1e9:.1f} GB; free space, "
            "choose another folder or a smaller size"
        )


@contextmanager
def _alone(staging: Path) -> Iterator[None]:
    """Hold the unfinished cohort for this process; the kernel lets go however it ends."""
    try:
        (staging / "records").mkdir(parents=True, exist_ok=True)
        handle = os.open(staging / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise DataError(f"{staging.parent}: cannot write here ({error.strerror}); choose another folder") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(handle), (staging / ".lock").stat()):
            raise OSError("finished meanwhile")
    except OSError as error:
        os.close(handle)
        raise DataError(f"{staging}: another process is making this cohort; wait for it or end it") from error
    try:
        yield
    finally:
        os.close(handle)


def _require_replaceable(root: Path) -> None:
    """Refuse to replace anything but a cohort of ours, which its configuration brings back."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return
    path = root / "dataset.json"
    if not path.is_file():
        raise DataError(f"{root}: exists and is not a dataset; it would be replaced, so choose another folder")
    record = read_json(path)
    if not isinstance(record, dict) or record.get("generator", {}).get("room") != "rollama.cohort":
        raise DataError(f"{root}: holds a data set that 'rollama cohort make' did not make; choose another folder")


def _finish(root: Path, staging: Path, config: CohortConfig, items: Sequence[Item]) -> DatasetInfo:
    """Write the lists and the card beside the cases, and give the folder its name in one step."""
    counts = {name: config.counts(name) for name in CENTRES}
    centres = tuple(name for name, splits in counts.items() if sum(splits.values()))
    for centre in centres:
        records = [
            (item.split, read_json(staging / "records" / f"{item.name}.json")["record"])
            for item in items
            if item.centre == centre
        ]
        write_centre(staging / centre, records)
    content, recipe = content_hash(staging, centres), cohort_digest(config)
    info = DatasetInfo(
        name=config.name,
        version=config.version,
        synthetic=True,
        label="CTV",
        notice=f"SYNTHETIC DATA. {RESEARCH_ONLY}",
        centres=centres,
        external_centres=tuple(name for name in centres if name in EXTERNAL_CENTRES),
        content_hash=content,
        generator={
            "room": "rollama.cohort",
            "config": config.model_dump(mode="json"),
            "config_hash": recipe,
        },
        origins=(Origin(kind="cohort", data=content, version=__version__, synthetic=True, recipe=recipe),),
    )
    write_json(staging / "dataset.json", info.model_dump(mode="json"))
    write_text(staging / "dataset_card.md", dataset_card(info, counts, rule_rows(config)))
    old = staging.with_name(f"{staging.name}-old")
    if root.exists() and any(root.iterdir()):
        root.rename(old)
    try:
        staging.rename(root)
    except OSError:
        if old.exists():
            old.rename(root)
        raise
    shutil.rmtree(root / "records")
    (root / ".lock").unlink()
    shutil.rmtree(old, ignore_errors=True)
    return info
