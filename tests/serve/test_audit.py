"""The audit trail: complete, without content, and any later change shows."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from rollama.cli.main import main
from rollama.core.chain import load_public_key, load_signing_key, verify
from rollama.core.config import build
from rollama.core.errors import ClusterError, ConfigError, DataError
from rollama.core.storage import Storage, open_storage
from serve.audit import MOST_PENDING, Audit
from serve.config import ServeConfig
from tests.lineage.conftest import make_keys
from tests.serve.conftest import PLAN, Connect


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return make_keys(tmp_path)


def filled(tmp_path: Path, keys: tuple[Path, Path], events: int = 5) -> tuple[Storage, Storage]:
    store, heads = open_storage(tmp_path / "store"), open_storage(tmp_path / "heads")

    async def run() -> None:
        audit = Audit(store, "w1", heads, load_signing_key(keys[0]), every_s=0.0)
        for number in range(events):
            audit.add(who="clinic-a", what="POST /v1/plan", request=str(number), outcome=200)
            while audit.pending:
                await asyncio.sleep(0.01)
        await audit.close()

    asyncio.run(run())
    return store, heads


def files(store: Storage) -> list[Path]:
    assert store.local is not None
    return sorted([*store.local.rglob("*.json"), *store.local.rglob("*.jsonl")])


def events_of(store: Storage) -> list[Any]:
    return [json.loads(line) for path in files(store) for line in path.read_text().splitlines()]


def test_a_whole_chain(tmp_path: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    store, heads = filled(tmp_path, keys)
    (chain,) = verify(store, heads, load_public_key(keys[1]))
    assert (chain.writer, chain.events, chain.signed, chain.problems) == ("w1", 5, 5, ())
    with pytest.raises(SystemExit) as ended:
        main(["audit", "verify", store.uri, "--heads", heads.uri, "--public-key", str(keys[1])])
    assert ended.value.code == 0
    assert "whole" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("change", "does not follow"), ("remove", "event 2 is missing"), ("exchange", "event 1 is missing"),
        ("cut", "the end was cut off"),
        ("rewrite", "is not the one that was signed"), ("damage", "not readable"), ("forge head", "signature is wrong"),
    ],
)  # fmt: skip
def test_every_harm_shows(tmp_path: Path, keys: tuple[Path, Path], harm: str, said: str) -> None:
    store, heads = filled(tmp_path, keys)
    events = files(store)
    if harm == "change":
        events[2].write_text(events[2].read_text().replace("clinic-a", "clinic-b"))
    elif harm == "remove":
        events[2].unlink()
    elif harm == "exchange":
        one, other = events[1].read_text(), events[2].read_text()
        events[1].write_text(other)
        events[2].write_text(one)
    elif harm == "cut":
        for path in events[3:]:
            path.unlink()
    elif harm == "rewrite":  # all of it, with a chain that fits
        for path in events:
            path.unlink()

        async def again() -> None:
            audit = Audit(store, "w1")
            for number in range(5):
                audit.add(who="clinic-b", what="POST /v1/plan", request=str(number), outcome=200)
                while audit.pending:
                    await asyncio.sleep(0.01)
            await audit.close()

        asyncio.run(again())
    elif harm == "damage":
        events[2].write_bytes(b"\xff{")
        events[2].write_text("{")
    else:
        head = files(heads)[-1]
        head.write_text(json.dumps({**json.loads(head.read_text()), "events": 3}))
    (chain,) = verify(store, heads, load_public_key(keys[1]))
    assert any(said in problem for problem in chain.problems), chain.problems
    with pytest.raises(SystemExit) as ended:
        main(["audit", "verify", store.uri, "--heads", heads.uri, "--public-key", str(keys[1])])
    assert ended.value.code == 1


def test_a_trail_that_vanished_is_found_by_its_heads(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    store, heads = filled(tmp_path, keys)
    for path in files(store):
        path.unlink()
    (chain,) = verify(store, heads, load_public_key(keys[1]))
    assert chain.problems and verify(store) == []


class Broken:
    """A store that refuses for a while."""

    def __init__(self, storage: Storage) -> None:
        self.storage, self.down = storage, True

    def create(self, name: str, data: bytes) -> bool:
        if self.down:
            raise ClusterError("the store does not answer")
        return self.storage.create(name, data)


def test_events_wait_for_a_store_that_does_not_answer(tmp_path: Path) -> None:
    async def run() -> None:
        broken: Any = Broken(open_storage(tmp_path))
        audit = Audit(broken, "w1")
        for number in range(MOST_PENDING):
            assert audit.takes_more
            audit.add(who="clinic-a", request=str(number))
        assert not audit.takes_more
        for _ in range(1000):
            audit.add(who="", request="a stranger's")  # fills no memory
        await asyncio.sleep(0.05)
        assert len(audit.pending) == MOST_PENDING
        broken.down = False
        audit.add(who="clinic-a", request="last")
        for _ in range(100):
            await asyncio.sleep(0.05)
            if not audit.pending:
                break
        assert audit.takes_more and not audit.pending
        await audit.close()

    asyncio.run(run())
    (chain,) = verify(open_storage(tmp_path))
    assert (chain.events, chain.problems) == (MOST_PENDING + 1, ())
    assert len(files(open_storage(tmp_path))) < 20  # many in a file
    assert events_of(open_storage(tmp_path))[-1]["strangers_not_recorded"] == 1000


def test_every_request_leaves_an_event_without_content(
    connect: Connect, config: ServeConfig, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    client = connect(audit_heads=str(tmp_path / "heads"), audit_key_file=keys[0], audit=str(tmp_path / "trail"))
    client.post("/v1/summary", json={"note": "CANARY"})
    job = client.post("/v1/segment", json={"plan": PLAN, "ct_path": "ct.nii.gz"}, headers={"Prefer": "wait=30"}).json()
    client.get(job["files"]["target.nii.gz"])
    client.get("/v1/jobs/CANARY")
    client.post("/v1/summary", json={"note": "a"}, headers={"Authorization": "Bearer CANARY"})
    client.get("/healthz")
    client.__exit__(None, None, None)
    client.__enter__()
    store, heads = open_storage(tmp_path / "trail"), open_storage(tmp_path / "heads")
    (chain,) = verify(store, heads, load_public_key(keys[1]))
    assert chain.problems == () and chain.signed == chain.events == 6
    text = "".join(path.read_text() for path in files(store))
    assert "CANARY" not in text and "ct.nii" not in text
    events = events_of(store)
    told = {(event["who"], event["what"], event["outcome"]) for event in events}
    assert told >= {
        ("key", "POST /v1/summary", 200), ("key", "POST /v1/segment", 200), ("key", "job", "done"),
        ("key", "GET /v1/jobs/{job_id}", 404), ("key", "GET /v1/jobs/{job_id}/files/{name}", 200),
    }  # fmt: skip
    assert ("", 401) in {(event["who"], event["outcome"]) for event in events}
    made = next(event for event in events if event["what"] == "job")
    assert made["models"] == {"s": "1", "p": "2", "seg": "3"} and made["job"] == job["job_id"]
    assert set(made["files"]) == set(job["files"])


def test_a_downloaded_contour_is_known_again(
    connect: Connect, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = connect(audit=str(tmp_path / "trail"))
    asked = {"plan": PLAN, "ct_path": "ct.nii.gz"}
    job = client.post("/v1/segment", json=asked, headers={"Prefer": "wait=30"}).json()
    got = {name: client.get(job["files"][name]).content for name in ("target.nii.gz", "manifest.json")}
    client.__exit__(None, None, None)
    client.__enter__()
    contour = tmp_path / "downloads" / "somewhere else.nii.gz"
    contour.parent.mkdir()
    contour.write_bytes(got["target.nii.gz"])

    def told(*more: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["lineage", "--workspace", str(tmp_path / "ws"), "--contour", str(contour), *more])
        assert ended.value.code == code
        out = capsys.readouterr()
        return " ".join((out.out + out.err).split())

    assert "with --audit" in told(code=1)
    answer = told("--audit", str(tmp_path / "trail"))
    assert f"job {job['job_id']}" in answer and "asked by key" in answer and "event in the audit trail" in answer
    assert "model seg 3 not recorded" in answer and "input" not in answer
    (contour.parent / "manifest.json").write_bytes(got["manifest.json"])  # the trail vouches for it
    digest = json.loads(got["manifest.json"])["inputs"]["ct"]
    assert f"input ct {digest}" in told("--audit", str(tmp_path / "trail"))
    (contour.parent / "manifest.json").write_bytes(got["manifest.json"].replace(digest.encode(), b"0" * 64))
    assert "input" not in told("--audit", str(tmp_path / "trail"))
    contour.write_bytes(b"another")
    assert "no event in" in told("--audit", str(tmp_path / "trail"), code=1)
    trail = files(open_storage(tmp_path / "trail"))[0]
    trail.write_text(trail.read_text().replace('"key"', '"you"', 1))
    assert "is not whole" in told("--audit", str(tmp_path / "trail"), code=1)


def test_settings_and_keys_that_do_not_fit(config: ServeConfig, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    values = config.model_dump(mode="json")
    with pytest.raises(ConfigError, match="belong together"):
        build(ServeConfig, {**values, "audit_heads": str(tmp_path)}, "serve")
    for path in (keys[1], tmp_path / "absent"):
        with pytest.raises(ConfigError, match="not a readable private key"):
            load_signing_key(path)
    with pytest.raises(DataError, match="not a readable public key"):
        load_public_key(keys[0])
    with pytest.raises(SystemExit):
        main(["audit", "verify", str(tmp_path / "nothing")])
