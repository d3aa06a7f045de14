"""Promotion and roll-back: check everything, write one record, then bring registry and endpoint to what it says.

The record is the decision. Before it is written nothing that anybody reads has changed; a command killed there leaves
documents that no record names, and the next try begins anew. Once it is there, what is left is `settle`: every step of
it can be repeated, and running the same command again (or a roll-back) finishes (or undoes) what was begun. Of two
promotions at once, one gets the number; the other's verdict compares with a model that is not released any more.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rollama.core.errors import DataError, ReleaseError, RollamaError
from rollama.core.storage import Storage, open_storage
from rollama.data.store import parse_reference, read_stored
from rollama.release.approval import Approved, check_approvals
from rollama.release.endpoint import Target
from rollama.release.history import (
    SETTLED,
    History,
    Record,
    Taken,
    append,
    put_documents,
    read_history,
    signer,
)
from rollama.release.keys import Role, Signature, Trust
from rollama.release.protocol import Protocol
from rollama.release.registry import PREVIOUS, RELEASED, Registry
from rollama.release.site import Site
from rollama.release.verdict import Overtaken, Parts, Refused, Verdict, demand

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Step = Callable[[str], None]
STEPS = ("checked", "documents", "registered", "recorded", "endpoint", "alias", "settled")
"""What `Desk.step` is told, in this order; a promotion may be killed after any of them."""


class NotSettled(ReleaseError):
    """The decision stands in the history; the endpoint or the registry has not followed yet."""

    exit_code = 6


@dataclass
class Desk:
    """All that a release is made with."""

    site: Site
    storage: Storage
    trust: Trust
    registry: Registry
    target: Target
    clock: Callable[[], float] = time.time
    step: Step = field(default=lambda name: None)

    @classmethod
    def open(cls, site: Site, registry: Registry) -> Desk:
        """The desk of a site.

        Raises:
            ConfigError: the folder of keys cannot be read.
        """
        return cls(site, open_storage(site.history), Trust.open(site.keys), registry, Target(site.endpoint))

    def history(self) -> History:
        """The release history, read anew."""
        return read_history(self.storage, self.trust)


@dataclass(frozen=True)
class Case:
    """What a promotion is asked for with: the verdict as bytes with its signature, and what goes with it."""

    verdict: Verdict
    verdict_bytes: bytes = field(repr=False)
    signature: Signature
    protocol: Protocol
    protocol_digest: str
    approvals: Sequence[Approved]
    documents: Callable[[Sequence[str]], Mapping[str, bytes]]
    """Makes the documents, given who approved."""

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the verdict."""
        return hashlib.sha256(self.verdict_bytes).hexdigest()


def promote(desk: Desk, case: Case, key: Ed25519PrivateKey, despite_clock: bool = False, again: bool = False) -> Record:
    """Release what a verdict is about, or finish doing so.

    Args:
        desk: of the site.
        case: the verdict and what goes with it.
        key: signs the record.
        despite_clock: go on although clocks disagree.
        again: release a candidate that was rolled back before.

    Raises:
        Refused, Underpowered: the verdict, or the approvals, do not allow it.
        Overtaken: another release came first.
        NotTrusted: a signature is not good.
        NotSettled: it is released, but the endpoint or the registry could not be brought there.
        RollamaError: an artefact, the history or the registry cannot be used; nothing is promoted.
    """
    verdict = case.verdict
    history = desk.history()
    history.require_whole("promoted")
    current = history.released()
    if current is not None and current.entry.candidate and current.entry.candidate.release == verdict.candidate.release:
        settle(desk)
        return current
    desk.trust.check_signer(Role.RELEASE, key, Path("--key"))
    desk.trust.check(Role.RELEASE, case.verdict_bytes, case.signature, "the verdict")
    if verdict.protocol["sha256"] != case.protocol_digest:
        raise Refused(
            f"the verdict was found under protocol {str(verdict.protocol['sha256'])[:16]}, in force is "
            f"{case.protocol_digest[:16]}; evaluate again"
        )
    demand(verdict)
    _check_current(history, verdict)
    if not despite_clock:
        _check_clocks(desk, history, case)
    approvals = check_approvals(
        case.protocol.approval, case.approvals, desk.trust, verdict.candidate.release, case.protocol_digest,
        case.digest, signer(key),
    )  # fmt: skip
    if not again:
        check_rolled_back(history, verdict.candidate.release)
    desk.registry.ping()
    check_length(history, desk.registry.remembered())
    check_stored(verdict.candidate)
    desk.step("checked")
    documents = put_documents(desk.storage, dict(case.documents(approvals)))
    desk.step("documents")
    desk.registry.register(verdict.candidate, {"verdict": case.digest, "protocol": case.protocol_digest})
    desk.step("registered")
    entry = {
        "kind": "promoted", "candidate": verdict.candidate.model_dump(), "hashes": verdict.hashes,
        "replaces": verdict.replaces, "outcome": str(verdict.outcome), "protocol": verdict.protocol,
        "verdict": case.digest, "documents": documents, "approvals": approvals, "synthetic": verdict.synthetic,
    }  # fmt: skip
    record = _decide(desk, history, key, lambda now: _check_current(now, verdict), entry)
    settle(desk)
    return record


