"""`rollama predict`: one patient through the chain, from a note and a CT to summary, plan and target."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console

from rollama import RESEARCH_ONLY
from rollama.core.registry import Decoding


def predict(
    ct: Path = typer.Option(..., "--ct", help="CT as NIfTI, NRRD or MHA file, or a folder with one DICOM series."),
    out: Path = typer.Option(..., "--out", help="Folder for the results; an earlier prediction there is replaced."),
    note: Path | None = typer.Option(None, "--note", help="Clinical note, UTF-8 text. Runs S, P and SEG."),
    summary: Path | None = typer.Option(
        None, "--summary", help="Summary, UTF-8 text, instead of a note. Runs P and SEG."
    ),
    plan: Path | None = typer.Option(None, "--plan", help="Plan as .yaml fields or .txt sentences. Runs SEG only."),
    organs: Path | None = typer.Option(
        None, "--organs", help="Mask of organs on the CT's grid, if the model reads one."
    ),
    probability: bool = typer.Option(
        False, "--probability", help="Also write probability.nii.gz: how likely each voxel is target, calibrated."
    ),
    plan_decoding: Decoding = typer.Option(
        Decoding.FREE, help="constrained: hold P to the plan's form, so that every plan it ends parses."
    ),
    models: Path = typer.Option(Path("runs/demo/models"), "--models", help="Folder with the models s/, p/ and seg/."),
    workspace: str | None = typer.Option(
        None,
        "--workspace",
        help="Folder or s3://bucket/prefix whose lineage is told. Default: the folder above --models, if it has one.",
    ),
) -> None:
    """Summarise the note, suggest a plan and segment the target on the CT.

    Writes summary.txt, plan.yaml, plan.txt, target.nii.gz (on the CT's own grid), overlay.png and manifest.json; for a
    DICOM series also target.dcm, an RTSTRUCT on it.
    """
    from rollama.chain.inputs import hash_ct, read_input_ct, read_request
    from rollama.chain.outputs import check_out, write_outputs
    from rollama.chain.run import Chain, model_folders
    from rollama.cli.progress import bar
    from rollama.core.files import hash_file
    from rollama.core.storage import locate
    from rollama.data.organs import with_organs
    from rollama.lineage.ledger import has_ledger
    from rollama.lineage.record import record_prediction

    console = Console(stderr=True)
    request = read_request(note, summary, plan)
    check_out(out)
    model_folders(models, request.source)
    with bar("predicting", 4, console) as update:
        update(0, note="reading the CT")
        volume = read_input_ct(ct)
        inputs = {"ct": hash_ct(ct), "text": hash_file(note or summary or plan or ct)}
        if organs is not None:
            volume = with_organs(volume, organs)
            inputs["organs"] = hash_file(organs)
        update(1, note="loading the models")
        chain = Chain.load(models, request.source, plan_decoding)
        update(2, note="running the models")
        progress = lambda stage, done, total: update(2, note=f"{stage} {done}/{total}")  # noqa: E731
        result = chain.answer(request, volume, progress, probability)
        update(3, note="writing")
        written = write_outputs(result, volume, out, inputs, ct)
        if workspace is not None or has_ledger(models.parent):
            record_prediction(locate(workspace or models.parent), out, written)
        update(4)
    for warning in written["warnings"]:
        console.print(f"[bold yellow]look:[/] {warning}", highlight=False)
    console.print(f"{out}: done. {RESEARCH_ONLY}", highlight=False)
