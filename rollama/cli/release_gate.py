"""`rollama release gate|fetch|values`: the gate of a schedule, for models that jobs on a cluster trained.

It trains nothing and asks no cluster: it looks into the workspace for what the jobs left, so it needs the store's and a
release key, and no right to make jobs. The chart's CronJob runs it in a pod of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from rollama.cli.release_keys import CONFIG, KEY

if TYPE_CHECKING:
    from rollama.core.storage import Location
    from rollama.release.history import History, Record
    from rollama.release.promotion import Desk
    from rollama.release.protocol import Protocol
    from rollama.release.site import Site
    from rollama.release.verdict import Parts, Verdict


def gate(
    jobs: list[str] = typer.Argument(..., help="Trainings by their names in --presets; evaluations are passed over."),
    presets: Path = typer.Option(..., "--presets", help="File with jobs: key presets.yaml of ConfigMap rollama-site."),
    dataset: str = typer.Option(
        ..., "--dataset", help="What they trained on: folder or reference. Its held-out cases judge."
    ),
    judge_on: str | None = typer.Option(None, "--judge-on", help="Another data set whose held-out cases judge."),
    workspace: str = typer.Option(..., help="Folder or s3://bucket/prefix that the jobs trained in."),
    reports: str | None = typer.Option(
        None, help="Folder or s3://bucket/prefix for verdicts and their pages. Default: WORKSPACE/release."
    ),
    key: Path = KEY,
    gpus: int = typer.Option(0, min=0, max=1, help="Evaluate on a GPU instead of the CPU."),
    config: Path | None = CONFIG,
) -> None:
    """Hold what a schedule trained against the released models; promote it, wait for people, or report why not.

    Ends well when it promoted, when these models are released already, or when the jobs have not trained all of them
    yet. The report (verdict, page, summary) lies below --reports in any case, and the summary is printed. What was
    judged is not judged again, so running it every hour costs a few reads; after an approval the next run promotes.
    """
    from rollama.cli.release import desk_of
    from rollama.cli.release_evaluate import signed_protocol
    from rollama.core.storage import join, locate
    from rollama.release.candidate import gather
    from rollama.release.keys import Role, load_private
    from rollama.release.promotion import settle
    from rollama.release.site import read_site

    site, folder = read_site(config)
    place = locate(workspace)
    site = site.updated(lineage=site.lineage or str(place))
    desk = desk_of(site, folder)
    desk.trust.check_signer(Role.RELEASE, load_private(key), key)
    protocol, _, digest = signed_protocol(site, desk.trust)
    root = str(locate(reports)) if reports else str(join(place, "release"))
    history = desk.history()
    history.require_whole("judged")
    current = history.released()
    tell_values(root, current)
    models, lacking = trained(jobs, presets, dataset, place)
    if lacking:
        say(f"nothing to judge yet: {', '.join(lacking)} not trained on this data with what --presets says now")
        return
    parts = gather(None, models, current.entry.candidate if current else None, site.store)
    if current is not None and current.entry.candidate and current.entry.candidate.release == parts.release:
        settle(desk)
        say(f"nothing to do: these models are released (record {current.entry.number})")
        return
    case = Case(desk, protocol, digest, history, parts, models, dataset, judge_on, key, gpus)
    case.run(root)


@dataclass(frozen=True)
class Case:
    """One candidate before the gate."""

    desk: Desk
    protocol: Protocol
    protocol_digest: str
    history: History
    parts: Parts
    models: dict[str, str]
    dataset: str
    judge_on: str | None
    key: Path
    gpus: int

    @property
    def site(self) -> Site:
        """Of the desk."""
        return self.desk.site

    def run(self, root: str) -> None:
        """Judge, promote, report; the report is written whatever happens."""
        from rollama.cli.release_evaluate import release
        from rollama.core.errors import RollamaError
        from rollama.core.storage import join, locate
        from rollama.release.approval import read_approvals
        from rollama.release.history import signer
        from rollama.release.keys import load_private
        from rollama.release.promotion import NotSettled, check_rolled_back
        from rollama.release.reports import fetch, report_name, require_approvals
        from rollama.release.verdict import demand

        current = self.history.released()
        number = current.entry.number if current else 0
        content = content_of(self.judge_on or self.dataset)
        name = report_name(self.parts, number, self.protocol_digest, content)
        place, local = str(join(locate(root), name)), self.site.work / name
        fetch(place, local)
        verdict: Verdict | None = None
        try:
            check_rolled_back(self.history, self.parts.release)
            verdict = self._verdict(local, number, content)
            demand(verdict)
            if self.protocol.approval.needed:
                mine = signer(load_private(self.key))
                require_approvals(local, self.protocol, self.desk.trust, read_approvals(local), mine)
            record = release(self.desk, local, self.key)
        except RollamaError as error:
            code = int(getattr(error, "exit_code", 1))
            next_ = _NEXT.get(code, "").replace("PLACE", place)
            _report(local, place, verdict, code, f"{error}\n\n{next_}")
            if isinstance(error, NotSettled):
                tell_values(root, self.desk.history().released())
            raise
        tell_values(root, record)
        _report(local, place, verdict, None, _PROMOTED.format(number=record.entry.number, root=root))

    def _verdict(self, local: Path, number: int, content: str) -> Verdict:
        """The verdict that is in the folder already, else a new one."""
        from rollama.cli.release_evaluate import judge
        from rollama.release.reports import known_verdict

        known, why = known_verdict(local, self.desk.trust, self.parts, number, self.protocol_digest, content)
        if known is not None:
            say("judged before; the verdict stands")
            return known
        if why:
            say(f"judging anew: {why}")
        trained_on = [self.dataset] if self.judge_on else []
        found, _ = judge(
            self.site, None, self.models, self.judge_on or self.dataset, trained_on, self.key, local, None, None, None,
            self.gpus,
        )  # fmt: skip
        assert found is not None, "the released model itself was sorted out before"
        return found


def trained(names: Sequence[str], presets: Path, dataset: str, workspace: Location) -> tuple[dict[str, str], list[str]]:
    """Models that the named jobs left in a workspace, and the names of those that are not there.

    A model counts if it was trained with the configuration that the presets say now, on this data.

    Raises:
        ConfigError: no such job, a preset that cannot be read, two jobs for one model, or none that trains.
    """
    from ray_jobs.remote import finished
    from rollama.cli.submit_job import presets_text
    from rollama.cli.train import What, model_config
    from rollama.cluster.presets import choose, parse_presets
    from rollama.core.errors import ConfigError
    from rollama.core.storage import join
    from rollama.presets import load_preset
    from rollama.training.runs import run_hash

    text, source = presets_text(presets, None)
    known, content = parse_presets(text, source), content_of(dataset)
    found: dict[str, str] = {}
    lacking: list[str] = []
    asked: list[str] = []
    for name in names:
        job = choose(known, name, source)
        if job.task == "evaluate":
            continue
        if job.task in asked:
            raise ConfigError(f"{source}: {name} trains {job.task}, and another job named before it does as well")
        asked.append(job.task)
        config = model_config(What(job.task), load_preset(job.preset, job.set))
        place = join(workspace, "models", job.name or job.task)
        done = finished(place, run_hash(config, job.task, content))
        if done is None:
            lacking.append(name)
        else:
            found[job.task] = str(done)
    if not asked:
        raise ConfigError(f"{source}: none of {', '.join(names)} trains a model; name those that do")
    return found, lacking


def content_of(dataset: str) -> str:
    """Content hash of a data set; of a reference without pulling it.

    Raises:
        ConfigError, DataError, ClusterError: it is none, or cannot be read.
    """
    from rollama.core.errors import DataError
    from rollama.data.dataset import open_texts
    from rollama.data.store import is_reference, parse_reference, read_stored

    if not is_reference(dataset):
        return open_texts(Path(dataset)).info.content_hash
    facts = read_stored(parse_reference(dataset)).facts
    if "content_hash" not in facts:
        raise DataError(f"{dataset}: not a data set")
    return str(facts["content_hash"])


def tell_values(root: str, record: Record | None) -> None:
    """Keep helm values of what is released beside the reports; the history decides, the file is for people."""
    from rollama.core.storage import open_storage
    from rollama.release.endpoint import values_text
    from rollama.release.reports import VALUES

    if record is None or record.entry.candidate is None:
        return
    text, shelf = values_text(record.entry.candidate), open_storage(root)
    if shelf.read_text(VALUES) != text:
        shelf.write_text(VALUES, text)


def fetch(
    place: str = typer.Argument(..., help="Folder of a verdict in a bucket, as the gate's last lines name it."),
    folder: Path = typer.Argument(..., help="Where to."),
) -> None:
    """Copy a verdict with its page from a bucket to this machine, to read it before approving."""
    from rollama.release.folder import PAGE
    from rollama.release.reports import fetch_verdict

    fetch_verdict(place, folder)
    say(f"{folder / PAGE}: open it in a browser")


def values(config: Path | None = CONFIG) -> None:
    """Print helm values (serve.models) of what is released, from the signed history: for 'helm upgrade --values'."""
    from rollama.cli.release import desk_of
    from rollama.core.errors import DataError
    from rollama.release.endpoint import values_text
    from rollama.release.site import read_site

    history = desk_of(*read_site(config)).history()
    history.require_whole("shown")
    current = history.released()
    if current is None or current.entry.candidate is None:
        raise DataError("nothing is released yet; 'rollama release promote' releases")
    typer.echo(values_text(current.entry.candidate), nl=False)


def say(text: str) -> None:
    """Tell whoever watches."""
    Console(stderr=True).print(text, highlight=False, soft_wrap=True)


def _report(local: Path, place: str, verdict: Any, code: int | None, said: str) -> None:
    from rollama.core.files import write_text
    from rollama.release.reports import SUMMARY, send, summary

    text = summary(verdict, place, code, said)
    local.mkdir(parents=True, exist_ok=True)
    write_text(local / SUMMARY, text)
    typer.echo(text)
    send(local, place)


_PROMOTED = (
    "Record {number}: promoted in history and registry. The endpoint serves the former models until somebody applies "
    "the new ones: 'rollama release values' prints them from the signed history ({root}/serve-models.yaml is a copy), "
    "'helm upgrade --reuse-values --values FILE' brings them there in place."
)
_NEXT = {
    3: "Nothing was promoted. The page says which rule, at which centre.",
    4: "Nothing was promoted. More cases, or another signed protocol, may decide it.",
    5: "Nothing was promoted; the next run compares with what is released now.",
    6: "The next run, or 'rollama release settle', finishes.",
    7: "Read the page ('rollama release fetch PLACE FOLDER'), then 'rollama release approve PLACE --key KEY "
       "--name NAME'. The next run promotes, or 'rollama release promote PLACE --key RELEASE-KEY'.",
}  # fmt: skip