def rollback(desk: Desk, key: Ed25519PrivateKey, to: int | None = None, remark: str = "") -> Record:
    """Go back to the release before, or to the one of a record; the gate is not asked, it was once.

    The endpoint goes first, so that a registry that is down does not keep a bad model in service.

    Raises:
        DataError: there is no release to go back to, or the history is not whole.
        Overtaken: what is released changed meanwhile.
        NotSettled: the decision stands, but the endpoint or the registry could not be brought there.
    """
    desk.trust.check_signer(Role.RELEASE, key, Path("--key"))
    history = desk.history()
    history.require_whole("rolled back")
    stack = history.stack()
    if len(stack) < 2:
        raise DataError("there is no release to go back to: " + ("nothing is released" if not stack else "only one is"))
    numbers = [record.entry.number for record in stack[:-1]]
    if to is not None and to not in numbers:
        raise DataError(f"record {to} is no release to go back to; there are {', '.join(map(str, numbers))}")
    target = stack[-2] if to is None else stack[numbers.index(to)]
    entry = target.entry
    assert entry.candidate is not None
    left = stack[-1].entry.candidate
    values = {
        "kind": "rolled back", "candidate": entry.candidate.model_dump(), "hashes": entry.hashes,
        "replaces": left.release if left else None, "back_to": entry.number, "protocol": entry.protocol,
        "verdict": entry.verdict, "synthetic": entry.synthetic, "remark": remark,
    }  # fmt: skip

    def unchanged(now: History) -> None:
        if (now.released() or target).identity != stack[-1].identity:
            raise _overtaken(now)

    record = _decide(desk, history, key, unchanged, values)
    settle(desk)
    return record


def settle(desk: Desk) -> bool:
    """Bring endpoint and registry to what the history says; whether there was something to do.

    Two that do this at once both end with the newest record: each looks again after its last step.

    Raises:
        NotSettled: one of them cannot be brought there.
    """
    force = False
    while True:
        history = desk.history()
        decisive, stack = history.decisive(), history.stack()
        if decisive is None or not stack:
            return False
        mark = f"{SETTLED}/{decisive.entry.number:06d}"
        if not force and desk.storage.exists(mark):
            return False
        _bring(desk, history, stack, decisive)
        desk.storage.create(mark, b"")
        desk.step("settled")
        newest = desk.history().decisive()
        if newest is None or newest.identity == decisive.identity:
            return True
        force = True


def is_settled(desk: Desk, history: History) -> bool:
    """Whether endpoint and registry have followed the last decision."""
    decisive = history.decisive()
    return decisive is None or desk.storage.exists(f"{SETTLED}/{decisive.entry.number:06d}")


def check_stored(parts: Parts) -> None:
    """Read every file of the models in their stores and compare it with its hash.

    Raises:
        DataError: one is missing or was changed.
    """
    for name, text in parts.model_dump().items():
        reference = parse_reference(text)
        storage = open_storage(reference.store)
        with tempfile.TemporaryDirectory(prefix="rollama-release-") as folder:
            for file in read_stored(reference).files:
                copy = Path(folder) / "file"
                if storage.download(file.blob, copy) != file.sha256:
                    raise DataError(
                        f"model {name}: {file.path} in {reference.store} is not what its hash says; it was changed"
                    )
                copy.unlink()


