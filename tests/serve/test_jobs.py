"""Jobs in the store: who may work on one, what of it counts, and when it is gone. On a folder and on S3."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from rollama.client.schemas import State
from rollama.core.errors import ServeError
from rollama.core.storage import open_storage
from serve.jobs import MAX_ATTEMPTS, ConflictError, JobRequest, JobStore, Status, StoreError, new_id
from tests.core.s3server import Server, serving


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    if request.param == "folder":
        yield JobStore(open_storage(tmp_path / "store"), 30.0, clock)
        return
    with serving(Server()) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield JobStore(open_storage("s3://bucket/serve"), 30.0, clock)


def ask(store: JobStore, key: str = "", content: str = "") -> str:
    job = JobRequest(new_id(), "me", "note", "A note.", "ct.nii.gz", {}, 1000.0, 1600.0, 2000.0)
    return store.submit(job, key, content)


def test_a_job_from_its_request_to_its_outcome(store: JobStore) -> None:
    job_id = ask(store)
    assert store.status(job_id) == Status(State.QUEUED) and store.waiting() == [job_id]
    asked = store.request(job_id)
    assert asked is not None and (asked.text, asked.owner) == ("A note.", "me") and "A note" not in repr(asked)
    assert store.claim(job_id, "a") == 1
    assert store.claim(job_id, "b") is None  # somebody is at work
    store.update(job_id, Status(State.RUNNING, 1, "plan", 1, 2, result={"summary": "Left."}))
    seen = store.status(job_id)
    assert (seen.stage, seen.done, seen.total, seen.result, seen.updated) == (
        "plan",
        1,
        2,
        {"summary": "Left."},
        1000.0,
    )
    store.put_file(job_id, 1, "target.nii.gz", b"123")
    assert store.finish(job_id, Status(State.DONE, 1, files={"target.nii.gz": "5"}))
    done = store.status(job_id)
    assert done.final and store.get_file(job_id, done, "target.nii.gz") == b"123"
    assert store.get_file(job_id, done, "../../request.json") is None
    assert store.claim(job_id, "b") is None and store.waiting() == []
    for wrong in ("", "..", "0" * 31, "../" + job_id):
        assert store.request(wrong) is None


def test_an_outcome_of_an_earlier_version_is_read(store: JobStore) -> None:
    job_id = ask(store)
    assert store.claim(job_id, "a") == 1
    store.put_file(job_id, 1, "target.nii.gz", b"123")
    store.finish(job_id, Status(State.DONE, 1, files={"target.nii.gz": "5"}))
    name = f"jobs/{job_id}/final.json"
    now = json.loads(store.storage.read_text(name))
    assert tuple(now["files"]) == ("target.nii.gz",), "and that version reads names from today's"
    store.storage.write_text(name, json.dumps({**now, "files": ["target.nii.gz"]}))
    done = store.status(job_id)
    assert done.files == {"target.nii.gz": ""} and store.get_file(job_id, done, "target.nii.gz") == b"123"


def test_a_lost_lease_lets_another_begin_and_the_first_can_change_nothing(store: JobStore, clock: Clock) -> None:
    job_id = ask(store)
    assert store.claim(job_id, "a") == 1 and store.leased(job_id)
    clock.now += 20
    assert store.renew(job_id, 1, "a")
    clock.now += 20
    assert store.claim(job_id, "b") is None  # renewed
    clock.now += 20
    assert store.claim(job_id, "b") == 2
    assert not store.renew(job_id, 1, "a")
    store.update(job_id, Status(State.RUNNING, 2, "target"))
    store.update(job_id, Status(State.RUNNING, 1, "summary"))  # the first wakes up
    assert store.status(job_id).attempt == 2
    assert store.finish(job_id, Status(State.DONE, 2, files={"a": "5"}))
    assert not store.finish(job_id, Status(State.FAILED, 1))
    assert (store.status(job_id).state, store.status(job_id).attempt) == (State.DONE, 2)


def test_of_many_replicas_one_gets_the_job(store: JobStore) -> None:
    for _ in range(10):
        job_id = ask(store)
        with ThreadPoolExecutor(8) as pool:
            won = [number for number in pool.map(partial(store.claim, job_id), "abcdefgh") if number]
        assert won == [1]


def test_a_job_that_always_loses_its_server_fails(store: JobStore, clock: Clock) -> None:
    job_id = ask(store)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert store.claim(job_id, "a") == attempt
        clock.now += 31
    assert store.claim(job_id, "a") is None
    status = store.status(job_id)
    assert status.state is State.FAILED and status.error is not None and "interrupted 3 times" in status.error["detail"]


def test_cancelling(store: JobStore, clock: Clock) -> None:
    waiting = ask(store)
    store.cancel(waiting)
    assert store.status(waiting).state is State.CANCELLED and store.claim(waiting, "a") is None
    working = ask(store)
    assert store.claim(working, "a") == 1
    store.cancel(working)
    assert store.status(working).state is State.QUEUED  # its owner decides
    assert not store.renew(working, 1, "a") and store.is_cancelled(working)
    store.cancel(working)
    clock.now += 31
    store.cancel(working)  # the owner is lost
    assert store.status(working).state is State.CANCELLED


def test_a_cancelled_job_is_never_begun_again(store: JobStore, clock: Clock) -> None:
    told: list[tuple[str, State]] = []
    store.decided = lambda job, status: told.append((job.job_id, status.state))
    job_id = ask(store)
    assert store.claim(job_id, "a") == 1
    store.cancel(job_id)
    clock.now += 31  # its server was lost meanwhile
    assert store.claim(job_id, "b") is None
    assert store.status(job_id).state is State.CANCELLED and told == [(job_id, State.CANCELLED)]
    store.finish(job_id, Status(State.DONE, 1))
    assert len(told) == 1


def test_a_store_that_lets_two_writers_win_is_refused(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.probe()
    assert store.storage.names("probe") == []
    monkeypatch.setattr(type(store.storage._storage), "create", lambda *_: True)
    with pytest.raises(ServeError, match="If-None-Match"):
        store.probe()


def test_errors_of_the_store_name_no_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = JobStore(open_storage(tmp_path / "file"), 30.0)
    with pytest.raises(StoreError) as caught:
        ask(store)
    assert str(tmp_path) not in str(caught.value)


def test_idempotency(store: JobStore) -> None:
    first = ask(store, "k", "same")
    assert ask(store, "k", "same") == first and store.waiting() == [first]
    assert store.earlier("k", "same") == first and store.earlier("other", "same") is None
    with pytest.raises(ConflictError, match="another request"):
        ask(store, "k", "different")
    with ThreadPoolExecutor(6) as pool:
        jobs = set(pool.map(lambda _: ask(store, "race", "x"), range(6)))
    assert len(jobs) == 1


def test_what_expires_leaves_nothing(store: JobStore, clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "ct").write_bytes(b"ct")
    job_id = ask(store, "k", "same")
    store.put_ct(job_id, tmp_path / "ct", 2000.0)
    assert store.claim(job_id, "a") == 1
    store.put_file(job_id, 1, "target.nii.gz", b"123")
    store.finish(job_id, Status(State.DONE, 1, files={"target.nii.gz": "5"}))
    assert store.sweep() == 0
    clock.now = 2001
    other = ask(store)
    clock.now = 1999
    assert store.sweep() == 0
    clock.now = 2001
    assert store.sweep() == 2 and store.storage.names() == []
    assert store.request(job_id) is None and store.request(other) is None


def test_a_discarded_upload_leaves_only_its_date(store: JobStore, clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "ct").write_bytes(b"ct")
    job_id = ask(store)
    store.put_ct(job_id, tmp_path / "ct", 2000.0)
    store.discard(job_id)
    assert store.storage.names() == [f"expires/00000002000-{job_id}"] and store.waiting() == []
