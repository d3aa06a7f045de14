"""Changing models: two releases held, the newest made ready, a bad one changing nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from rollama.core.errors import CheckpointError, DataError
from serve.current import Current
from serve.release import Release, Releases
from tests.chain.tiny import make_models


def release(name: str, seg: str = "") -> Release:
    return Release(s=f"{name}/s", p=f"{name}/p", seg=seg or f"{name}/seg")


class Loader:
    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.dropped: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self, wanted: Release) -> str:
        await self.gate.wait()
        if wanted.s.startswith("bad"):
            raise DataError("no such content")
        self.loaded.append(wanted.s)
        return wanted.s

    async def drop(self, model: str) -> None:
        self.dropped.append(model)


def test_two_are_held_and_the_newest_is_never_the_one_that_goes() -> None:
    async def run() -> None:
        made = Loader()
        held = Releases(("s", "p"), made.load, made.drop)
        await held.renew(release("a"))
        await held.renew(release("b"))
        assert [await held.get(release(name)) for name in ("a", "b", "a")] == ["a/s", "b/s", "a/s"]
        assert await held.get(release("b", seg="other/seg")) == "b/s"  # the same texts: nothing to load
        assert made.loaded == ["a/s", "b/s"]
        await held.get(release("c"))
        assert made.dropped == ["a/s"]
        assert list(held.held.values()) == ["b/s", "c/s"]

    asyncio.run(run())


def test_all_who_ask_wait_for_one_loading() -> None:
    async def run() -> None:
        made = Loader()
        held = Releases(("s",), made.load, made.drop)
        made.gate.clear()
        first, *others = [asyncio.create_task(held.get(release("a"))) for _ in range(3)]
        await asyncio.sleep(0)
        first.cancel()  # whoever asked first gives up; the others still get it
        made.gate.set()
        assert await asyncio.gather(*others) == ["a/s", "a/s"] and made.loaded == ["a/s"]

    asyncio.run(run())


def test_a_release_that_cannot_be_loaded_is_fatal_only_to_a_replica_without_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run() -> None:
        made = Loader()
        held = Releases(("s",), made.load, made.drop)
        with pytest.raises(DataError):
            await held.renew(release("bad"))
        await held.renew(release("a"))
        await held.renew(release("bad"))
        await asyncio.sleep(0.01)
        assert await held.get(release("a")) == "a/s"
        with pytest.raises(DataError):
            await held.get(release("bad"))

    asyncio.run(run())


class Ingress:
    """A `Current` with what it said, and models that are ready or not."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.fail: Exception | None = None
        self.current = Current(self.warm, lambda outcome, hashes: self.told.append((outcome, hashes.get("s", ""))))

    async def warm(self, wanted: Release) -> None:
        if self.fail:
            raise self.fail

    async def until(self, true: Callable[[], bool]) -> None:
        for _ in range(500):
            if true():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"still {self.current.describe()}, told {self.told}")


@pytest.fixture
def ingress(monkeypatch: pytest.MonkeyPatch) -> Ingress:
    monkeypatch.setattr("serve.current.FIRST_PAUSE_S", 0.02)
    return Ingress()


def test_the_ingress_changes_when_the_models_are_ready(ingress: Ingress, tmp_path: Path) -> None:
    one, two = (Release.of_folder(make_models(tmp_path / name)) for name in ("one", "two"))

    async def run() -> None:
        await ingress.current.renew(one)
        before = ingress.current.describe()
        assert set(before.serving) == {"s", "p", "seg"} and before.named == {"s": "s", "p": "p", "seg": "seg"}
        ingress.fail = DataError("blob missing")
        await ingress.current.renew(two)
        await ingress.until(lambda: bool(ingress.current.problem))
        held = ingress.current.describe()
        assert (held.serving, held.problem) == (before.serving, "blob missing") and held.wanted
        assert ingress.current.release == one
        ingress.fail = None  # the store answers again: nobody has to name the release once more
        await ingress.until(lambda: ingress.current.release == two)
        after = ingress.current.describe()
        assert not after.wanted and not after.problem
        assert [outcome for outcome, _ in ingress.told] == ["served", "refused", "served"]

    asyncio.run(run())


def test_a_release_taken_back_in_time_is_forgotten(ingress: Ingress, tmp_path: Path) -> None:
    one = Release.of_folder(make_models(tmp_path / "one"))

    async def run() -> None:
        await ingress.current.renew(one)
        await ingress.current.renew(release(str(tmp_path / "absent")))
        await ingress.until(lambda: bool(ingress.current.problem))
        assert ingress.current.problem.startswith("s: no manifest.json"), "the reason without the place"
        await ingress.current.renew(one)
        found = ingress.current.describe()
        assert not found.wanted and not found.problem and ingress.current.release == one
        assert [outcome for outcome, _ in ingress.told] == ["served", "refused", "served"]

    asyncio.run(run())


def test_an_ingress_without_models_does_not_start(ingress: Ingress) -> None:
    with pytest.raises(CheckpointError, match="absent"):
        asyncio.run(ingress.current.renew(release("absent")))


def test_places_are_not_told(ingress: Ingress) -> None:
    digest = "sha256:" + "a" * 64
    ingress.current.wanted = Release(s=f"s3://bucket/store@{digest}", p="/srv/models/p", seg="seg/")
    assert ingress.current.describe().wanted == {"s": digest, "p": "p", "seg": "seg"}


def test_the_api_says_which_models_answer(client: TestClient) -> None:
    assert client.get("/v1/models").json()["serving"] == {"s": "1", "p": "2", "seg": "3"}
    assert client.get("/v1/models", headers={"Authorization": ""}).status_code == 401
