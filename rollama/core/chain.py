"""Events that nobody can change, insert, reorder or remove later without being found out.

Whoever writes has a chain of its own: `audit/<writer>/<number>.jsonl`, an event a line, each with the SHA-256 of the
one before. A changed, inserted or removed event breaks the chain. That the end of a chain, or all of one, was cut off
shows in the heads: signed notes of how long each chain was at some time, which belong somewhere else.

The hash needs no key: what comes after the last signed head could be written anew by who may write there. The endpoint
writes such chains (`serve/audit.py`), and so does what imports data, trains, predicts and releases (`rollama/lineage`);
one check serves both. Two more logs lie on disk in forms of their own, because each record of a release history carries
a signature and a federation's record is one file that two processes write; how their entries hang together is the same,
and is judged here (`Links`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollama.core.config import hash_json
from rollama.core.errors import ConfigError, DataError
from rollama.core.storage import Storage

FIRST = "0" * 64
"""What the first entry of a chain names as its predecessor."""
FOLDER = "audit"


class Links:
    """The end of a chain: what the next entry must say of its place, for who adds one and for who checks one."""

    def __init__(self, number: int = 0, last: str = FIRST) -> None:
        """Begin at an entry's number, after an entry with the hash `last`."""
        self.number, self.last = number, last

    def problem(self, number: object, before: object, kind: str = "event") -> str:
        """Why an entry with this number and predecessor cannot be the next one; empty when it can.

        Args:
            number, before: what the entry says.
            kind: what the chain's entries are called.
        """
        if number != self.number:
            return f"{kind} {self.number} is missing: what stands there has another number"
        if before != self.last:
            return f"{kind} {self.number} does not follow from the {kind} before it; one of the two was changed"
        return ""

    def step(self, identity: str) -> None:
        """Go on behind an entry with this hash."""
        self.number, self.last = self.number + 1, identity

    def event(self, writer: str, now: float, **facts: Any) -> dict[str, Any]:
        """The next event of a writer's chain, with its place; `step` once it is certain to be written."""
        return {"writer": writer, "number": self.number, "time": now, "before": self.last, **facts}


def read_line(text: str | bytes) -> dict[str, Any] | None:
    """The JSON object of a line; None when it is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def file_name(writer: str, number: int) -> str:
    """Where the events of a chain from this number on lie."""
    return f"{FOLDER}/{writer}/{number:09d}.jsonl"


def sign_head(heads: Storage, signing_key: Any, writer: str, count: int, last: str, now: float) -> None:
    """Write down, signed, that a chain had so many events and ended in this hash.

    Args:
        heads: where heads lie; not where the events do.
        signing_key: an Ed25519 private key.
        writer: names the chain.
        count: its events.
        last: hash of the last one.
        now: seconds since 1970.
    """
    head = {"writer": writer, "events": count, "last": last, "time": now}
    signature = signing_key.sign(hash_json(head).encode())
    signed = {**head, "signature": base64.b64encode(signature).decode()}
    heads.create(f"{writer}/{count:09d}.json", json.dumps(signed, sort_keys=True).encode())


def sign_heads(storage: Storage, heads: Storage, signing_key: Any, now: float) -> None:
    """Sign the end of every chain as it stands, whoever wrote it, with a key that not every writer has.

    Raises:
        DataError: a chain is not whole, or shorter or other than was signed before; names the first.
    """
    require_whole(storage, heads, signing_key.public_key())
    for writer, names in sorted(_chains(storage).items()):
        _, links, _ = _read(writer, storage, names)
        sign_head(heads, signing_key, writer, links.number, links.last, now)


def load_signing_key(path: Path) -> Any:
    """An Ed25519 private key in PEM (`openssl genpkey -algorithm ed25519`).

    Raises:
        ConfigError: unreadable, or another kind of key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not a readable private key in PEM ({type(error).__name__})") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: heads are signed with Ed25519; make a key: openssl genpkey -algorithm ed25519")
    return key


