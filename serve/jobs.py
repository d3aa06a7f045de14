"""Long work as jobs whose whole state lies in the store, so that any replica answers and a lost one loses nothing.

    jobs/<id>/request.json          what was asked, by whom, until when; never changed
    jobs/<id>/ct                    the uploaded CT, if it was not named by reference
    jobs/<id>/claims/<n>.json       the n-th attempt: its owner, and until when the owner's word is good (a lease)
    jobs/<id>/<n>/status.json       what that attempt has so far, rewritten by its owner
    jobs/<id>/<n>/files/<name>      its results
    jobs/<id>/final.json            the outcome: the first attempt that gets here decides
    jobs/<id>/cancel                somebody wants it to stop
    open/<id>                       jobs without an outcome, so that a search need not read all
    expires/<seconds>-<id>          when everything of it is deleted
    keys/<digest>.json              the job of an idempotency key

Claims, outcomes and idempotency keys are created conditionally: of several writers the store lets one win. A replica
that stalled, lost its lease and comes back can therefore neither change an outcome nor overwrite another attempt.
Clocks of replicas must agree to within some seconds. Texts and CTs lie in the store until they expire: it has to be
as protected as any place with patients' data.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rollama.client.schemas import State
from rollama.core.errors import RollamaError, ServeError
from rollama.core.storage import Storage

ID = re.compile(r"[0-9a-f]{32}")
MAX_ATTEMPTS = 3


class ConflictError(ServeError):
    """A request contradicts an earlier one."""


class StoreError(ServeError):
    """The store does not answer or cannot be written; its own message names places on the server."""


class _Quiet:
    """A storage whose errors name nothing."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._storage, name)
        if not callable(method):
            return method

        def call(*arguments: Any) -> Any:
            try:
                return method(*arguments)
            except (RollamaError, OSError) as error:
                raise StoreError("the store of jobs does not answer or cannot be written; try again later") from error

        return call


@dataclass(frozen=True)
class JobRequest:
    """What was asked. `text` is the note, summary or plan; times are seconds since 1970."""

    job_id: str
    owner: str
    source: str
    text: str = field(repr=False)
    ct: str = field(repr=False)
    """Path below the data folder; empty for an upload."""
    options: dict[str, Any]
    created: float
    deadline: float
    expires: float


@dataclass(frozen=True)
class Status:
    """What is known of a job. `result` holds what there is of texts, plan and measures; `error` is a problem; `files`
    are its results by name, each with its SHA-256 (empty in what an older version wrote).
    """

    state: State
    attempt: int = 0
    stage: str = ""
    done: int = 0
    total: int = 0
    updated: float = 0.0
    result: dict[str, Any] = field(default_factory=dict, repr=False)
    files: dict[str, str] = field(default_factory=dict)
    error: dict[str, Any] | None = None

    @property
    def final(self) -> bool:
        """Whether nothing will change any more."""
        return self.state.final


