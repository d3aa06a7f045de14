"""Options that several verbs share, worded once."""

from __future__ import annotations

import typer

PRESET = typer.Option("local", "--preset", help="Bundled preset (see 'rollama info') or a .yaml file.")
SET = typer.Option(
    [], "--set", metavar="KEY=VALUE", help="Override a key, such as s.lr=1e-3; 'text.' sets S and P. Repeatable."
)
TELL = typer.Option(
    None,
    "--workspace",
    help="Folder or s3://bucket/prefix whose lineage is told at once. Without it the first training on the data tells "
    "the lineage of its own workspace.",
)
WORKSPACE = typer.Option(None, "--workspace", help="Folder with cohort/, models/ and train/. Default: runs/<preset>.")