def load_public_key(path: Path) -> Any:
    """The public half of the key that signs heads (`openssl pkey -in key.pem -pubout`).

    Raises:
        DataError: unreadable, or not an Ed25519 key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable public key in PEM ({type(error).__name__})") from None
    if not isinstance(key, Ed25519PublicKey):
        raise DataError(f"{path}: not an Ed25519 key")
    return key


@dataclass(frozen=True)
class Chain:
    """What a check of one writer's chain found; `problems` is empty when all is well."""

    writer: str
    events: int
    signed: int
    """So many events at its beginning are vouched for by a signed head."""
    problems: tuple[str, ...]


def verify(storage: Storage, heads: Storage | None = None, public_key: Any = None) -> list[Chain]:
    """Check every chain in a store.

    Args:
        storage: with `audit/`.
        heads: with the signed heads; without them a cut end is not noticed.
        public_key: Ed25519; needed for heads.
    """
    notes: dict[str, list[str]] = {}
    for name in heads.names() if heads is not None else ():  # before the events: somebody may be writing
        notes.setdefault(name.split("/")[0], []).append(name)
    chains = _chains(storage)
    return [
        _verify(writer, storage, chains.get(writer, []), heads, notes.get(writer, []), public_key)
        for writer in sorted({*chains, *notes})
    ]


def require_whole(storage: Storage, heads: Storage | None = None, public_key: Any = None) -> None:
    """Refuse to go on from a damaged store.

    Raises:
        DataError: a chain is not whole; names the first.
    """
    for chain in verify(storage, heads, public_key):
        if chain.problems:
            raise DataError(f"{storage.uri}: the chain {chain.writer} is not whole: {chain.problems[0]}")


def events(storage: Storage) -> list[dict[str, Any]]:
    """All events of all chains, oldest first as far as their writers' clocks agree; a chain's own stay in order.

    Raises:
        DataError: a chain is not whole; names the first.
    """
    found: list[dict[str, Any]] = []
    for writer, names in sorted(_chains(storage).items()):
        some, _, problem = _read(writer, storage, names)
        if problem:
            raise DataError(f"{storage.uri}: the chain {writer} is not whole: {problem}")
        found += some
    return sorted(found, key=lambda event: (float(event["time"]), str(event["writer"]), int(event["number"])))


def _chains(storage: Storage) -> dict[str, list[str]]:
    chains: dict[str, list[str]] = {}
    for name in storage.names(FOLDER):
        chains.setdefault(name.split("/")[1], []).append(name)
    return chains


def _read(writer: str, storage: Storage, names: Sequence[str]) -> tuple[list[dict[str, Any]], Links, str]:
    """The events of a chain, where it ends, and what is wrong with the next one, if it does not end there."""
    found: list[dict[str, Any]] = []
    links = Links()
    for name in names:
        for line in (storage.read_bytes(name) or b"?").splitlines():
            event = read_line(line)
            if event is None:
                return found, links, f"{name}: not readable"
            number = event.get("number") if event.get("writer") == writer else None
            if problem := links.problem(number, event.get("before")):
                return found, links, f"{name}: {problem}"
            found.append(event)
            links.step(hash_json(event))
    return found, links, ""


def _verify(
    writer: str, storage: Storage, names: list[str], heads: Storage | None, notes: list[str], public_key: Any
) -> Chain:
    found, _, problem = _read(writer, storage, names)
    problems = [problem] if problem else []
    hashes = [FIRST, *map(hash_json, found)]
    signed = 0
    for head in _heads(heads, notes, public_key, problems):
        count = int(head["events"])
        if count >= len(hashes) and not problems:
            problems.append(f"{len(found)} events, but {count} were signed: the end was cut off")
        elif count < len(hashes) and hashes[count] != head["last"]:
            problems.append(f"event {count - 1} is not the one that was signed")
        else:
            signed = max(signed, count)
    return Chain(writer, len(found), 0 if problems else signed, tuple(problems))


def _heads(heads: Storage | None, notes: list[str], public_key: Any, problems: list[str]) -> Iterator[dict[str, Any]]:
    from cryptography.exceptions import InvalidSignature

    for name in notes:
        head = read_line(heads.read_bytes(name) or b"") if heads is not None else None
        if head is None or "signature" not in head:
            problems.append(f"head {name}: not readable")
            continue
        signature = base64.b64decode(head.pop("signature"))
        try:
            public_key.verify(signature, hash_json(head).encode())
        except InvalidSignature:
            problems.append(f"head {name}: the signature is wrong")
            continue
        yield head
