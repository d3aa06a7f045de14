"""The release history: numbered, signed records, each with the hash of the one before.

It decides what is released; the alias in the registry and the endpoint only follow (`promotion`). A record is created
if its number is free and refused if it is not, so of two promotions at once one is told that the other was first, and
a record is either there or not: there is no half-done promotion that could be taken for one. Order is by number and
hash; the time in a record is what its writer's clock said, and a clock that disagrees is told.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from rollama import RESEARCH_ONLY
from rollama.core.chain import FIRST, Links
from rollama.core.config import StrictModel, build
from rollama.core.errors import ConfigError, DataError
from rollama.core.storage import Storage
from rollama.release.keys import NotTrusted, Role, Signature, Trust, canonical, key_id, sign
from rollama.release.verdict import Parts

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

RECORDS, SETTLED, DOCUMENTS = "records", "settled", "documents"
ATTEMPTS = 20
"""How often a record that takes any number tries the next one."""


class Entry(StrictModel):
    """What a record says. Fields that a kind does not use are left at their defaults."""

    format: Literal[1] = 1
    notice: str = RESEARCH_ONLY
    number: int = Field(ge=1)
    before: str = Field(description="hash of the record before")
    kind: Literal["evaluated", "promoted", "rolled back", "key retired"]
    time: float = Field(description="seconds since 1970 by the writer's clock; decides nothing")
    candidate: Parts | None = None
    hashes: dict[str, str] = Field(default_factory=dict, description="model -> SHA-256 of its weights")
    replaces: str | None = Field(None, description="digest of the release that this one takes the place of")
    back_to: int | None = Field(None, description="of a roll-back: the record that had released the model")
    outcome: str = ""
    protocol: dict[str, Any] = Field(default_factory=dict)
    verdict: str = Field("", description="SHA-256 of the verdict")
    documents: dict[str, str] = Field(default_factory=dict, description="name -> SHA-256, below documents/")
    approvals: tuple[str, ...] = Field((), description="who approved, with the id of the key")
    synthetic: bool | None = None
    remark: str = ""


class Record(StrictModel):
    """An entry with its signature."""

    entry: Entry
    signature: Signature

    @property
    def identity(self) -> str:
        """What the next record names."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()

    @property
    def when(self) -> str:
        """The writer's time, UTC."""
        return datetime.fromtimestamp(self.entry.time, UTC).isoformat(timespec="seconds")


class Taken(Exception):
    """The number is another record's."""


@dataclass(frozen=True)
class History:
    """What was read: `records` up to the first that cannot be believed, and `problems`, empty when all is well."""

    records: tuple[Record, ...]
    problems: tuple[str, ...] = ()

    @property
    def head(self) -> str:
        """Hash of the last record."""
        return self.records[-1].identity if self.records else FIRST

    def stack(self) -> list[Record]:
        """The promotions in force, the oldest first: a promotion puts one on top, a roll-back takes the top away."""
        found: list[Record] = []
        for record in self.records:
            if record.entry.kind == "promoted":
                found.append(record)
            elif record.entry.kind == "rolled back":
                while found and found[-1].entry.number != record.entry.back_to:
                    found.pop()
        return found

    def released(self) -> Record | None:
        """The promotion whose model is released."""
        stack = self.stack()
        return stack[-1] if stack else None

    def decisive(self) -> Record | None:
        """The last record that changed what is released."""
        kinds = ("promoted", "rolled back")
        return next((record for record in reversed(self.records) if record.entry.kind in kinds), None)

    def require_whole(self, what: str) -> None:
        """Refuse to go on from a damaged history.

        Raises:
            DataError: there is a problem.
        """
        if self.problems:
            raise DataError(f"the release history is not whole, so nothing is {what}: {'; '.join(self.problems)}")

    def clocks(self, now: float, tolerance_s: float) -> list[str]:
        """Sentences about records whose time cannot be: from the future, or before the record before."""
        found, last = [], None
        for record in self.records:
            entry = record.entry
            if entry.time > now + tolerance_s:
                ahead = (entry.time - now) / 60
                found.append(
                    f"record {entry.number} is from the future by this machine's clock ({record.when}, {ahead:.0f} min)"
                )
            if last is not None and entry.time < last.entry.time - tolerance_s:
                found.append(f"record {entry.number} ({record.when}) is dated before record {last.entry.number}")
            last = record
        return found


