"""Verdicts in a bucket: a scheduled run leaves them there, people read them there, and approvals come back there.

A verdict's folder is named by what it answers: candidate, release it is compared with, protocol, judging data. So a run
that was cut, or one an hour later, finds what was judged already. Nothing in such a folder is believed for lying there:
verdict and approvals are signed, and whoever uses them checks that.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rollama import RESEARCH_ONLY
from rollama.core.config import hash_json
from rollama.core.errors import DataError, ReleaseError
from rollama.core.storage import open_storage
from rollama.release.approval import PREFIX, Approved, check_approvals
from rollama.release.folder import PAGE, VERDICT, read_verdict
from rollama.release.keys import SIGNATURE, NotTrusted, Role, Trust
from rollama.release.protocol import Protocol
from rollama.release.verdict import Parts, Refused, Verdict

SUMMARY, VALUES = "summary.md", "serve-models.yaml"
_OURS = re.compile(rf"{re.escape(VERDICT)}({re.escape(SIGNATURE)})?|{re.escape(PAGE)}|{SUMMARY}|{PREFIX}[\w.-]+\.json")
_ANSWERS = {
    3: "refused", 4: "under-powered", 5: "another release was first", 6: "promoted, registry or endpoint to follow",
    7: "waiting for approval",
}  # fmt: skip


class Waiting(ReleaseError):
    """The gate let the candidate pass; people have to approve before it is promoted."""

    exit_code = 7


def report_name(parts: Parts, replaces_record: int, protocol: str, dataset: str) -> str:
    """Name of a verdict's folder.

    Args:
        parts: the candidate.
        replaces_record: number of the record whose release it is compared with; 0 for none.
        protocol: SHA-256 of the protocol's file.
        dataset: content hash of the data that judges.
    """
    return f"verdict-{parts.release[:12]}-{hash_json([parts.release, replaces_record, protocol, dataset])[:12]}"


def fetch(place: str, folder: Path) -> list[str]:
    """Copy the files of a verdict's folder to this machine; their names, none where there is no such folder.

    Raises:
        ClusterError, DataError: the storage cannot be read.
    """
    shelf = open_storage(place)
    names = [name for name in shelf.names() if _OURS.fullmatch(name)]
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shelf.download(name, folder / name)
    return names


def fetch_verdict(place: str, folder: Path) -> list[str]:
    """As `fetch`, of a folder that has to hold a verdict.

    Raises:
        DataError: there is none.
    """
    names = fetch(place, folder)
    if VERDICT not in names:
        raise DataError(f"{place}: no {VERDICT} there; the run that judged names its place in its last lines")
    return names


def send(folder: Path, place: str) -> None:
    """Copy a verdict, its page and its summary to a storage, as far as they are there. Approvals are their makers'."""
    shelf = open_storage(place)
    for name in (VERDICT, VERDICT + SIGNATURE, PAGE, SUMMARY):
        if (folder / name).is_file():
            shelf.upload(folder / name, name)


@contextmanager
def at_hand(place: str) -> Iterator[Path]:
    """A verdict's folder on this machine, also for one in a bucket; an approval made in it goes back there.

    Raises:
        DataError: the bucket has no verdict there.
    """
    if "://" not in place:
        yield Path(place)
        return
    with tempfile.TemporaryDirectory(prefix="rollama-verdict-") as scratch:
        folder = Path(scratch)
        before = fetch_verdict(place, folder)
        yield folder
        shelf = open_storage(place)
        for path in sorted(folder.glob(f"{PREFIX}*.json")):
            if path.name not in before or path.read_bytes() != shelf.read_bytes(path.name):
                shelf.upload(path, path.name)


def known_verdict(
    folder: Path, trust: Trust, parts: Parts, replaces_record: int, protocol: str, dataset: str
) -> tuple[Verdict | None, str]:
    """The verdict in a folder if it is signed and answers this question; else None, and why it does not count."""
    if not (folder / VERDICT).is_file():
        return None, ""
    try:
        verdict, data, signature = read_verdict(folder)
        trust.check(Role.RELEASE, data, signature, VERDICT)
    except (DataError, NotTrusted) as error:
        return None, str(error)
    found = (verdict.candidate.release, verdict.replaces_record, verdict.protocol["sha256"], verdict.dataset["hash"])
    if found != (parts.release, replaces_record, protocol, dataset):
        return None, f"{VERDICT} is the answer to another question"
    return verdict, ""


def require_approvals(folder: Path, protocol: Protocol, trust: Trust, given: Sequence[Approved], signer: str) -> None:
    """Go on where the protocol wants nobody's approval, or enough people gave it.

    Args:
        folder: of the verdict.
        protocol: in force.
        trust: with the approval keys.
        given: approvals at hand.
        signer: id of the key that is to sign the release.

    Raises:
        Waiting: fewer than the protocol wants.
    """
    verdict, data, _ = read_verdict(folder)
    digest = hashlib.sha256(data).hexdigest()
    try:
        check_approvals(
            protocol.approval, given, trust, verdict.candidate.release, str(verdict.protocol["sha256"]), digest, signer
        )
    except Refused as error:
        raise Waiting(f"passed; {error}") from error


def summary(verdict: Verdict | None, place: str, code: int | None, said: str) -> str:
    """The report in a few lines of Markdown.

    Args:
        verdict: None where it did not come to one.
        place: folder of the report.
        code: exit code of what ended the run; None after a promotion.
        said: the last sentence of the run: what stands against the candidate, or what is to be done.
    """
    answer = "promoted" if code is None else _ANSWERS.get(code, "not judged")
    lines = [f"# Release gate: {answer}", "", RESEARCH_ONLY, ""]
    if verdict is not None:
        against = f"release {verdict.replaces[:16]} (record {verdict.replaces_record})" if verdict.replaces else "none"
        data, protocol = verdict.dataset, verdict.protocol
        kind = "SYNTHETIC data" if verdict.synthetic else "data"
        lines += [
            f"- verdict: {verdict.outcome}, {len(verdict.failed())} of {len(verdict.findings)} findings against it",
            f"- candidate: release {verdict.candidate.release[:16]}",
            *(f"  - {name}: {text}" for name, text in verdict.candidate.model_dump().items()),
            f"- compared with: {against}",
            f"- judged on: {kind} {data['name']} of content {str(data['hash'])[:16]}, {data['cases']} cases",
            f"- protocol: {protocol['name']} version {protocol['version']}, {str(protocol['sha256'])[:16]}",
            f"- page: {place}/{PAGE}",
        ]
    return "\n".join([*lines, "", said.strip(), ""])
