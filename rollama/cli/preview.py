"""`rollama preview`: look at what a model is trained on before training it."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from rollama.cli.options import PRESET, SET, WORKSPACE


def preview(
    case_id: str | None = typer.Argument(None, help="Case to show. Default: the first training case."),
    preset: str = PRESET,
    overrides: list[str] = SET,
    workspace: Path | None = WORKSPACE,
    dataset: Path | None = typer.Option(None, help="Data set folder. Default: <workspace>/cohort."),
    picture: Path | None = typer.Option(None, "--picture", help="Also write the CT with its target as a PNG here."),
) -> None:
    """Show a case as S and P see it: prompt tokens dimmed, answer tokens (those that carry the loss) bright.

    Prints token lengths of the whole training split first, so that truncation is known before any training.
    """
    from rollama.core.errors import DataError
    from rollama.core.registry import Task
    from rollama.data.case import Split
    from rollama.data.dataset import open_dataset, open_texts
    from rollama.data.tokenization import length_report, source_and_answer, tokenize_cases
    from rollama.language.base import load_tokenizer
    from rollama.presets import load_preset

    chosen = load_preset(preset, overrides)
    root = dataset or (workspace or Path("runs") / chosen.name) / "cohort"
    data = open_texts(root)
    training = data.select(Split.TRAIN)
    found = [case for case in data.cases if case.case_id == case_id] if case_id else list(training[:1])
    if not found:
        raise DataError(f"{data.root}: no case {case_id!r}; for example {', '.join(c.case_id for c in data.cases[:3])}")
    console = Console()
    if not data.info.synthetic:
        console.print("[bold red]This shows clinical text of a real patient.[/]")
    for task in Task:
        if not any(all(source_and_answer(task, case)) for case in training):
            console.print(f"[bold]{task}[/]: no texts for it in this data set", highlight=False)
            continue
        config = chosen.text(task)
        tokenizer = load_tokenizer(config.base, config.allow_download)
        report = length_report(tokenize_cases(tokenizer, task, training, config.max_tokens, config.template))
        console.print(
            f"[bold]{task}[/]: {report.rows} training rows, tokens: median {report.median}, 90 % {report.p90}, longest "
            f"{report.longest} of at most {config.max_tokens}; {report.answer_share:.0%} are answer",
            highlight=False,
        )
        (row,) = tokenize_cases(tokenizer, task, found, config.max_tokens, config.template)
        shown = Text(tokenizer.decode(row.ids[: row.prompt_length]), style="dim")
        shown.append(tokenizer.decode(row.ids[row.prompt_length :]), style="bold green")
        console.print(shown)
    if picture:
        case = next(case for case in open_dataset(root, check_volumes=False).cases if case.case_id == found[0].case_id)
        _draw(case.image, case.target, picture, f"{found[0].case_id} - true target")
        console.print(f"{picture}: written", highlight=False)


def _draw(image: Path, target: Path, out: Path, title: str) -> None:
    from rollama.core.files import new_file
    from rollama.data.slices import draw_planes
    from rollama.data.volumes import read_ct, read_mask

    volume = read_ct(image)
    with new_file(out) as temporary:
        draw_planes(volume, {"target": read_mask(target, volume)}, title).savefig(temporary, format="png", dpi=120)
