"""`rollama push` and `rollama pull`: data sets, models and bases to and from a content-addressed store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

if TYPE_CHECKING:
    from rollama.data.store import Progress

MIB = 1 << 20


class Kind(StrEnum):
    """What a folder is (the values of `rollama.data.store.Kind`, which loads more than `--help` should wait for)."""

    DATASET = "dataset"
    MODEL = "model"
    BASE = "base"


def push(
    kind: Kind = typer.Argument(..., help="What the folder is; it is checked before anything is sent."),
    folder: Path = typer.Argument(
        ...,
        help="Folder of a data set, a trained model, or a base model in the format of Transformers (for text.base).",
    ),
    store: str = typer.Argument(..., metavar="STORE-URI", help="s3://bucket/prefix, or a folder all nodes see."),
) -> None:
    """Put a data set, a model or a base into a store and print its reference, which names exactly this content.

    S3 is found by AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION. Run again to resume.
    """
    from rollama.data import store as stores

    with transfer(f"pushing {folder.name} (MiB)") as progress:
        reference = stores.push(folder, stores.Kind(kind.value), store, progress)
    typer.echo(str(reference))


def pull(
    reference: str = typer.Argument(..., metavar="REFERENCE", help="<store-uri>@sha256:<digest>, as push prints it."),
    folder: Path = typer.Argument(..., help="Folder to make; must not exist, be empty or hold this content."),
) -> None:
    """Bring stored content to this machine; every file's hash is checked. Run again to resume."""
    from rollama.data import store as stores

    parsed = stores.parse_reference(reference)
    with transfer(f"pulling {parsed.digest[:12]} (MiB)") as progress:
        stores.pull(parsed, folder, progress)
    Console(stderr=True).print(f"{folder}: holds {parsed}", highlight=False, soft_wrap=True)


@contextmanager
def transfer(title: str, console: Console | None = None) -> Iterator[Progress]:
    """A progress bar in MiB for `rollama.data.store`; it appears with the first bytes, so not for a cached folder."""
    from contextlib import ExitStack

    from rollama.cli.progress import Update, bar

    with ExitStack() as open_bar:
        shown: list[Update] = []

        def progress(done: int, total: int) -> None:
            whole = -(-total // MIB)
            if not shown:
                shown.append(open_bar.enter_context(bar(title, whole, console)))
            shown[0](min(whole, -(-done // MIB)), whole)

        yield progress
