"""What all exports of a data set share, and the plainest of them: a folder of NIfTI files a case.

An export leaves the reach of this package: whoever opens it next sees neither the data set's card nor its checks. So
every export states in a README what it is and what it may be used for, is complete or absent (a temporary name, then
a rename), replaces nothing, and takes clinical notes along only when that is asked for.
"""

from __future__ import annotations

import csv
import gzip
import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rollama import RESEARCH_ONLY
from rollama.core.errors import DataError
from rollama.core.files import new_folder, write_text
from rollama.data.case import Case, Split
from rollama.data.dataset import Dataset
from rollama.data.parts import Part, parts_path

Progress = Callable[[int], None]
"""Called with the number of cases done."""


@dataclass(frozen=True)
class Exported:
    """What an export wrote: where, how many cases, and what a reader must know (cases without target, ...)."""

    folder: Path
    cases: int
    remarks: tuple[str, ...] = ()


def select_cases(
    dataset: Dataset,
    splits: Sequence[str] = (),
    centres: Sequence[str] = (),
    ids: Sequence[str] = (),
    limit: int | None = None,
) -> tuple[Case, ...]:
    """The cases that are in one of the splits, of one of the centres and among the ids; an empty choice means all.

    Raises:
        DataError: an unknown split, centre or case id (says what there is), or nothing is left.
    """
    known = {case.case_id for case in dataset.cases}
    for kind, wanted, there in (
        ("split", splits, [split.value for split in Split]),
        ("centre", centres, list(dataset.info.centres)),
        ("case", ids, sorted(known)),
    ):
        unknown = sorted(set(wanted) - set(there))
        if unknown:
            more = f" and {len(there) - 10} more" if len(there) > 10 else ""
            raise DataError(f"{dataset.root}: no {kind} {', '.join(unknown)}; it has {', '.join(there[:10])}{more}")
    chosen = [
        case
        for case in dataset.cases
        if (not splits or case.split in splits)
        and (not centres or case.centre in centres)
        and (not ids or case.case_id in ids)
    ]
    if not chosen:
        raise DataError(f"{dataset.root}: no case fits all of the given splits, centres and case ids")
    return tuple(chosen[:limit])


def require_free(out: Path) -> None:
    """Refuse to write where something is.

    Raises:
        DataError: `out` is a file or a folder that is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: exists and is not an empty folder; an export replaces nothing, choose another folder")


@contextmanager
def export_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that takes the name `out` when the block ends well.

    Raises:
        DataError: `out` is taken or cannot be written, or the disk is full.
    """
    require_free(out)
    with new_folder(out) as folder:
        yield folder


def takes_notes(dataset: Dataset, with_notes: bool | None) -> bool:
    """Whether notes are exported: as asked, else only those of a synthetic data set (clinical notes name patients)."""
    return dataset.info.synthetic if with_notes is None else with_notes


def copy_volume(source: Path, target: Path) -> None:
    """Copy a NIfTI file to a name in `.nii.gz`: as it is, or compressed without a time stamp when it is `.nii`.

    Raises:
        DataError: the source is of another format.
    """
    name = source.name.lower()
    if name.endswith(".nii.gz"):
        shutil.copyfile(source, target)
    elif name.endswith(".nii"):
        with (
            source.open("rb") as stream,
            target.open("wb") as raw,
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        ):
            shutil.copyfileobj(stream, packed)
    else:
        raise DataError(f"{source}: expected a NIfTI file (.nii or .nii.gz)")


def write_about(folder: Path, dataset: Dataset, cases: Sequence[Case], text: str, remarks: Sequence[str]) -> None:
    """Write `README.txt` (origin, use, `text` on the files, remarks) and `cases.csv` (case, centre, split)."""
    info = dataset.info
    kind = "SYNTHETIC DATA, no real patient" if info.synthetic else "Clinical data"
    lines = [
        RESEARCH_ONLY,
        "",
        f"{kind}: {len(cases)} case(s) of {info.name} {info.version}, content hash {info.content_hash}.",
        f"Label: {info.label}. {info.notice}",
        "",
        text,
    ]
    if remarks:
        lines += ["", "To note:", *(f"- {remark}" for remark in remarks)]
    write_text(folder / "README.txt", "\n".join(lines) + "\n")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["case_id", "centre", "split"])
    writer.writerows([case.case_id, case.centre, case.split.value] for case in cases)
    write_text(folder / "cases.csv", table.getvalue())


NIFTI_FILES = """\
<case id>/ct.nii.gz      CT in HU
<case id>/target.nii.gz  the whole target, 0 or 1, on the CT's grid
<case id>/parts.nii.gz   where the data set has them: the target's parts as a label map
<case id>/note.txt       where notes are exported: the clinical note
cases.csv                case id, centre and split

Values of parts.nii.gz (the boost lies inside the breast, so the breast is 1 and 9):
"""


def export_nifti(
    dataset: Dataset,
    cases: Sequence[Case],
    out: Path,
    with_notes: bool | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Copy cases into one plain folder each: `ct.nii.gz`, `target.nii.gz`, `parts.nii.gz`, `note.txt`.

    Volumes are copied byte for byte, with whatever their headers say.

    Args:
        dataset: an opened data set.
        cases: some of its cases.
        out: new, or empty.
        with_notes: see `takes_notes`.
        progress: called after each case.

    Raises:
        DataError: `out` is taken or cannot be written, or the disk is full.
    """
    notes = takes_notes(dataset, with_notes)
    remarks: list[str] = []
    with export_folder(out) as folder:
        for done, case in enumerate(cases, 1):
            own = folder / case.case_id
            own.mkdir()
            copy_volume(case.image, own / "ct.nii.gz")
            copy_volume(case.target, own / "target.nii.gz")
            if parts_path(case).is_file():
                copy_volume(parts_path(case), own / "parts.nii.gz")
            else:
                remarks.append(f"{case.case_id}: the data set has no parts of this target")
            if notes:
                write_text(own / "note.txt", case.note)
            if progress is not None:
                progress(done)
        values = "".join(f"{part.value} {part.estro}\n" for part in Part)
        write_about(folder, dataset, cases, NIFTI_FILES + values.rstrip("\n"), remarks)
    return Exported(out, len(cases), tuple(remarks))
