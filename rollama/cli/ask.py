"""`rollama ask`: one patient through an endpoint that runs elsewhere."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console

from rollama import RESEARCH_ONLY


def ask(
    url: str = typer.Option(..., "--url", help="The endpoint, such as https://rollama.hospital.example."),
    ct: Path = typer.Option(..., "--ct", help="CT as NIfTI, NRRD, MHA or zip, or a folder with one DICOM series."),
    out: Path = typer.Option(..., "--out", help="Folder for the results."),
    note: Path | None = typer.Option(None, "--note", help="Clinical note, UTF-8 text. Runs S, P and SEG."),
    summary: Path | None = typer.Option(None, "--summary", help="Summary instead of a note. Runs P and SEG."),
    plan: Path | None = typer.Option(None, "--plan", help="Plan as .yaml fields or .txt sentences. Runs SEG only."),
    probability: bool = typer.Option(False, "--probability", help="Also fetch probability.nii.gz."),
    key_file: Path | None = typer.Option(
        None, "--key-file", help="File with the bearer key. Default: variable ROLLAMA_API_KEY."
    ),
) -> None:
    """Send a CT and a text to an endpoint and fetch summary, plan and target.

    The files are those that 'rollama predict' writes. Ctrl-C stops the job at the endpoint, too.
    """
    from rollama.chain.inputs import read_request
    from rollama.chain.outputs import check_out
    from rollama.cli.progress import bar
    from rollama.client import Endpoint
    from rollama.core.files import new_folder
    from serve.auth import read_key

    request = read_request(note, summary, plan)
    check_out(out)
    endpoint = Endpoint(url, read_key(key_file))
    names = {"given": "plan"}
    texts: dict[str, str] = {names.get(str(request.source), str(request.source)): request.given}
    console = Console(stderr=True)
    with bar("sending", 1, console) as update:
        job = endpoint.pipeline(ct, probability=probability, **texts)
        update(1)
    try:
        with bar("predicting", 1, console) as update:
            for answer in job.follow():
                update(answer.done, total=answer.total or 1, note=answer.stage or answer.state)
    except KeyboardInterrupt:
        job.cancel()
        raise
    for warning in job.result().findings.warnings:
        console.print(f"[bold yellow]look:[/] {warning}", highlight=False)
    with new_folder(out.resolve()) as folder:
        job.save(folder)
    console.print(f"{out}: done. {RESEARCH_ONLY}", highlight=False)
