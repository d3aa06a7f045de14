"""`rollama audit verify`: whether an audit trail, the endpoint's or a workspace's, is what it was."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(help="The audit trail of an endpoint or of a workspace.", no_args_is_help=True)


@app.callback()
def audit() -> None:
    """The audit trail of an endpoint or of a workspace."""


@app.command("verify")
def verify(
    store: str = typer.Argument(
        ..., help="Folder or s3://bucket/prefix that holds audit/: an endpoint's store, or a workspace's lineage/."
    ),
    heads: str | None = typer.Option(None, "--heads", help="Where the signed heads lie."),
    public_key: Path | None = typer.Option(
        None, "--public-key", help="Ed25519 public key in PEM (openssl pkey -in key.pem -pubout)."
    ),
) -> None:
    """Check every writer's chain; exit code 1 when an event was changed, added or removed.

    Without the signed heads, removed events at the end of a chain are not noticed.
    """
    from rollama.core.chain import load_public_key
    from rollama.core.chain import verify as check
    from rollama.core.errors import ConfigError, DataError
    from rollama.core.storage import open_storage

    if (heads is None) != (public_key is None):
        raise ConfigError("--heads and --public-key belong together: give both or none")
    key = load_public_key(public_key) if public_key else None
    chains = check(open_storage(store), open_storage(heads) if heads else None, key)
    table = Table("writer", "events", "signed", "verdict", box=None, padding=(0, 1), pad_edge=False)
    for chain in chains:
        table.add_row(chain.writer, str(chain.events), str(chain.signed), "; ".join(chain.problems) or "whole")
    Console(soft_wrap=True).print(table, highlight=False)
    bad = [chain.writer for chain in chains if chain.problems]
    if bad or not chains:
        raise DataError(
            f"{store}: " + (f"{len(bad)} of {len(chains)} chains are not whole" if bad else "no audit trail")
        )