def read_history(storage: Storage, trust: Trust) -> History:
    """Read and check all records.

    Raises:
        ClusterError, DataError: the storage cannot be read.
    """
    records: list[Record] = []
    links = Links(1)
    names = [name for name in storage.names(RECORDS) if name.endswith(".json")]
    for place, name in enumerate(names, 1):
        problem = ""
        try:
            record = build(Record, json.loads(storage.read_bytes(name) or b""), name)
            entry = record.entry
            number = entry.number if name == _name(place) else None
            if said := links.problem(number, entry.before, "record"):
                problem = f"{name}: {said}"
            else:
                trust.check(Role.RELEASE, canonical(entry.model_dump(mode="json")), record.signature, name, place)
        except NotTrusted as error:
            problem = str(error)
        except (ValueError, ConfigError) as error:
            problem = f"{name}: not a record that can be read ({type(error).__name__})"
        if problem:
            return History(tuple(records), (problem,))
        records.append(record)
        links.step(record.identity)
    return History(tuple(records))


def append(
    storage: Storage, history: History, key: Ed25519PrivateKey, clock: Callable[[], float], **entry: Any
) -> Record:
    """Write the next record, or say that its number was taken.

    Every event of a release goes through here, which is the place to tell another log about it.

    Raises:
        Taken: somebody else wrote a record since the history was read.
    """
    number = len(history.records) + 1
    made = build(Entry, {"number": number, "before": history.head, "time": clock(), **entry}, "record")
    record = Record(entry=made, signature=sign(key, Role.RELEASE, canonical(made.model_dump(mode="json"))))
    text = json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    if not storage.create(_name(number), text.encode()):
        raise Taken(_name(number))
    return record


def note(
    storage: Storage, trust: Trust, key: Ed25519PrivateKey, clock: Callable[[], float] = time.time, **entry: Any
) -> Record:
    """Write a record that releases nothing, at whatever number is free.

    Raises:
        DataError: the history is not whole, or its numbers are taken faster than they are read.
    """
    for _ in range(ATTEMPTS):
        history = read_history(storage, trust)
        history.require_whole("recorded")
        try:
            return append(storage, history, key, clock, **entry)
        except Taken:
            continue
    raise DataError(f"{storage.uri}: others write records faster than this one could be; run it again")


def put_documents(storage: Storage, documents: dict[str, bytes]) -> dict[str, str]:
    """Store documents by their content and return name -> SHA-256; what is there already is left."""
    found = {}
    for name, data in documents.items():
        found[name] = hashlib.sha256(data).hexdigest()
        storage.create(document_name(name, found[name]), data)
    return found


def document_name(name: str, sha256: str) -> str:
    """Where a document of a record lies."""
    return f"{DOCUMENTS}/{sha256}/{name}"


def check_documents(storage: Storage, records: Sequence[Record]) -> list[str]:
    """Sentences about documents that are missing or were changed."""
    found = []
    for record in records:
        for name, sha256 in record.entry.documents.items():
            data = storage.read_bytes(document_name(name, sha256))
            if data is None:
                found.append(f"record {record.entry.number}: its document {name} is missing")
            elif hashlib.sha256(data).hexdigest() != sha256:
                found.append(f"record {record.entry.number}: its document {name} was changed")
    return found


def signer(key: Ed25519PrivateKey) -> str:
    """Id of a key's public half."""
    return key_id(key.public_key())


def _name(number: int) -> str:
    return f"{RECORDS}/{number:06d}.json"
