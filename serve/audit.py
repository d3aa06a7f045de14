"""Who asked for what, and what came of it, so that nobody can change it later without being found out.

Every server writes a chain of its own: `audit/<writer>/<number>.jsonl`, an event a line, each with the SHA-256 of the
one before; what comes while the store is busy goes into one file.
A changed, inserted or removed event breaks the chain; that its end was cut off shows in the heads, signed notes of how
long the chain was at some time, which belong somewhere else (`audit_heads`). An event holds a caller's name, the
route, ids, model digests and a status: no text, no file name, no address.

The hash needs no key: what comes after the last signed head could be written anew by who may write there. An event
that the store does not take is kept and tried again; while 2000 are not taken, requests are refused.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollama.core.errors import DataError, ServeError
from rollama.core.storage import Storage, open_storage
from serve.config import ServeConfig
from serve.jobs import new_id
from serve.telemetry import LOGGER

logger = logging.getLogger(LOGGER)
FIRST = "0" * 64
"""What the first event of a chain names as its predecessor."""
MOST_PENDING = 2000
MOST_AT_ONCE = 500
AGAIN_S = 0.5
"""Pause before a store that refused is asked again."""
FOLDER = "audit"


def event_hash(event: dict[str, Any]) -> str:
    """SHA-256 of an event: of its JSON with sorted keys and without spaces."""
    return hashlib.sha256(json.dumps(event, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Audit:
    """The chain of this server."""

    def __init__(
        self,
        storage: Storage,
        writer: str,
        heads: Storage | None = None,
        signing_key: Any = None,
        every_s: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Begin a chain.

        Args:
            storage: events go to `audit/` in it.
            writer: names the chain; new for each server start.
            heads: where signed heads go.
            signing_key: an Ed25519 private key for them.
            every_s: at most so often.
            clock: seconds since 1970.
        """
        self.storage, self.writer, self.heads, self.signing_key = storage, writer, heads, signing_key
        self.every_s, self.clock = every_s, clock
        self.count, self.last, self.signed, self.signed_at = 0, FIRST, 0, clock()
        self.stored, self.stored_last, self.dropped = 0, FIRST, 0
        self.pending: deque[dict[str, Any]] = deque()
        self._wake = asyncio.Event()
        self._flusher: asyncio.Task[None] | None = None

    @property
    def takes_more(self) -> bool:
        """Whether events still find their way into the store."""
        return len(self.pending) < MOST_PENDING

    def add(self, **event: Any) -> None:
        """Add an event and let it be stored; call it in the event loop.

        Strangers' requests are only counted while nothing can be stored: they must not fill the memory.
        """
        if not self.takes_more and not event.get("who"):
            self.dropped += 1
            return
        made = {"writer": self.writer, "number": self.count, "time": self.clock(), "before": self.last, **event}
        if self.dropped:
            made["strangers_not_recorded"], self.dropped = self.dropped, 0
        self.count, self.last = self.count + 1, event_hash(made)
        self.pending.append(made)
        self._wake.set()
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush())

    async def close(self) -> None:
        """Store and sign what is left."""
        if self._flusher is not None:
            self._flusher.cancel()
            await asyncio.wait([self._flusher])
            self._flusher, self._wake = None, asyncio.Event()
        await asyncio.to_thread(self._store)
        if self.count > self.signed:
            await asyncio.to_thread(self._sign)

    async def _flush(self) -> None:
        """The only one who stores, so that the chain is written in its order."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            work = asyncio.ensure_future(asyncio.to_thread(self._store_and_sign))
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                await asyncio.wait([work])
                raise
            except Exception as error:
                told = {"waiting": len(self.pending), "error": type(error).__name__}
                logger.error("audit events wait for the store", extra=told)
                await asyncio.sleep(AGAIN_S)
                self._wake.set()

    def _store_and_sign(self) -> None:
        self._store()
        if self.clock() - self.signed_at >= self.every_s:
            self._sign()

    def _store(self) -> None:
        while some := list(itertools.islice(self.pending, MOST_AT_ONCE)):
            name = f"{FOLDER}/{self.writer}/{some[0]['number']:09d}.jsonl"
            content = "".join(json.dumps(event, sort_keys=True) + "\n" for event in some).encode()
            if not self.storage.create(name, content):
                found = self.storage.read_bytes(name) or b""
                count = found.count(b"\n")  # an earlier try may have come through with fewer events
                if not count or not content.startswith(found):
                    raise ServeError(f"{name}: somebody else wrote into this server's audit chain")
                some = some[:count]
            for _ in some:
                self.pending.popleft()
            self.stored, self.stored_last = some[-1]["number"] + 1, event_hash(some[-1])

    def _sign(self) -> None:
        if self.heads is None or self.signing_key is None:
            return
        count, last = self.stored, self.stored_last
        head = {"writer": self.writer, "events": count, "last": last, "time": self.clock()}
        signature = self.signing_key.sign(event_hash(head).encode())
        signed = {**head, "signature": base64.b64encode(signature).decode()}
        self.heads.create(f"{self.writer}/{count:09d}.json", json.dumps(signed, sort_keys=True).encode())
        self.signed, self.signed_at = count, self.clock()


def open_audit(config: ServeConfig) -> Audit:
    """The chain of a server that starts.

    Raises:
        ServeError: the signing key cannot be used.
    """
    heads = key = None
    if config.audit_heads is not None and config.audit_key_file is not None:
        heads, key = open_storage(config.audit_heads), load_signing_key(config.audit_key_file)
    return Audit(open_storage(config.audit or config.store), new_id(), heads, key, config.audit_head_every_s)


def load_signing_key(path: Path) -> Any:
    """An Ed25519 private key in PEM (`openssl genpkey -algorithm ed25519`).

    Raises:
        ServeError: unreadable, or another kind of key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ServeError(f"{path}: not a readable private key in PEM ({type(error).__name__})") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ServeError(
            f"{path}: the audit's heads are signed with Ed25519; make one: openssl genpkey -algorithm ed25519"
        )
    return key


