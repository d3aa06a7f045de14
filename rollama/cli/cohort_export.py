"""`rollama cohort export`: a data set, or some of it, in the formats of other tools."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer
from rich.console import Console


class Format(StrEnum):
    """Formats of an export."""

    NIFTI = "nifti"
    NNUNET = "nnunet"
    DICOM = "dicom"


class LabelChoice(StrEnum):
    """Names of `rollama.data.nnunet.Labels`, which this module must not import to stay light."""

    TARGET = "target"
    PARTS = "parts"


SHOWN_REMARKS = 5


def export(
    root: Path = typer.Argument(..., help="Folder of a data set."),
    out: Path = typer.Argument(..., help="Folder of the export; must not exist or be empty."),
    fmt: Format = typer.Option(
        ..., "--format", help="nifti: a plain folder a case. nnunet: nnU-Net v2. dicom: CT series and RTSTRUCT."
    ),
    split: list[str] = typer.Option([], "--split", help="Only this split, such as test or external. Repeatable."),
    centre: list[str] = typer.Option([], "--centre", help="Only this centre. Repeatable."),
    case: list[str] = typer.Option([], "--case", metavar="ID", help="Only this case. Repeatable."),
    limit: int | None = typer.Option(None, "--limit", min=1, help="At most this many cases, the first ones."),
    with_notes: bool | None = typer.Option(
        None,
        "--with-notes/--without-notes",
        help="Write the notes (nifti, dicom). Default: those of synthetic data only; clinical notes may name people.",
    ),
    labels: LabelChoice | None = typer.Option(
        None, "--labels", help="nnunet: the target (default), or its parts as regions."
    ),
    number: int | None = typer.Option(None, "--number", min=1, max=999, help="nnunet: dataset number. Default: 501."),
) -> None:
    """Export cases as NIfTI, for nnU-Net v2, or as DICOM for planning systems. Replaces nothing."""
    from rollama.cli.progress import bar
    from rollama.core.errors import ConfigError
    from rollama.data.dataset import open_dataset
    from rollama.data.export import export_nifti, require_free, select_cases
    from rollama.data.nnunet import NUMBER, Labels, export_nnunet

    if fmt is not Format.NNUNET and (labels or number):
        raise ConfigError(f"--labels and --number belong to --format nnunet, not to {fmt.value}")
    if fmt is Format.NNUNET and with_notes:
        raise ConfigError("--with-notes: nnU-Net has no place for notes; use --format nifti or dicom")
    require_free(out)
    dataset = open_dataset(root)
    cases = select_cases(dataset, split, centre, case, limit)
    console = Console(stderr=True)
    with bar(f"exporting as {fmt.value}", len(cases), console) as update:
        if fmt is Format.NNUNET:
            made = export_nnunet(dataset, cases, out, Labels(labels or Labels.TARGET), number or NUMBER, update)
        elif fmt is Format.DICOM:
            from rollama.dicom.export import export_dicom

            made = export_dicom(dataset, cases, out, with_notes, update)
        else:
            made = export_nifti(dataset, cases, out, with_notes, update)
    console.print(f"{made.folder}: {made.cases} case(s)", highlight=False)
    for remark in made.remarks[:SHOWN_REMARKS]:
        console.print(f"  {remark}", highlight=False, markup=False)
    if len(made.remarks) > SHOWN_REMARKS:
        console.print(f"  and {len(made.remarks) - SHOWN_REMARKS} more; README.txt has them all", highlight=False)
