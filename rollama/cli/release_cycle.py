"""`rollama release cycle`: retraining as a habit. Nothing here that the other verbs do not do; it only joins them."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console

from rollama.cli.options import PRESET, SET
from rollama.cli.release_keys import CONFIG, KEY
from rollama.cli.train import What


def cycle(
    dataset: str = typer.Option(
        ..., "--dataset", help="The new data set: folder or reference. It trains, and its held-out cases judge."
    ),
    judge_on: str | None = typer.Option(None, "--judge-on", help="Another data set whose held-out cases judge."),
    what: list[What] = typer.Option(
        list(What), "--train", help="Models to train; the others stay the released ones. Repeatable."
    ),
    preset: str = PRESET,
    overrides: list[str] = SET,
    workspace: str | None = typer.Option(
        None, help="Folder or s3://bucket/prefix for runs and models. Default: runs/<preset>."
    ),
    key: Path = KEY,
    out: Path | None = typer.Option(None, help="Folder for the verdict. Default: below 'work' of the site's file."),
    gpus: int = typer.Option(0, min=0, max=1, help="Evaluate on a GPU instead of the CPU."),
    config: Path | None = CONFIG,
) -> None:
    """New data -> train -> evaluate -> gate -> promote, or a report of why not.

    Runs that are finished are found, interrupted ones go on, so the same command again is the way after any failure. It
    never promotes what the gate refuses (exit codes 3 and 4), and waits for people where the protocol wants their
    approval: then it ends well after the report, and 'rollama release promote' is for them.
    """
    from rollama.cli.release import desk_of, say_released, show
    from rollama.cli.release_evaluate import judge, release, signed_protocol
    from rollama.cli.train import train_model
    from rollama.core.storage import locate
    from rollama.data.store import is_reference
    from rollama.presets import load_preset
    from rollama.release.keys import Role, load_private
    from rollama.release.site import read_site
    from rollama.release.verdict import Outcome, demand

    site, folder = read_site(config)
    desk = desk_of(site, folder)
    desk.trust.check_signer(Role.RELEASE, load_private(key), key)  # before hours of training
    protocol, _, _ = signed_protocol(site, desk.trust)
    chosen, console = load_preset(preset, overrides), Console(stderr=True)
    place = locate(workspace or Path("runs") / chosen.name)
    data = dataset if is_reference(dataset) else Path(dataset)
    models = {
        str(item): str(train_model(item, chosen, data, place, str(item), console)) for item in dict.fromkeys(what)
    }
    trained_on = [dataset] if judge_on else []
    verdict, where = judge(
        site, None, models, judge_on or dataset, trained_on, key, out, None, None, None, gpus, same_is_fine=True
    )
    if verdict is None:
        console.print("the trained models are the released ones; nothing to do", highlight=False)
        return
    show(verdict, where)
    demand(verdict)
    if verdict.outcome is Outcome.PASSED and protocol.approval.needed:
        console.print(
            f"passed; {protocol.approval.needed} approval(s) are needed: rollama release approve {where}, then "
            f"rollama release promote {where}", highlight=False, soft_wrap=True,
        )  # fmt: skip
        return
    say_released(release(desk, where, key))
