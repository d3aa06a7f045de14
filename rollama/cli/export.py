"""`rollama export`: a trained S or P for other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer
from rich.console import Console


class Format(StrEnum):
    """Formats of an export."""

    MERGED = "merged"
    ADAPTER = "adapter"


def export(
    model: Path = typer.Argument(..., help="Folder of a trained S or P, such as runs/local/models/s."),
    out: Path = typer.Argument(..., help="Folder to make."),
    fmt: Format = typer.Option(
        Format.MERGED,
        "--format",
        help="merged: a whole Transformers model, float32. adapter: for PEFT, on the same base.",
    ),
    base: str | None = typer.Option(None, help="Name or folder of the base, if it is not where the model says."),
) -> None:
    """Write S or P as other programs load it.

    The merge is made in float32 and its logits are compared with those of base and adapter before anything is written.
    A GGUF file for llama.cpp is made from the merged folder by llama.cpp's own convert_hf_to_gguf.py.
    """
    from rollama.text.export import export_adapter, export_merged

    console = Console(stderr=True)
    if fmt is Format.ADAPTER:
        export_adapter(model, out)
        console.print(f"{out}: adapter written; PEFT loads it on the same base only", highlight=False)
    else:
        difference = export_merged(model, out, base)
        console.print(f"{out}: merged; largest difference of a logit {difference:.1e}", highlight=False)
