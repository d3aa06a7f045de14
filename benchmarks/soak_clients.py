"""Clients of the soak: good, bad, impatient and unlucky ones, and the books in which every answer is accounted for.

A client does one thing after another, drawn from its own seed. Each call says what it may be answered; an answer is
*expected*, or *disturbed* (a connection error or a 5xx of a call that overlaps the time from a kill until the server
is ready again; the client repeats it), or *busy* (503 that says when to come back), or *unexplained*, which breaks a
promise. Jobs are followed to their end, whatever happens to the server meanwhile.
"""

from __future__ import annotations

import random
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.serve_processes import KEY

MARK = "Quillfeather"
"""Stands in every note; must never stand in a log."""
NOTE = f"{MARK}: left breast cancer, pT1 N1, breast-conserving surgery, {{}} years."
PLAN = (
    "Side: left. Surgery: breast-conserving. Volumes: whole breast. Nodes: none. Boost: none. "
    "Prescription: 40.05 Gy in 15 fractions. Technique: VMAT."
)
PATIENCE_S = 330.0
"""Longer than the deadline of a job, so that who gives up has found a lost one."""
AGAIN_S = 0.5
BUSY = ("too many jobs are waiting", "too busy to say that they are ready")
"""What a busy server says; the second is seen where many other processes wait for the same cores."""


@dataclass
class Job:
    """An accepted job: what it may end as, and how it did."""

    kind: str
    may: tuple[str, ...]
    accepted: float
    ended: str = ""
    attempt: int = 0


@dataclass
class Books:
    """All that happened; used by all clients at once."""

    calls: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(kind of call, judgement, answer) -> how often."""
    unexplained: list[str] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)
    kills: list[list[float]] = field(default_factory=list)
    """[begun, ready again] on the clock of `time.monotonic`; the second is infinite until it is known."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def disturbed(self, begun: float, ended: float) -> bool:
        """Whether a call overlaps a time without a server."""
        return any(begun <= last and ended >= first for first, last in self.kills)

    def note(self, kind: str, judgement: str, got: str, more: str = "") -> None:
        """Account for one answer."""
        with self.lock:
            self.calls[kind, judgement, got] += 1
            if judgement == "unexplained":
                self.unexplained.append(f"{kind}: {got} {more[:300]}".strip())

    def accepted(self, job_id: str, kind: str, may: tuple[str, ...]) -> None:
        """A job's id has come."""
        with self.lock:
            self.jobs.setdefault(job_id, Job(kind, may, time.time()))

    def ended(self, job_id: str, answer: dict[str, Any]) -> None:
        """A job is over; whether as it may."""
        job = self.jobs[job_id]
        state, error = str(answer["state"]), answer["error"] or {}
        found = f"{state} {error['status']}" if error else state
        with self.lock:
            job.ended, job.attempt = found, int(answer["attempt"])
        right = "as it may" if found in job.may else "unexplained"
        self.note(f"job of {job.kind}", right, found, str(error.get("detail", "")))


