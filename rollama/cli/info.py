"""`rollama info`: what this installation offers, without loading anything heavy."""

from __future__ import annotations

import json
import platform

import typer
from rich.console import Console
from rich.table import Table

from rollama import RESEARCH_ONLY, __version__


def info(as_json: bool = typer.Option(False, "--json", help="Print machine-readable JSON.")) -> None:
    """List tasks, methods, base models, presets and installed versions."""
    from rollama.core.manifest import installed_versions
    from rollama.core.registry import BUNDLED_BASES, DESCRIPTIONS
    from rollama.presets import load_preset, preset_names

    kinds: dict[str, dict[str, str]] = {}
    for item, text in DESCRIPTIONS.items():
        kinds.setdefault(type(item).__name__, {})[str(item)] = text
    presets = {name: load_preset(name).description for name in preset_names()}
    found = {
        "rollama": __version__,
        "notice": RESEARCH_ONLY,
        "python": platform.python_version(),
        "packages": installed_versions(),
        "choices": kinds,
        "bases": BUNDLED_BASES,
        "presets": presets,
    }
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    console = Console()
    console.print(f"rollama {__version__} - {RESEARCH_ONLY}", highlight=False)
    for title, rows in [*kinds.items(), ("Base models", BUNDLED_BASES), ("Presets", presets)]:
        table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2))
        for name, text in rows.items():
            table.add_row(f"[bold]{name}[/]", text)
        console.print(table)
    console.print("installed: " + ", ".join(f"{k} {v}" for k, v in installed_versions().items()), highlight=False)