class JobStore:
    """Jobs in a folder or a bucket prefix. Every method blocks; call it from a thread.

    Methods raise what `Storage` raises when the store does not answer.
    """

    def __init__(self, storage: Storage, lease_s: float, clock: Callable[[], float] = time.time) -> None:
        self.storage: Any = _Quiet(storage)
        self.lease_s, self.clock = lease_s, clock
        self.decided: Callable[[JobRequest, Status], object] | None = None
        """Told about every outcome that this store object decided, from whatever thread."""

    def probe(self) -> None:
        """Find out whether of two writers the store lets one win, before anything rests on it.

        Raises:
            ServeError: it does not (an S3 server that ignores If-None-Match).
        """
        name = f"probe/{new_id()}"
        first, second = self.storage.create(name, b""), self.storage.create(name, b"")
        self.storage.delete(name)
        if not first or second:
            raise ServeError("the store lets two writers win (it ignores If-None-Match); jobs need one that does not")

    def submit(self, request: JobRequest, key: str = "", content: str = "") -> str:
        """Keep a job; an uploaded CT must be there already.

        The key comes last: a replica that dies on the way leaves a job that is found and done, never a key to nothing.

        Args:
            request: the job.
            key: digest of owner and idempotency key; empty for none.
            content: digest of what was sent.

        Returns:
            the job's id, or that of the earlier job with the same key.

        Raises:
            ConflictError: the key was used for another content.
        """
        job_id = request.job_id
        if key:
            request = replace(request, options={**request.options, "key": key})
        self._expire(job_id, request.expires)
        self._write(f"jobs/{job_id}/request.json", asdict(request))
        self.storage.create(f"open/{job_id}", b"")
        if not key or self.storage.create(f"keys/{key}.json", json.dumps({"job": job_id, "is": content}).encode()):
            return job_id
        self.discard(job_id)
        earlier = self.earlier(key, content)
        if earlier is None:
            raise ServeError("the job of this idempotency key expired at this moment; send the request again")
        return earlier

    def earlier(self, key: str, content: str) -> str | None:
        """The job that has this idempotency key already.

        Raises:
            ConflictError: it was for another content.
        """
        text = self.storage.read_text(f"keys/{key}.json")
        if text is None:
            return None
        found = json.loads(text)
        if found["is"] != content:
            raise ConflictError("this Idempotency-Key was used for another request; take a new one")
        return str(found["job"])

    def put_ct(self, job_id: str, path: Path, expires: float) -> None:
        """Keep the CT of a job to be."""
        self._expire(job_id, expires)  # first: whatever happens next, nothing of a patient stays for ever
        self.storage.upload(path, f"jobs/{job_id}/ct")

    def _expire(self, job_id: str, expires: float) -> None:
        self.storage.create(f"expires/{int(expires):011d}-{job_id}", b"")

    def request(self, job_id: str) -> JobRequest | None:
        """What was asked, or None when there is no such job (any more)."""
        if not ID.fullmatch(job_id):
            return None
        text = self.storage.read_text(f"jobs/{job_id}/request.json")
        return None if text is None else JobRequest(**json.loads(text))

    def status(self, job_id: str) -> Status:
        """The outcome, or what the latest attempt has."""
        final = self.storage.read_text(f"jobs/{job_id}/final.json")
        if final is not None:
            return _status(final)
        attempt = self._attempts(job_id)
        while attempt:
            text = self.storage.read_text(f"jobs/{job_id}/{attempt}/status.json")
            if text is not None:
                return _status(text)
            attempt -= 1
        return Status(State.QUEUED)

    def claim(self, job_id: str, owner: str) -> int | None:
        """Begin an attempt, if the job has no outcome and nobody else is at work; its number."""
        if self.storage.exists(f"jobs/{job_id}/final.json"):
            return None
        if self.is_cancelled(job_id):
            self.cancel(job_id)
            return None
        latest = self._attempts(job_id)  # looked at once: between two looks another attempt may begin
        if latest and self._lease(job_id, latest) > self.clock():
            return None
        if latest >= MAX_ATTEMPTS:
            problem = {"status": 500, "title": "Failed", "detail": f"the job was interrupted {latest} times"}
            self.finish(job_id, Status(State.FAILED, latest, error=problem))
            return None
        number = latest + 1
        lease = json.dumps({"owner": owner, "until": self.clock() + self.lease_s}).encode()
        return number if self.storage.create(f"jobs/{job_id}/claims/{number}.json", lease) else None

    def leased(self, job_id: str) -> bool:
        """Whether somebody is at work, as far as the latest lease says."""
        latest = self._attempts(job_id)
        return bool(latest) and self._lease(job_id, latest) > self.clock()

    def _lease(self, job_id: str, attempt: int) -> float:
        return float(self._read(f"jobs/{job_id}/claims/{attempt}.json")["until"])

    def renew(self, job_id: str, attempt: int, owner: str) -> bool:
        """Keep the lease; False when another attempt has begun, somebody cancelled, or the job is over or gone."""
        names = self.storage.names(f"jobs/{job_id}")
        gone = (f"jobs/{job_id}/{name}" in names for name in (f"claims/{attempt + 1}.json", "final.json", "cancel"))
        if f"jobs/{job_id}/request.json" not in names or any(gone):
            return False
        self._write(f"jobs/{job_id}/claims/{attempt}.json", {"owner": owner, "until": self.clock() + self.lease_s})
        return True

    def update(self, job_id: str, status: Status) -> None:
        """Say what an attempt has."""
        self._write(f"jobs/{job_id}/{status.attempt}/status.json", asdict(replace(status, updated=self.clock())))

    def finish(self, job_id: str, status: Status) -> bool:
        """Decide the outcome; False when it was decided before."""
        content = json.dumps(asdict(replace(status, updated=self.clock()))).encode()
        first: bool = self.storage.create(f"jobs/{job_id}/final.json", content)
        self.storage.delete(f"open/{job_id}")
        request = self.request(job_id) if first and self.decided is not None else None
        if request is not None and self.decided is not None:
            self.decided(request, status)
        return first

    def cancel(self, job_id: str) -> None:
        """Ask for a stop; a job that nobody works on is over at once."""
        self.storage.create(f"jobs/{job_id}/cancel", b"")
        if not self.leased(job_id):
            self.finish(job_id, replace(self.status(job_id), state=State.CANCELLED))

    def is_cancelled(self, job_id: str) -> bool:
        """Whether somebody asked for a stop."""
        return bool(self.storage.exists(f"jobs/{job_id}/cancel"))

    def put_file(self, job_id: str, attempt: int, name: str, data: bytes) -> None:
        """Keep a result."""
        self.storage.write_bytes(f"jobs/{job_id}/{attempt}/files/{name}", data)

    def get_file(self, job_id: str, status: Status, name: str) -> bytes | None:
        """A result, or None when the job has none of this name."""
        if name not in status.files:
            return None
        data: bytes | None = self.storage.read_bytes(f"jobs/{job_id}/{status.attempt}/files/{name}")
        return data

    def waiting(self) -> list[str]:
        """Jobs without an outcome."""
        return [name.removeprefix("open/") for name in self.storage.names("open")]

    def sweep(self) -> int:
        """Delete what has expired; how many jobs."""
        gone = 0
        for name in self.storage.names("expires"):
            moment, _, job_id = name.removeprefix("expires/").partition("-")
            if float(moment) > self.clock():
                break  # names are in the order of time
            request = self.request(job_id)
            if request is not None and request.options.get("key"):
                self.storage.delete(f"keys/{request.options['key']}.json")
            self.discard(job_id)
            self.storage.delete(name)
            gone += 1
        return gone

    def discard(self, job_id: str) -> None:
        """Delete a job that is not to be, or an upload whose job was refused; what expires of it is swept later."""
        self.storage.delete(f"open/{job_id}")
        self._delete(f"jobs/{job_id}")

    def _delete(self, prefix: str) -> None:
        for name in _last(self.storage.names(prefix), "request.json"):
            self.storage.delete(name)

    def _attempts(self, job_id: str) -> int:
        return len(self.storage.names(f"jobs/{job_id}/claims"))

    def _read(self, name: str) -> dict[str, Any]:
        text = self.storage.read_text(name)
        if text is None:
            raise ServeError("a job disappeared from the store while it was read")
        found: dict[str, Any] = json.loads(text)
        return found

    def _write(self, name: str, content: dict[str, Any]) -> None:
        self.storage.write_text(name, json.dumps(content))


def _status(text: str) -> Status:
    values = json.loads(text)
    files = values["files"]
    files = files if isinstance(files, dict) else dict.fromkeys(files, "")
    return Status(**{**values, "state": State(values["state"]), "files": files})


def _last(names: Iterable[str], ending: str) -> list[str]:
    """The names with those that end so at the end: what is half deleted can still be recognised."""
    return sorted(names, key=lambda name: (name.endswith(ending), name))


def new_id() -> str:
    """An id of a job or request: random, so that it tells nothing about the patient."""
    return uuid.uuid4().hex
