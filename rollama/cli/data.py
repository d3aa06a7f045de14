"""`rollama data import|add|check|describe`: a hospital's own CTs, targets and plans."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from rollama.cli.options import TELL

if TYPE_CHECKING:
    from rollama.data.case import Case

app = typer.Typer(help="Take in, check and describe your own CTs, targets and plans.", no_args_is_help=True)


class Layout(StrEnum):
    """How the volumes lie on disk."""

    NIFTI = "nifti"
    NNUNET = "nnunet"
    RTSTRUCT = "rtstruct"


class Label(StrEnum):
    """What the masks are."""

    CTV = "CTV"
    PTV = "PTV"


@app.command("import")
def import_(
    layout: Layout = typer.Argument(..., help="nifti: files by pattern. nnunet: DatasetXXX_Name. rtstruct: DICOM."),
    source: Path = typer.Argument(..., help="Folder with the volumes; rtstruct: one sub-folder a patient."),
    out: Path = typer.Argument(..., help="Folder of the data set to make."),
    texts: Path = typer.Option(..., help="File of JSON lines: id, plan, and for S and P also note and summary."),
    mapping: list[str] = typer.Option(
        ["plan=plan"], "--map", metavar="FIELD=COLUMN", help="note=, summary= or plan= a column. Repeatable."
    ),
    case_id: str = typer.Option("case_id", "--id", help="Column with the case's id, as the files are named."),
    split: str | None = typer.Option(None, "--split", help="Column with train, validation, test or external."),
    label: Label = typer.Option(..., help="What the masks are."),
    image: str | None = typer.Option(None, help="nifti: the CT of a case. Default: {id}/ct.nii.gz"),
    mask: str | None = typer.Option(None, help="nifti: its target. Default: {id}/target.nii.gz"),
    values: list[int] = typer.Option(
        [],
        "--value",
        help="nifti, nnunet: label value that is target; needed if there are others than 0 and 1. Repeatable.",
    ),
    rois: list[str] = typer.Option([], "--roi", help="rtstruct: ROI that belongs to the target. Repeatable."),
    centre: str = typer.Option("centre", help="Name of the hospital."),
    validation: float = typer.Option(0.1, min=0, max=1, help="Share drawn for validation, where no split is given."),
    test: float = typer.Option(0.1, min=0, max=1, help="Share drawn for test, where no split is given."),
    skip_bad: bool = typer.Option(False, "--skip-bad", help="Leave bad cases out instead of refusing all."),
    synthetic: bool = typer.Option(False, "--synthetic", help="The patients are invented."),
    workspace: str | None = TELL,
) -> None:
    """Make a data set that trains SEG (and S and P, if there are notes and summaries). Names every bad case at once.

    rollama data import nifti scans/ mine --texts plans.jsonl --map plan=PLAN --id mrn --label CTV

    rollama data import rtstruct patients/ mine --texts plans.jsonl --roi CTVp_breast --roi CTVn_L4 --label CTV
    """
    from rollama.cli.import_text import read_mapping, tell
    from rollama.cli.progress import bar
    from rollama.core.errors import ConfigError
    from rollama.data.intake import import_cases, nifti_cases, nnunet_cases
    from rollama.data.texts import Source, read_texts

    unfit = {
        "--roi": rois and layout is not Layout.RTSTRUCT,
        "--value": values and layout is Layout.RTSTRUCT,
        "--image": image and layout is not Layout.NIFTI,
        "--mask": mask and layout is not Layout.NIFTI,
    }
    if wrong := [name for name, given in unfit.items() if given]:
        raise ConfigError(f"{', '.join(wrong)}: not an option of {layout}")
    wanted = read_mapping(mapping)
    found = read_texts(Source(texts, wanted, case_id, split))
    if layout is Layout.NIFTI:
        raws = nifti_cases(source, image or "{id}/ct.nii.gz", mask or "{id}/target.nii.gz", values)
    elif layout is Layout.NNUNET:
        raws = nnunet_cases(source, values)
    else:
        from rollama.dicom.intake import rtstruct_cases

        raws = rtstruct_cases(source, rois)
    console = Console(stderr=True)
    with bar("reading and checking", len(raws), console) as update:
        taken = import_cases(raws, found, out, centre, label.value, synthetic, skip_bad, (validation, test), update)
    tell(workspace, out)
    for name, reason in sorted(taken.left_out.items()):
        console.print(f"left out {name}: {reason}", highlight=False, markup=False)
    unused = set(found) - {raw.case_id for raw in raws}
    console.print(
        f"{out}: {len(taken.dataset.cases)} cases" + (f"; {len(unused)} text(s) without a CT" if unused else ""),
        highlight=False,
    )
    _say_compared(taken.dataset.cases, console)
    if not synthetic:
        console.print("[bold red]The folder holds patients' data: keep it where they may be.[/]")


@app.command("add")
def add(
    root: Path = typer.Argument(..., help="Folder of the data set; it stays as it is."),
    out: Path = typer.Argument(..., help="Folder of the new version, with one training case more."),
    case_id: str = typer.Option(..., "--id", help="Id of the new case, a pseudonym."),
    corrects: str | None = typer.Option(None, help="Training case whose CT, contour and texts are taken if not given."),
    ct: Path | None = typer.Option(None, help="CT: NIfTI, NRRD or MHA file, or folder of a DICOM series."),
    contour: Path | None = typer.Option(None, help="The target on the CT's grid: NIfTI file."),
    plan: Path | None = typer.Option(None, help="The plan: text file, or plan.yaml as 'rollama predict' writes it."),
    summary: Path | None = typer.Option(None, help="Text file; only S and P need it."),
    note: Path | None = typer.Option(None, help="Text file; only S and P need it."),
    centre: str | None = typer.Option(None, help="The hospital. Default: the corrected case's, or the only one."),
    workspace: str | None = TELL,
) -> None:
    """Store a corrected plan or contour as a new training case, in a new version of the data set.

    rollama data add mine mine2 --id p17b --corrects p17 --contour corrected.nii.gz

    rollama data add mine mine2 --id p99 --ct ct.nii.gz --contour corrected.nii.gz --plan out/plan.yaml
    """
    from rollama.chain.inputs import read_input_ct, read_request
    from rollama.cli.import_text import tell
    from rollama.core.errors import ConfigError
    from rollama.data.additions import Addition, add_case
    from rollama.data.dataset import open_dataset
    from rollama.data.volumes import read_mask

    dataset = open_dataset(root, check_volumes=False)
    if centre is None:
        mine = [case.centre for case in dataset.cases if case.case_id == corrects] or list(dataset.info.centres)
        if len(set(mine)) != 1:
            raise ConfigError(f"--centre: name one of {', '.join(dataset.info.centres)}")
        centre = mine[0]
    texts = {}
    for name, path in (("plan_text", plan), ("summary", summary), ("note", note)):
        if path is not None:  # a plan of our form is checked with its contour; free text is taken as it is
            fields = path.suffix.lower() in (".yaml", ".yml")
            texts[name] = read_request(plan=path).text if fields else read_request(note=path).text
    scan = ct or next((case.image for case in dataset.cases if case.case_id == corrects), None)
    volume = read_input_ct(scan) if scan is not None else None
    if contour is not None and volume is None:
        raise ConfigError("--contour: needs the CT that it was drawn on; give --ct or --corrects")
    mask = read_mask(contour, volume) if contour is not None and volume is not None else None
    add_case(root, Addition(case_id, centre, texts, volume if ct else None, mask, corrects), out)
    tell(workspace, out)
    Console(stderr=True).print(f"{out}: {len(dataset.cases) + 1} cases, {case_id} among them", highlight=False)


@app.command("check")
def check(root: Path = typer.Argument(..., help="Folder of a data set.")) -> None:
    """Read every case and name all that is wrong: files, grids, values, and plans that contradict their targets."""
    from rollama.cli.progress import bar
    from rollama.core.errors import DataError
    from rollama.data.dataset import open_dataset
    from rollama.data.intake import check_cases

    dataset = open_dataset(root)
    console = Console(stderr=True)
    with bar("checking", len(dataset.cases), console) as update:
        bad = check_cases(dataset.cases, update)
    if bad:
        lines = "\n  ".join(f"{name}: {reason}" for name, reason in sorted(bad.items()))
        raise DataError(f"{root}: {len(bad)} of {len(dataset.cases)} cases contradict themselves:\n  {lines}")
    console.print(f"{root}: {len(dataset.cases)} cases, nothing found", highlight=False)
    _say_compared(dataset.cases, console)


def _say_compared(cases: Sequence[Case], console: Console) -> None:
    """Free text cannot contradict its target: nobody must think that it was compared."""
    compared = sum(case.plan is not None for case in cases)
    rest = "" if compared == len(cases) else "; the others are free text"
    console.print(
        f"{compared} of {len(cases)} plans have the plan's form and were compared with their targets{rest}",
        highlight=False,
    )


@app.command("describe")
def describe(
    root: Path = typer.Argument(..., help="Folder of a data set."),
    pictures: Path | None = typer.Option(None, help="New folder for a picture of each of some cases."),
    cases: int = typer.Option(12, min=1, help="At most so many pictures, of each centre as evenly as they come."),
) -> None:
    """Print counts, plans and target volumes; with --pictures draw CT and target on three planes."""
    from rollama.cli.cohort import describe as print_table
    from rollama.core.errors import ConfigError
    from rollama.core.files import new_folder
    from rollama.data.dataset import in_turn, open_dataset

    print_table(root)
    if pictures is None:
        return
    if pictures.exists():
        raise ConfigError(f"{pictures}: is there already; name another folder")
    dataset = open_dataset(root, check_volumes=False)
    chosen = in_turn([dataset.select(centre=centre) for centre in dataset.info.centres])[:cases]
    with new_folder(pictures) as folder:
        for case in chosen:
            (folder / f"{case.case_id}.png").write_bytes(_picture(case, dataset.info.synthetic))
    Console(stderr=True).print(f"{pictures}: {len(chosen)} pictures", highlight=False)


def _picture(case: Case, synthetic: bool) -> bytes:
    from rollama.data.slices import draw_planes, figure_png
    from rollama.data.volumes import read_ct, read_mask

    volume = read_ct(case.image)
    title = f"{case.case_id} ({case.centre}, {case.split})" + (" - SYNTHETIC" if synthetic else "")
    return figure_png(draw_planes(volume, {"target": read_mask(case.target, volume)}, title=title))