class Client(threading.Thread):
    """One user; ends after what it is doing when `over` is set."""

    def __init__(self, url: str, seed: int, data: Path, books: Books, over: threading.Event) -> None:
        super().__init__(name=f"client {seed}", daemon=True)
        self.url, self.data, self.books, self.over = url, data, books, over
        self.random = random.Random(seed)
        # A connection that outlived a kill would make a healthy call fail later.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.http = httpx.Client(base_url=url, timeout=PATIENCE_S, limits=limits)
        self.failure = ""

    def run(self) -> None:
        """Do one thing after another."""
        ways, weights = zip(*ACTIONS.items(), strict=True)
        try:
            while not self.over.is_set():
                (way,) = self.random.choices(ways, weights)
                way(self)
        except Exception as error:  # a client's own fault is no statement about the server; the soak fails all the same
            self.failure = f"{type(error).__name__}: {error}"
            raise

    def note(self) -> str:
        """A note that is like no other."""
        return NOTE.format(self.random.randrange(10**9))

    def call(
        self, kind: str, expected: Collection[int | str], method: str, path: str, key: str | None = KEY, **options: Any
    ) -> httpx.Response | None:
        """One request until it is answered as expected; None when it was not, or ended with an expected error.

        A call that is disturbed or finds the server busy is repeated, as a client does.
        """
        auth = {"Authorization": f"Bearer {key}"} if key else {}
        options["headers"] = {**auth, **options.get("headers", {})}
        give_up = time.monotonic() + PATIENCE_S
        while True:
            begun = time.monotonic()
            try:
                answer = self.http.request(method, path, **options)
            except httpx.TransportError as error:
                answer, got = None, type(error).__name__
            else:
                got = str(answer.status_code)
            if (got if answer is None else answer.status_code) in expected:
                self.books.note(kind, "expected", got)
                return answer
            judgement, pause = self._judge(answer, begun, time.monotonic())
            if judgement != "unexplained" and time.monotonic() > give_up:
                self.books.note(kind, "unexplained", f"{judgement} for {PATIENCE_S:.0f} s")
                return None
            self.books.note(kind, judgement, got, "" if answer is None else answer.text)
            if judgement == "unexplained":
                return None
            time.sleep(pause)

    def _judge(self, answer: httpx.Response | None, begun: float, ended: float) -> tuple[str, float]:
        if self.books.disturbed(begun, ended) and (answer is None or answer.is_server_error):
            return "disturbed", AGAIN_S
        if answer is not None and answer.status_code == 503 and any(words in answer.text for words in BUSY):
            return "busy", float(answer.headers["Retry-After"])
        return "unexplained", 0.0

    def start_job(
        self, kind: str, path: str, may: tuple[str, ...], expected: tuple[int, ...] = (202,), **options: Any
    ) -> str | None:
        """Submit once, however often that takes; the job's id."""
        options["headers"] = {"Idempotency-Key": uuid.uuid4().hex, **options.get("headers", {})}
        answer = self.call(kind, expected, "POST", path, **options)
        if answer is None:
            return None
        job_id: str = answer.json()["job_id"]
        self.books.accepted(job_id, kind, may)
        return job_id

    def follow(self, job_id: str | None) -> dict[str, Any] | None:
        """Wait for a job's end and account for it."""
        give_up = time.monotonic() + PATIENCE_S
        while job_id is not None and time.monotonic() < give_up:
            answer = self.call("look", (200,), "GET", f"/v1/jobs/{job_id}")
            if answer is None:
                return None
            body: dict[str, Any] = answer.json()
            if body["state"] not in ("queued", "running"):
                self.books.ended(job_id, body)
                return body
            time.sleep(0.4)
        return None

    def fetch(self, body: dict[str, Any] | None) -> None:
        """The target of a job that is done."""
        if body is not None and body["state"] == "done":
            answer = self.call("target", (200,), "GET", body["files"]["target.nii.gz"])
            if answer is not None and answer.content[:2] != b"\x1f\x8b":
                self.books.note("target", "unexplained", "not a gzip file")


def good_text(one: Client) -> None:
    """Summary and plan."""
    answer = one.call("plan", (200,), "POST", "/v1/plan", json={"note": one.note()})
    if answer is not None and not (answer.json()["summary"] and answer.json()["plan_text"]):
        one.books.note("plan", "unexplained", "no text")


def bad_text(one: Client) -> None:
    """Requests that say nothing, too much, or are none."""
    wrong: list[dict[str, Any]] = [
        {"json": {"note": ""}},
        {"json": {"note": one.note(), "summary": "x"}},
        {"content": b'{"note": ', "headers": {"Content-Type": "application/json"}},
        {"json": {"note": MARK + " a" * 9000}},
    ]
    one.call("bad text", (422,), "POST", "/v1/plan", **one.random.choice(wrong))


def stranger(one: Client) -> None:
    """No key, or a wrong one."""
    path = one.random.choice(["/v1/plan", "/v1/pipeline", "/v1/pipeline/upload"])
    one.call("stranger", (401,), "POST", path, key=one.random.choice([None, "wrong"]), json={"note": one.note()})


def by_reference(one: Client) -> None:
    """The chain on a CT of the data folder; sometimes its key is used again for something else."""
    key = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"note": one.note(), "ct_path": "ct.nii.gz"}
    job = one.start_job("reference", "/v1/pipeline", ("done",), json=body, headers=key)
    if job and one.random.random() < 0.2:
        other = {**body, "note": one.note()}
        one.call("other request, same key", (409,), "POST", "/v1/pipeline", json=other, headers=key)
    one.fetch(one.follow(job))


def by_upload(one: Client) -> None:
    """The chain on a CT that comes along."""
    files = {"ct": (one.data / "ct.nii.gz").read_bytes()}
    one.fetch(
        one.follow(one.start_job("upload", "/v1/pipeline/upload", ("done",), data={"note": one.note()}, files=files))
    )


