"""Entry point of the `rollama` command: the table of verbs and the one place where errors become messages.

`rollama --help` and `rollama info` answer at once, so nothing here imports torch, ray or monai.
"""

from __future__ import annotations

import errno
import os
import sys

import typer
from rich.console import Console

from rollama import RESEARCH_ONLY, __version__
from rollama.cli import (
    ask,
    audit,
    centres,
    check,
    cohort,
    data,
    demo,
    evaluate,
    export,
    federation,
    import_text,
    info,
    jobs,
    lineage,
    monitor,
    plan,
    predict,
    preview,
    release,
    serve,
    store,
    submit,
    submit_job,
    train,
)
from rollama.cli.follow import CODES
from rollama.core.errors import ConfigError, RollamaError

app = typer.Typer(
    name="rollama",
    help=f"RO-LLaMA for breast radiotherapy: note -> summary (S) -> plan (P) -> 3D target (SEG++). {RESEARCH_ONLY}.",
    epilog="Start with 'rollama demo'. Every verb explains itself: 'rollama predict --help'.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cohort.app, name="cohort")
app.add_typer(data.app, name="data")
app.command("demo")(demo.demo)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("check")(check.check)
app.command("predict")(predict.predict)
app.command("push")(store.push)
app.command("pull")(store.pull)
app.add_typer(plan.app, name="plan")
app.command("export")(export.export)
app.command("import-text")(import_text.import_text)
app.command("preview")(preview.preview)
app.command("serve")(serve.serve)
app.command("serve-key")(serve.serve_key)
app.command("ask")(ask.ask)
app.add_typer(lineage.app, name="lineage")
app.add_typer(audit.app, name="audit")
app.add_typer(monitor.app, name="monitor")
app.add_typer(release.app, name="release")
app.add_typer(centres.app, name="centres")
app.add_typer(federation.app, name="federation")
app.add_typer(submit.submit, name="submit")
submit.submit.command("job", epilog=CODES)(submit_job.submit_job)
app.command("status")(jobs.status)
app.command("logs")(jobs.logs)
app.command("cancel")(jobs.cancel)
app.command("list")(jobs.list_jobs)
app.command("info")(info.info)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error, and Ray's own output."),
    _version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Print the version."),
) -> None:
    """Options before the verb."""
    if debug:
        os.environ["ROLLAMA_DEBUG"] = "1"


INTERRUPTED = 130
"""Exit code after Ctrl-C, by the shells' convention (128 + SIGINT)."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command; errors raised on purpose become one message and a non-zero exit code."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    console = Console(stderr=True)
    try:
        app(args=arguments)
    except SystemExit as finished:
        code = finished.code if isinstance(finished.code, int) else 1
        if code == INTERRUPTED:  # Typer turns Ctrl-C into this code without a word
            console.print("[bold]Stopped.[/] What was finished is kept; run the same command again.")
        return code
    except RollamaError as error:
        _fail(console, str(error))
        return int(getattr(error, "exit_code", 2 if isinstance(error, ConfigError) else 1))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _fail(console, f"the disk is full ({error.filename or 'while writing'}); free space and run the command again")
        return 1
    return 0


def _fail(console: Console, message: str) -> None:
    if os.environ.get("ROLLAMA_DEBUG"):
        console.print_exception()
    console.print("[bold red]error:[/] ", end="")
    console.print(message, markup=False, highlight=False, soft_wrap=True)
