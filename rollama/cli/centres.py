"""`rollama centres`: training on several centres, each centre left out once, and adaptation to a new one.

Federated training has verbs of its own (`rollama federation`). See docs/centres.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markdown import Markdown

from rollama.cli.options import PRESET, SET
from rollama.cli.train import What

WORKSPACE = typer.Option(None, help="Folder with models/ and train/. Default: runs/<preset>.")
DATASET = typer.Option(None, help="Data set folder or reference. Default: <workspace>/cohort.")
LIMIT = typer.Option(None, min=1, help="Score at most so many cases a centre and split.")

app = typer.Typer(help="Train on several centres; leave each out once; adapt to a new one.", no_args_is_help=True)


@app.command("train")
def train(
    what: What = typer.Argument(..., help="s, p or seg."),
    mode: str | None = typer.Option(
        None, help="pooled or leave-one-centre-out; for federated see 'rollama federation'. Default: the preset's."
    ),
    preset: str = PRESET,
    overrides: list[str] = SET,
    workspace: Path | None = WORKSPACE,
    dataset: str | None = DATASET,
    name: str | None = typer.Option(None, help="Name of the models. Default: s, p or seg."),
    init: str | None = typer.Option(None, help="Start from this trained model's weights: folder or reference."),
    limit: int | None = LIMIT,
) -> None:
    """Train as `centres.mode` says and report every centre. The same command goes on; what is trained is reused."""
    from rollama.centres.scoring import Entry, held_out
    from rollama.centres.studies import LEFT_OUT, folds
    from rollama.cli.train import model_config, train_model
    from rollama.data.case import Split
    from rollama.data.dataset import open_dataset
    from rollama.training.config import CentresMode

    chosen, place, folder = _opened(preset, overrides, workspace, dataset)
    config = model_config(what, chosen)
    if mode is not None:
        config = config.updated(centres=config.centres.model_dump() | {"mode": mode})
    called = name or what.value
    data = open_dataset(folder, check_volumes=False)

    def trained(title: str, settings: Any) -> Path:
        return Path(str(train_model(what, chosen, folder, place, title, init=init, config=settings)))

    if config.centres.mode is not CentresMode.LEAVE_ONE_OUT:
        model = trained(called, config)
        entries = [Entry(str(config.centres.mode), model, held_out(data, limit))]
        _report(what, entries, place / "centres" / called, data, f"{what}: {config.centres.mode}")
        return
    entries = []
    for fold in folds(config, data, called):
        model = trained(fold.name, fold.config)
        entries.append(Entry(LEFT_OUT, model, held_out(data, limit, fold.centre)))
        for centre in data.info.external_centres:
            if cases := data.select(Split.EXTERNAL, centre=centre)[:limit]:
                entries.append(Entry(f"without {fold.centre}", model, cases))
    title = f"{what}: each centre by the model that never saw it; the unseen centre by every such model"
    _report(what, entries, place / "centres" / f"{called}-{LEFT_OUT}", data, title)


@app.command("adapt")
def adapt(
    what: What = typer.Argument(..., help="s, p or seg."),
    init: str = typer.Option(..., help="The trained model to adapt: folder or reference."),
    centre: str = typer.Option(..., help="The new centre; the model should not have seen it."),
    cases: str = typer.Option("1,3,10", help="Numbers of the centre's training cases."),
    preset: str = PRESET,
    overrides: list[str] = SET,
    workspace: Path | None = WORKSPACE,
    dataset: str | None = DATASET,
    name: str | None = typer.Option(None, help="Name of the models. Default: few-s, few-p or few-seg."),
    limit: int | None = LIMIT,
) -> None:
    """Adapt a model to a new centre with few cases, as a curve over their number: table and picture."""
    from rollama.centres.scoring import Entry, held_out
    from rollama.centres.studies import curve, draw_curve, few_shot
    from rollama.cli.train import model_config, train_model
    from rollama.core.errors import ConfigError
    from rollama.data.dataset import open_dataset
    from rollama.data.store import resolve

    try:
        numbers = [int(part) for part in cases.split(",")]
    except ValueError as error:
        raise ConfigError(f"--cases: found {cases!r}; give numbers such as 1,3,10") from error
    chosen, place, folder = _opened(preset, overrides, workspace, dataset)
    data = open_dataset(folder, check_volumes=False)
    called = name or f"few-{what.value}"
    held = held_out(data, limit, centre)
    systems, entries = {"before": 0}, [Entry("before", resolve(init), held)]
    for number, fold in zip(
        sorted(set(numbers)), few_shot(model_config(what, chosen), centre, numbers, called), strict=True
    ):
        model = train_model(what, chosen, folder, place, fold.name, init=init, config=fold.config)
        label = f"{number} case{'' if number == 1 else 's'}"
        systems[label] = number
        entries.append(Entry(label, Path(str(model)), held))
    out = place / "centres" / f"{called}-{centre}"
    records = _report(what, entries, out, data, f"{what}: adaptation to {centre}")
    draw_curve(out / "curve.png", what.value, centre, curve(what.value, records, systems), data.info.synthetic)
    typer.echo(str(out / "curve.png"))


@app.command("compare")
def compare(
    what: What = typer.Argument(..., help="s, p or seg."),
    models: list[str] = typer.Argument(..., help="NAME=FOLDER of each model, such as federated=fed/model."),
    dataset: str = typer.Option(..., help="Data set folder or reference."),
    out: Path = typer.Option(..., help="Folder for the tables."),
    limit: int | None = LIMIT,
) -> None:
    """Score several models of one kind on the same held-out cases: a table with intervals a centre."""
    from rollama.centres.scoring import Entry, held_out
    from rollama.core.errors import ConfigError
    from rollama.data.dataset import open_dataset
    from rollama.data.store import resolve

    data = open_dataset(resolve(dataset), check_volumes=False)
    held = held_out(data, limit)
    entries = []
    for item in models:
        system, separator, folder = item.partition("=")
        if not separator or not system:
            raise ConfigError(f"{item}: expected NAME=FOLDER")
        entries.append(Entry(system, Path(folder), held))
    if len({entry.system for entry in entries}) < len(entries):
        raise ConfigError("every model needs a name of its own")
    _report(what, entries, out, data, f"{what}: comparison")


@app.command("measure")
def measure(
    model: str = typer.Argument(
        ..., help="A SEG, such as a federation's, or an S or P with --set: folder or reference."
    ),
    dataset: str = typer.Option(
        ...,
        help="Data set folder or reference; its training and validation cases are used. S, P: what it was trained on.",
    ),
    out: Path = typer.Option(..., help="Folder of the new artefact."),
    only: list[str] = typer.Option([], help="Measure on this centre's cases only; may be given again."),
    overrides: list[str] = typer.Option(
        [],
        "--set",
        metavar="KEY=VALUE",
        help="Apply the model in another way, such as inference.mirrored=true; S and P: mirrored_look=true.",
    ),
    workspace: str | None = typer.Option(
        None,
        help="Folder or s3://bucket/prefix whose lineage is told. Default: the one that --out lies in, as models/NAME.",
    ),
) -> None:
    """Measure a SEG's threshold, reach, calibration and what is usual again, on cases at hand; no weight changes.

    An S or P has nothing to measure; with --set mirrored_look=true it takes a second look at the mirrored text.
    """
    from rollama.centres.measuring import measure_again
    from rollama.cli.progress import bar
    from rollama.core.errors import ConfigError
    from rollama.core.storage import locate
    from rollama.data.store import resolve
    from rollama.lineage.ledger import has_ledger
    from rollama.lineage.record import record_training
    from rollama.text.applied import apply_again
    from rollama.text.checkpoint import KIND as TEXT
    from rollama.training.artefact import read_manifest
    from rollama.training.config import CentresSection

    centres = CentresSection(only=tuple(only))
    cases = resolve(dataset)
    trained = resolve(model)
    manifest = read_manifest(trained)
    if manifest.get("kind") == TEXT:
        if only:
            raise ConfigError("--only: an S or P is not measured on cases; leave it out")
        made, task = apply_again(trained, cases, out, overrides), str(manifest["task"])
    else:
        with bar("measuring (cases)", 1) as update:
            made, task = measure_again(trained, cases, out, centres, changes=overrides, progress=update), "seg"
    around = out.resolve().parent.parent
    if workspace is not None or has_ledger(around):
        record_training(locate(workspace or around), made, task, cases)
    if task == "seg":
        found = read_manifest(made)
        typer.echo(f"threshold {found['threshold']}, {found['metrics']}", err=True)
    typer.echo(str(out))


def _opened(preset: str, overrides: list[str], workspace: Path | None, dataset: str | None) -> tuple[Any, Path, Path]:
    """The preset, the workspace and the data set's folder."""
    from rollama.cli.train import default_dataset
    from rollama.data.store import resolve
    from rollama.presets import load_preset

    chosen = load_preset(preset, overrides)
    place = workspace or Path("runs") / chosen.name
    return chosen, place, resolve(dataset or default_dataset(place, chosen))


def _report(what: What, entries: list[Any], out: Path, data: Any, title: str) -> list[Any]:
    """Score, write the study's files and print the tables."""
    from rollama.centres.scoring import score, write_study
    from rollama.training.artefact import artefact_hash

    console = Console(stderr=True)
    records = []
    for entry in entries:
        console.print(f"scoring {entry.system} on {len(entry.cases)} cases", highlight=False)
        records += score(what.value, entry, out / "cache", data.info.content_hash)
    about = {
        "dataset": data.info.content_hash,
        "models": [{"system": e.system, "weights": artefact_hash(e.model), "cases": len(e.cases)} for e in entries],
    }
    write_study(out, what.value, records, about, data.info.synthetic, title)
    text = (out / "centres.md").read_text(encoding="utf-8")
    Console(width=None if Console().is_terminal else 160).print(Markdown(text))
    return records
