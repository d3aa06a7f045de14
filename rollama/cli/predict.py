"""`rollama predict`: one patient through the chain, from a note and a CT to summary, plan and target."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console

from rollama import RESEARCH_ONLY


def predict(
    ct: Path = typer.Option(..., "--ct", help="CT as NIfTI, NRRD or MHA file, or a folder with one DICOM series."),
    out: Path = typer.Option(..., "--out", help="Folder for the results; an earlier prediction there is replaced."),
    note: Path = typer.Option(None, "--note", help="Clinical note, UTF-8 text. Runs S, P and SEG."),
    summary: Path = typer.Option(None, "--summary", help="Summary, UTF-8 text, instead of a note. Runs P and SEG."),
    plan: Path = typer.Option(None, "--plan", help="Plan as .yaml fields or .txt sentences. Runs SEG only."),
    models: Path = typer.Option(Path("runs/demo/models"), "--models", help="Folder with the models s/, p/ and seg/."),
) -> None:
    """Summarise the note, suggest a plan and segment the target on the CT.

    Writes summary.txt, plan.yaml, plan.txt, target.nii.gz (on the CT's own grid), overlay.png and manifest.json.
    """
    from rollama.chain.inputs import read_input_ct, read_note, read_plan
    from rollama.chain.outputs import check_output_folder, write_outputs
    from rollama.chain.run import Chain
    from rollama.cli.progress import bar
    from rollama.core.errors import ConfigError

    given = [option for option in (note, summary, plan) if option is not None]
    if len(given) != 1:
        raise ConfigError(f"give exactly one of --note, --summary and --plan; found {len(given)}")
    console = Console(stderr=True)
    check_output_folder(out)
    texts = {
        "note": read_note(note) if note else None,
        "summary": read_note(summary, "summary") if summary else None,
        "plan_text": read_plan(plan)[0] if plan else None,
    }
    with bar("predicting", 4, console) as update:
        update(0, note="reading the CT")
        volume = read_input_ct(ct)
        update(1, note="loading the models")
        chain = Chain.load(models, text=plan is None)
        update(2, note="reading and segmenting")
        result = chain.run(volume, **texts)
        update(3, note="writing")
        write_outputs(result, volume, out)
        update(4, note="")
    for warning in result.warnings:
        console.print(f"[bold yellow]note:[/] {warning}", highlight=False)
    console.print(f"{out}: done. {RESEARCH_ONLY}", highlight=False)
