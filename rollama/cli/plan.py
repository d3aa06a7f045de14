"""`rollama plan train`: what a run needs, before it is submitted."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from rollama.cli.options import PRESET, SET

if TYPE_CHECKING:
    from rollama.core.registry import Task
    from rollama.text.config import TextConfig

app = typer.Typer(help="See what a job needs before it starts.", no_args_is_help=True)


class Text(StrEnum):
    """The models that are fine-tuned language models."""

    S = "s"
    P = "p"


@app.callback()
def group() -> None:
    """See what a job needs before it starts."""


@app.command("train")
def train(
    what: Text = typer.Argument(..., help="s: note -> summary. p: summary -> plan."),
    preset: str = PRESET,
    overrides: list[str] = SET,
    gpu: str = typer.Option("a100-80", help="Kind of GPU: a100-40, a100-80, h100, h200, l40s, a6000."),
    length: int | None = typer.Option(None, min=8, help="Tokens of a text. Default: max_tokens, the worst case."),
    dataset: Path | None = typer.Option(None, help="Take the lengths of this data set's training texts instead."),
) -> None:
    """Parameters, memory a GPU, tokens a step, communication and an estimate of time.

    Nothing is loaded or started: activations are counted in a pass without values. Bytes follow from the configuration;
    the time rests on an assumed share of the GPU's peak.
    """
    from rollama.core.errors import ConfigError
    from rollama.core.registry import Task
    from rollama.presets import load_preset
    from rollama.text.budget import EFFICIENCY, GPUS, RESERVE, plan_training

    if gpu not in GPUS:
        raise ConfigError(f"--gpu: unknown kind {gpu!r}; accepted: {', '.join(GPUS)}")
    kind = GPUS[gpu]
    config = load_preset(preset, overrides).text(Task(what.value))
    longest, typical, share = length or config.max_tokens, length or config.max_tokens, 0.3
    if dataset is not None:
        longest, typical, share = _lengths(config, Task(what.value), dataset)
    worst = plan_training(config, longest, share)
    usual = plan_training(config, typical, share)
    console = Console()
    table = Table(title=f"{what} with {preset} on {config.scale.workers} x {kind.name}", show_header=False)
    table.add_row("base", config.base)
    table.add_row("parameters, trained", f"{worst.parameters:,}, {worst.trained:,}")
    table.add_row("texts and tokens a step", f"{config.batch}, {usual.tokens:,} (texts of {typical} tokens)")
    for name in ("weights", "optimizer", "gradients", "activations", "head"):
        table.add_row(f"{name} a GPU", f"{getattr(worst, name) / 2**30:.2f} GiB")
    need = worst.memory + RESERVE
    table.add_row(
        f"memory a GPU, texts of {longest}",
        f"{need / 2**30:.1f} of {kind.memory_gib:g} GiB, {RESERVE / 2**30:g} of them for CUDA (assumed)",
    )
    computing, sending = usual.seconds(kind, config.scale.workers)
    table.add_row("sent a GPU and step", f"{usual.sent / 1e9:.3f} GB, {sending:.2f} s at {kind.link_gbs:g} GB/s")
    table.add_row("computing a step", f"{computing:.2f} s at {EFFICIENCY:.0%} of {kind.tflops:g} TFLOP/s (assumed)")
    low, high = (config.steps * value / 3600 for value in (max(computing, sending), computing + sending))
    table.add_row(f"{config.steps} steps", f"{low:.1f} to {high:.1f} h, more if data or the network is slow")
    console.print(table)
    if need > kind.memory_gib * 2**30:
        raise ConfigError(
            f"{need / 2**30:.1f} GiB a GPU do not fit {kind.name}: lower micro_batch or max_tokens, set "
            "activation_checkpointing=true, raise zero.stage or workers, or take a larger GPU"
        )


def _lengths(config: TextConfig, task: Task, dataset: Path) -> tuple[int, int, float]:
    from rollama.core.errors import DataError
    from rollama.data.case import Split
    from rollama.data.dataset import open_texts
    from rollama.data.tokenization import length_report, tokenize_cases
    from rollama.language.base import load_tokenizer

    cases = open_texts(dataset).select(Split.TRAIN)
    if not cases:
        raise DataError(f"{dataset}: no case in the training split")
    tokenizer = load_tokenizer(config.base, config.allow_download)
    report = length_report(tokenize_cases(tokenizer, task, cases, config.max_tokens, config.template))
    return report.longest, report.median, report.answer_share