def load_public_key(path: Path) -> Any:
    """The public half (`openssl pkey -in key.pem -pubout`).

    Raises:
        DataError: unreadable, or another kind of key.
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
    """What a check of one server's chain found; `problems` is empty when all is well."""

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
    for name in heads.names() if heads is not None else ():  # before the events: a server may be writing
        notes.setdefault(name.split("/")[0], []).append(name)
    chains: dict[str, list[str]] = {}
    for name in storage.names(FOLDER):
        chains.setdefault(name.split("/")[1], []).append(name)
    return [
        _verify(writer, storage, chains.get(writer, []), heads, notes.get(writer, []), public_key)
        for writer in sorted({*chains, *notes})
    ]


def _verify(
    writer: str, storage: Storage, names: list[str], heads: Storage | None, notes: list[str], public_key: Any
) -> Chain:
    hashes, problems = [FIRST], []
    for name in names:
        for line in (storage.read_bytes(name) or b"?").splitlines():
            number, event = len(hashes) - 1, _parsed(line)
            if event is None:
                problems.append(f"{name}: not readable")
            elif event.get("number") != number or event.get("writer") != writer:
                problems.append(f"{name}: event {number} is missing")
            elif event.get("before") != hashes[-1]:
                problems.append(f"{name}: does not follow from the event before it; one of the two was changed")
            if problems:
                break
            hashes.append(event_hash(event or {}))
        if problems:
            break
    events = len(hashes) - 1
    signed = 0
    for head in _heads(heads, notes, public_key, problems):
        count = int(head["events"])
        if count >= len(hashes) and not problems:
            problems.append(f"{events} events, but {count} were signed: the end was cut off")
        elif count < len(hashes) and hashes[count] != head["last"]:
            problems.append(f"event {count - 1} is not the one that was signed")
        else:
            signed = max(signed, count)
    return Chain(writer, events, 0 if problems else signed, tuple(problems))


def _heads(heads: Storage | None, notes: list[str], public_key: Any, problems: list[str]) -> Iterator[dict[str, Any]]:
    from cryptography.exceptions import InvalidSignature

    for name in notes:
        head = _parsed(heads.read_bytes(name) or b"") if heads is not None else None
        if head is None or "signature" not in head:
            problems.append(f"head {name}: not readable")
            continue
        signature = base64.b64decode(head.pop("signature"))
        try:
            public_key.verify(signature, event_hash(head).encode())
        except InvalidSignature:
            problems.append(f"head {name}: the signature is wrong")
            continue
        yield head


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
