"""The events of a workspace: data made, models trained, evaluated, released, predictions; subjects withdrawn.

"Which models saw this patient?" has to be answered years later, when the training folder is gone. So whatever makes
something writes an event beside the workspace's models, at `<workspace>/lineage`, in a hash chain of its own
(`core.chain`), and the list of a data set's cases once, by the hash of its content. There is no clinical text: case
ids, hashes, names of models and figures.

`ROLLAMA_LINEAGE_KEY` (an Ed25519 key file) and `ROLLAMA_LINEAGE_HEADS` (a folder or bucket elsewhere) make every
writer sign how long its chain was, and a release sign all chains (`vouch`), also of those who have no key; without
them a cut end is not noticed.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rollama.core.chain import Links, events, file_name, load_signing_key, require_whole, sign_head, sign_heads
from rollama.core.config import hash_json
from rollama.core.errors import ConfigError, DataError
from rollama.core.storage import Location, Storage, join, open_storage
from rollama.data.case import TextCase
from rollama.data.dataset import DatasetInfo
from rollama.lineage.events import Event, parse_event

FOLDER = "lineage"
KEY, HEADS = "ROLLAMA_LINEAGE_KEY", "ROLLAMA_LINEAGE_HEADS"


class Ledger:
    """One writer's chain, and a view of all. For one thread; every process has a writer of its own."""

    def __init__(
        self,
        storage: Storage,
        heads: Storage | None = None,
        signing_key: Any = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the place; nothing is written before the first event.

        Args:
            storage: holds `audit/` and `cases/`.
            heads: where signed heads go.
            signing_key: an Ed25519 private key for them.
            clock: seconds since 1970.
        """
        self.storage, self.heads, self.signing_key, self.clock = storage, heads, signing_key, clock
        self.writer = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(clock()))}-{secrets.token_hex(4)}"
        self.links = Links()

    def record(self, event: Event) -> None:
        """Write an event, unless some writer has written the same before.

        Raises:
            ClusterError, DataError: the place cannot be written.
        """
        if event not in self.events():
            self.add(event)

    def add(self, event: Event) -> None:
        """Write an event without a look at all others: for what happens often and never twice.

        Raises:
            ClusterError, DataError: the place cannot be written.
        """
        made = self.links.event(self.writer, self.clock(), **event.model_dump(mode="json"))
        name = file_name(self.writer, self.links.number)
        self.storage.write_bytes(name, (json.dumps(made, sort_keys=True) + "\n").encode())
        self.links.step(hash_json(made))
        if self.heads is not None:
            sign_head(self.heads, self.signing_key, self.writer, self.links.number, self.links.last, self.clock())

    def require_whole(self) -> None:
        """Check all chains, with the signed heads where they are configured.

        Raises:
            DataError: a chain is not whole, or its end was cut off.
        """
        require_whole(self.storage, self.heads, self.signing_key.public_key() if self.signing_key else None)

    def vouch(self) -> None:
        """Sign the ends of all chains, whoever wrote them; without key and place for heads nothing happens.

        Raises:
            DataError: a chain is not whole, or its end was cut off.
        """
        if self.heads is not None:
            sign_heads(self.storage, self.heads, self.signing_key, self.clock())

    def keep_cases(self, info: DatasetInfo, cases: Iterable[TextCase]) -> None:
        """Write down once which cases a data set held, by the hash of its content."""
        listed = ({"case": case.case_id, "centre": case.centre, "split": str(case.split)} for case in cases)
        self.keep_list(info.content_hash, info.name, sorted(listed, key=lambda item: item["case"]))

    def keep_list(self, content: str, name: str, cases: list[dict[str, str]]) -> None:
        """Write down once the cases (case, centre, split) of data with this content hash and name."""
        if not self.storage.exists(_cases(content)):
            text = json.dumps({"name": name, "cases": cases}, indent=0)
            self.storage.write_bytes(_cases(content), text.encode())

    def take_cases(self, other: Ledger, content: str) -> None:
        """Write down once the cases of data as another ledger has them.

        Raises:
            DataError: it does not have them.
        """
        if not self.storage.exists(_cases(content)):
            other.cases(content)  # not a damaged list
            self.storage.write_bytes(_cases(content), other.storage.read_bytes(_cases(content)) or b"")

    def cases(self, content: str) -> list[dict[str, str]]:
        """Case, centre and split of all that a data set held.

        Raises:
            DataError: nobody wrote them down, or the file is damaged.
        """
        name = _cases(content)
        text = self.storage.read_text(name)
        if text is None:
            raise DataError(f"{self.storage.uri}: no list of the cases of the data with content {content[:12]}")
        try:
            return [{key: str(item[key]) for key in ("case", "centre", "split")} for item in json.loads(text)["cases"]]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.storage.uri}/{name}: damaged ({type(error).__name__})") from None

    def data_kept(self) -> list[str]:
        """Content hashes of all data sets whose cases were written down."""
        return [name.removeprefix("cases/").removesuffix(".json") for name in self.storage.names("cases")]

    def events(self) -> list[Event]:
        """What all writers have written, oldest first.

        Raises:
            DataError: a chain is not whole.
        """
        return [parse_event(event) for event in events(self.storage)]


def _cases(content: str) -> str:
    return f"cases/{content}.json"


def has_ledger(workspace: Location) -> bool:
    """Whether somebody wrote into a workspace's ledger before."""
    return bool(open_storage(join(workspace, FOLDER)).names("audit"))


def read_ledger(workspace: Location) -> Ledger:
    """The ledger of a workspace for reading alone, whoever's key the environment names."""
    return Ledger(open_storage(join(workspace, FOLDER)))


def open_ledger(workspace: Location) -> Ledger:
    """The ledger of a workspace, signing if the environment says with what.

    Raises:
        ConfigError: only one of key and place for heads is given, or the key cannot be used.
    """
    key, heads = os.environ.get(KEY), os.environ.get(HEADS)
    if bool(key) != bool(heads):
        raise ConfigError(f"{KEY} and {HEADS} belong together: set both or none")
    storage = open_storage(join(workspace, FOLDER))
    if not key or not heads:
        return Ledger(storage)
    place = open_storage(heads)
    if place.uri == storage.uri:
        raise ConfigError(f"{HEADS}: signed heads belong elsewhere than the events, found {storage.uri} for both")
    return Ledger(storage, place, load_signing_key(Path(key)))
