"""Cases as DICOM, a folder a patient, for planning systems, contouring tools and archives.

Layout::

    <out>/README.txt                  what it is, and the cases without structure set
    <out>/cases.csv                   case id, centre and split
    <out>/<case id>/ct/*.dcm          one CT series, head first supine
    <out>/<case id>/rtstruct.dcm      the target and, where the data set has them, its parts, on that CT
    <out>/<case id>/note.txt          the clinical note, when notes are exported

A patient without a target has no `rtstruct.dcm`: a structure set needs at least one contour, and an empty one is
refused on import. The README and the result name these cases, so that none looks lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rollama.core.files import write_text
from rollama.data.case import Case
from rollama.data.dataset import Dataset
from rollama.data.export import Exported, Progress, export_folder, takes_notes, write_about
from rollama.data.parts import read_parts
from rollama.data.volumes import read_ct, read_mask
from rollama.dicom.rtstruct import write_rtstruct
from rollama.dicom.write import Identity, write_series

FILES = """\
<case id>/ct/*.dcm      CT series, head first supine
<case id>/rtstruct.dcm  structures on it: the whole target ({label}_Total) and its parts under TG-263 names
<case id>/note.txt      where notes are exported: the clinical note
cases.csv               case id, centre and split

Holes of a structure are drawn as keyholes (DICOM PS3.3 C.8.8.6.3). Structures are AUTOMATIC and UNAPPROVED."""


def export_dicom(
    dataset: Dataset,
    cases: Sequence[Case],
    out: Path,
    with_notes: bool | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write cases as CT series with structure set; the same data set gives the same bytes.

    Args:
        dataset: an opened data set.
        cases: some of its cases.
        out: new, or empty.
        with_notes: see `rollama.data.export.takes_notes`.
        progress: called after each case.

    Raises:
        DataError: an oblique CT or one that DICOM's 16 bits do not hold, a damaged label map, `out` is taken or cannot
            be written, or the disk is full.
    """
    notes = takes_notes(dataset, with_notes)
    remarks: list[str] = []
    with export_folder(out) as folder:
        for done, case in enumerate(cases, 1):
            own = folder / case.case_id
            own.mkdir()
            remarks += _write_patient(own, dataset, case)
            if notes:
                write_text(own / "note.txt", case.note)
            if progress is not None:
                progress(done)
        write_about(folder, dataset, cases, FILES.format(label=dataset.info.label), remarks)
    return Exported(out, len(cases), tuple(remarks))


def _write_patient(folder: Path, dataset: Dataset, case: Case) -> list[str]:
    """Write one patient's CT and structure set; returns what a reader must know about them."""
    site = dataset.info.generator.get("config", {}).get("site")
    part = "PELVIS" if site == "prostate" else "CHEST"
    identity = Identity(case.case_id, dataset.info.content_hash, dataset.info.synthetic, part)
    ct = read_ct(case.image)
    write_series(folder / "ct", ct, identity)
    target = read_mask(case.target, ct) > 0
    if not target.any():
        return [f"{case.case_id}: no target, so no rtstruct.dcm"]
    remarks = []
    rois = {f"{dataset.info.label}_Total": target}
    parts = read_parts(case, ct)
    if parts and case.plan is None:  # TG-263 names end with the side
        remarks.append(f"{case.case_id}: only the whole target; its plan does not parse, so the side is not known")
    elif case.plan is not None:
        rois |= {part.tg263(case.plan.side): mask for part, mask in parts.items()}
    write_rtstruct(folder / "rtstruct.dcm", ct, rois, identity)
    return remarks