def bad_upload(one: Client) -> None:
    """Files that are no CT, or half of one."""
    whole = (one.data / "ct.nii.gz").read_bytes()
    wrong = one.random.choice(
        [whole[: len(whole) // 2], one.random.randbytes(5000), b"PK\x03\x04" + bytes(200), b"", b"text"]
    )
    one.call("bad upload", (422,), "POST", "/v1/pipeline/upload", data={"note": one.note()}, files={"ct": wrong})


def bad_reference(one: Client) -> None:
    """Files that are not there, or not to be read."""
    place = one.random.choice(["../secret.nii.gz", "absent.nii.gz", "/etc/passwd", "."])
    one.call("bad reference", (422,), "POST", "/v1/pipeline", json={"note": one.note(), "ct_path": place})


def doomed(one: Client) -> None:
    """A job that is accepted and must fail: its note is longer than the model's context."""
    body = {"note": MARK + " word" * 9000, "ct_path": "ct.nii.gz"}
    one.follow(one.start_job("too long a note", "/v1/pipeline", ("failed 422",), json=body))


def cancelled(one: Client) -> None:
    """A long job that is stopped at some moment."""
    job = one.start_job(
        "cancelled", "/v1/segment", ("cancelled", "done"), json={"plan": PLAN, "ct_path": "large.nii.gz"}
    )
    if job:
        time.sleep(one.random.uniform(0, 2))
        one.call("cancel", (200,), "DELETE", f"/v1/jobs/{job}")
        one.follow(job)


def gone_text(one: Client) -> None:
    """Does not wait for the answer."""
    expected = (200, "ReadTimeout", "ConnectTimeout")
    one.call(
        "gone: text", expected, "POST", "/v1/plan", json={"note": one.note()}, timeout=one.random.uniform(0.01, 0.3)
    )


def gone_upload(one: Client) -> None:
    """Goes away in the middle of an upload."""
    host, port = one.url.removeprefix("http://").split(":")
    head = (
        f"POST /v1/pipeline/upload HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 900000\r\n\r\n--x\r\n"
        f'Content-Disposition: form-data; name="note"\r\n\r\n{one.note()}\r\n--x\r\n'
        'Content-Disposition: form-data; name="ct"; filename="ct"\r\n\r\n'
    )
    begun = time.monotonic()
    try:
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(head.encode() + one.random.randbytes(one.random.randrange(200_000)))
    except OSError as error:
        known = one.books.disturbed(begun, time.monotonic())
        one.books.note("gone: upload", "disturbed" if known else "unexplained", type(error).__name__)
    else:
        one.books.note("gone: upload", "expected", "left")


def gone_waiting(one: Client) -> None:
    """Goes away while it waits for a job, comes back with the same key and finds the one job."""
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    options: dict[str, Any] = {"json": {"note": one.note(), "ct_path": "ct.nii.gz"}}
    waiting = {**headers, "Prefer": "wait=100"}
    expected = (200, "ReadTimeout", "ConnectTimeout")
    one.call(
        "gone: job", expected, "POST", "/v1/pipeline", headers=waiting, timeout=one.random.uniform(0.1, 1), **options
    )
    found = (200, 202)  # over by now, or not
    one.fetch(one.follow(one.start_job("came back", "/v1/pipeline", ("done",), found, headers=headers, **options)))


def gone_events(one: Client) -> None:
    """Leaves a stream of events after the first."""
    job = one.start_job("events", "/v1/segment", ("done",), json={"plan": PLAN, "ct_path": "ct.nii.gz"})
    if job is None:
        return
    begun = time.monotonic()
    try:
        with one.http.stream("GET", f"/v1/jobs/{job}/events", headers={"Authorization": f"Bearer {KEY}"}) as events:
            got = str(events.status_code) if next(events.iter_lines(), None) is not None else "no event"
    except httpx.TransportError as error:
        got = type(error).__name__
    known = one.books.disturbed(begun, time.monotonic())
    one.books.note("gone: events", "expected" if got == "200" else "disturbed" if known else "unexplained", got)
    one.follow(job)


def nothing_there(one: Client) -> None:
    """Jobs that nobody made."""
    path = one.random.choice(
        [f"/v1/jobs/{uuid.uuid4().hex}", "/v1/jobs/x", f"/v1/jobs/{uuid.uuid4().hex}/files/target.nii.gz"]
    )
    one.call("no such job", (404,), "GET", path)


ACTIONS: dict[Callable[[Client], None], float] = {
    good_text: 3, bad_text: 2, stranger: 1, by_reference: 3, by_upload: 3, bad_upload: 2, bad_reference: 1, doomed: 1,
    cancelled: 2, gone_text: 1, gone_upload: 1, gone_waiting: 1, gone_events: 1, nothing_there: 1,
}  # fmt: skip
"""What clients do, and how often relative to each other."""
