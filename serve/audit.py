"""Who asked for what, and what came of it, so that nobody can change it later without being found out.

Every server writes a chain of its own (`core.chain`); what comes while the store is busy goes into one file. Heads are
signed now and then and belong somewhere else (`audit_heads`). An event holds a caller's name, the route, ids, model
digests and a status, a job's also the hash of every result, so that a contour that was downloaded is known again: no
text, no name of a caller's file, no address.

An event that the store does not take is kept and tried again; while 2000 are not taken, requests are refused.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from rollama.core.chain import Links, file_name, load_signing_key, sign_head
from rollama.core.config import hash_json
from rollama.core.errors import ServeError
from rollama.core.storage import Storage, open_storage
from serve.config import ServeConfig
from serve.jobs import new_id
from serve.telemetry import LOGGER, named

logger = logging.getLogger(LOGGER)
MOST_PENDING = 2000
MOST_AT_ONCE = 500
AGAIN_S = 0.5
"""Pause before a store that refused is asked again."""


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
        self.links, self.stored = Links(), Links()
        self.signed, self.signed_at, self.dropped = 0, clock(), 0
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
        made = self.links.event(self.writer, self.clock(), **event)
        if self.dropped:
            made["strangers_not_recorded"], self.dropped = self.dropped, 0
        self.links.step(hash_json(made))
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
        if self.links.number > self.signed:
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
                told = {"waiting": len(self.pending), **named(error)}
                logger.error("audit events wait for the store", extra=told)
                await asyncio.sleep(AGAIN_S)
                self._wake.set()

    def _store_and_sign(self) -> None:
        self._store()
        if self.clock() - self.signed_at >= self.every_s:
            self._sign()

    def _store(self) -> None:
        while some := list(itertools.islice(self.pending, MOST_AT_ONCE)):
            name = file_name(self.writer, some[0]["number"])
            content = "".join(json.dumps(event, sort_keys=True) + "\n" for event in some).encode()
            if not self.storage.create(name, content):
                found = self.storage.read_bytes(name) or b""
                count = found.count(b"\n")  # an earlier try may have come through with fewer events
                if not count or not content.startswith(found):
                    raise ServeError(f"{name}: somebody else wrote into this server's audit chain")
                some = some[:count]
            for _ in some:
                self.pending.popleft()
            self.stored = Links(some[-1]["number"] + 1, hash_json(some[-1]))

    def _sign(self) -> None:
        if self.heads is None or self.signing_key is None:
            return
        stored = self.stored
        sign_head(self.heads, self.signing_key, self.writer, stored.number, stored.last, self.clock())
        self.signed, self.signed_at = stored.number, self.clock()


def open_audit(config: ServeConfig) -> Audit:
    """The chain of a server that starts.

    Raises:
        ConfigError: the signing key cannot be used.
    """
    heads = key = None
    if config.audit_heads is not None and config.audit_key_file is not None:
        heads, key = open_storage(config.audit_heads), load_signing_key(config.audit_key_file)
    return Audit(open_storage(config.audit or config.store), new_id(), heads, key, config.audit_head_every_s)