def check_length(history: History, remembered: str) -> None:
    """Compare the history with what the registry remembers of it: a cut end leaves no trace in the history itself.

    Raises:
        DataError: records that were there are not any more, or are others.
    """
    number, _, head = remembered.partition(":")
    if not number.isdecimal():
        return
    count = int(number)
    if count > len(history.records) or (count and history.records[count - 1].identity != head):
        raise DataError(
            f"the registry saw {count} records of the release history, the last of hash {head[:16]}; the history has "
            f"{len(history.records)} and does not hold it: its end was cut off or written anew"
        )


def check_rolled_back(history: History, release: str) -> None:
    """Refuse a candidate that somebody took back before.

    Raises:
        Refused: there is a record of it.
    """
    for record in reversed(history.records):
        entry = record.entry
        if entry.kind == "rolled back" and entry.replaces == release:
            why = f": {entry.remark}" if entry.remark else ""
            raise Refused(
                f"release {release[:16]} was rolled back (record {entry.number}{why}); --again releases it once more"
            )


def _decide(
    desk: Desk, history: History, key: Ed25519PrivateKey, still: Callable[[History], None], entry: dict[str, Any]
) -> Record:
    """Write the record; when the number is taken, look whether the decision still holds, and take the next."""
    while True:
        try:
            record = append(desk.storage, history, key, desk.clock, **entry)
            desk.step("recorded")
            return record
        except Taken:
            history = desk.history()
            history.require_whole("released")
            still(history)


def _bring(desk: Desk, history: History, stack: Sequence[Record], decisive: Record) -> None:
    top = stack[-1].entry
    assert top.candidate is not None
    failures = []
    try:
        desk.target.bring(top.candidate, top.hashes)
    except RollamaError as error:
        failures.append(str(error))
    desk.step("endpoint")
    try:
        desk.registry.ping()
        version = desk.registry.register(top.candidate, {"record": str(top.number)})
        before = stack[-2].entry if len(stack) > 1 else None
        previous = None
        if before is not None and before.candidate is not None:
            previous = desk.registry.register(before.candidate, {"record": str(before.number)})
        desk.registry.point(PREVIOUS, previous)
        desk.registry.point(RELEASED, version)
        desk.registry.remember(f"{len(history.records)}:{history.head}")
    except RollamaError as error:
        failures.append(str(error))
    desk.step("alias")
    if failures:
        raise NotSettled(
            f"record {decisive.entry.number} stands: {decisive.entry.kind}, release {top.candidate.release[:16]}; but "
            f"{'; and '.join(failures)}. 'rollama release settle' finishes, 'rollama release rollback' takes it back"
        )


def _check_current(history: History, verdict: Verdict) -> None:
    current = history.released()
    number = 0 if current is None else current.entry.number
    if number != verdict.replaces_record:
        raise _overtaken(history, verdict)


def _overtaken(history: History, verdict: Verdict | None = None) -> Overtaken:
    current, decisive = history.released(), history.decisive()
    now = "nothing" if current is None or current.entry.candidate is None else current.entry.candidate.release[:16]
    who = "" if decisive is None else f" (record {decisive.entry.number}, key {decisive.signature.key[:16]})"
    if verdict is None:
        return Overtaken(f"somebody else was first: released is now {now}{who}; look and decide again")
    compared = "nothing" if verdict.replaces is None else verdict.replaces[:16]
    return Overtaken(
        f"another release was first: released is now {now}{who}, and this candidate was compared with {compared}; "
        "evaluate it again"
    )


def _check_clocks(desk: Desk, history: History, case: Case) -> None:
    now, tolerance = desk.clock(), desk.site.clock_tolerance_s
    told = history.clocks(now, tolerance)
    stamps = {"the verdict": datetime.fromisoformat(case.verdict.created).timestamp()}
    stamps |= {f"the approval of {item.statement.by}": item.statement.time for item in case.approvals}
    told += [
        f"{what} is from the future by this machine's clock" for what, at in stamps.items() if at > now + tolerance
    ]
    if told:
        raise ReleaseError(
            f"clocks disagree, nothing promoted: {'; '.join(told)}. Set the clock that is wrong; records are ordered "
            "by number and hash, so --despite-clock goes on safely when you know which one it was"
        )
