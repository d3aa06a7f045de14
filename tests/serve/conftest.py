"""Folders, a key, a CT and scripted models for the endpoint's tests."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from fastapi.testclient import TestClient

from rollama.core.registry import Task
from rollama.core.storage import open_storage
from rollama.data.volumes import Volume, read_ct
from rollama.dicom.write import Identity, write_series
from rollama.segmentation.outline import Outline
from serve.api import make_api
from serve.audit import open_audit
from serve.auth import load_callers
from serve.config import ServeConfig
from serve.jobs import JobStore
from serve.service import Service
from serve.work import Backend, Progress

KEY = "test-key-of-the-endpoint"
PLAN = (
    "Side: left. Surgery: breast-conserving. Volumes: whole breast. Nodes: none. Boost: none. "
    "Prescription: 40.05 Gy in 15 fractions. Technique: VMAT."
)
NO_TARGET = (
    "Side: right. Surgery: mastectomy. Volumes: none. Nodes: none. Boost: none. Prescription: none. Technique: none."
)
HASHES = {"s": "1", "p": "2", "seg": "3"}


@pytest.fixture
def api_key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ROLLAMA_API_KEY", KEY)
    return KEY


@pytest.fixture
def config(tmp_path: Path) -> ServeConfig:
    return make_config(tmp_path)


def make_config(root: Path) -> ServeConfig:
    """`data/ct.nii.gz` is a cylinder of tissue in air; `secret.nii.gz` lies outside the data folder."""
    (root / "data").mkdir()
    x, y, _ = np.meshgrid(np.linspace(-1, 1, 30), np.linspace(-1, 1, 24), np.arange(12), indexing="ij")
    array = np.where(x**2 + y**2 < 0.8, 30, -1000).astype(np.int16)
    affine = np.diag([6.0, 6.0, 6.0, 1.0])
    affine[0, 3] = -87.0
    for path in (root / "data" / "ct.nii.gz", root / "secret.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return ServeConfig(models=root / "models", data_folder=root / "data", store=str(root / "store"))


@dataclass(frozen=True)
class Answer:
    text: str
    finished: bool = True
    other: str | None = None


@dataclass
class Models:
    """Scripted models; `fail` is raised by the text model, `delay` slows every step, `loaded` turns readiness on."""

    fail: Exception | None = None
    delay: float = 0.0
    loaded: bool = True
    asked: list[str] = field(default_factory=list)
    cancelled: int = 0

    async def generate(self, task: Task, text: str, deadline: float) -> Answer:
        self.asked.append(text)
        await self._wait()
        if self.fail:
            raise self.fail
        return Answer("Left, pT1." if task is Task.SUMMARY else PLAN)

    async def segment(
        self, volume: Volume, plan_text: str, deadline: float, probability: bool, progress: Progress
    ) -> Outline:
        progress(1, 2)
        await self._wait()
        mask = np.zeros(volume.shape, dtype=np.uint8)
        mask[3:8, 5:15, 3:9] = 1
        return Outline(mask, probability=mask * np.uint8(180) if probability else None)

    async def ready(self) -> dict[str, str] | None:
        return dict(HASHES) if self.loaded else None

    async def _wait(self) -> None:
        try:
            await asyncio.sleep(self.delay)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@dataclass
class Recorder:
    """A meter that remembers."""

    counts: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    times: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    levels: dict[str, float] = field(default_factory=dict)
    tagged: dict[tuple[str, str], float] = field(default_factory=dict)
    begun: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def count(self, name: str, tags: Mapping[str, str]) -> None:
        self.counts.append((name, dict(tags)))

    def time(self, name: str, seconds: float, tags: Mapping[str, str]) -> None:
        assert seconds >= 0
        self.times.append((name, dict(tags)))

    def level(self, name: str, value: float, tags: Mapping[str, str] | None = None) -> None:
        if tags:
            self.tagged[name, json.dumps(tags, sort_keys=True)] = value
        else:
            self.levels[name] = value

    def begin(self, name: str, tags: Mapping[str, str]) -> None:
        self.begun.append((name, dict(tags)))

    def forget(self, name: str) -> None:
        self.tagged = {key: value for key, value in self.tagged.items() if key[0] != name}


@pytest.fixture
def meter() -> Recorder:
    return Recorder()


@pytest.fixture
def models() -> Models:
    return Models()


Connect = Callable[..., TestClient]


@pytest.fixture
def connect(config: ServeConfig, models: Models, api_key: str, meter: Recorder) -> Iterator[Connect]:
    """A client of a new ingress replica on the same store; keywords change its settings."""
    clients: list[TestClient] = []

    def make(**changes: Any) -> TestClient:
        settings = config.updated(**changes)
        store = JobStore(open_storage(settings.store), settings.lease_s)
        backend = Backend(models.generate, models.segment, models.ready)
        service = Service(settings, backend, store, f"replica-{len(clients)}", open_audit(settings), meter)
        api = make_api(service, load_callers(settings))
        client = TestClient(api, raise_server_exceptions=False, headers={"Authorization": f"Bearer {api_key}"})
        client.__enter__()
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(connect: Connect) -> TestClient:
    return connect()


def zipped_series(config: ServeConfig, folder: Path, patient: str = "p1") -> bytes:
    """The CT of `config` as a zip of DICOM slices, which also lie in `folder` then."""
    folder.mkdir()
    write_series(folder, read_ct(config.data_folder / "ct.nii.gz"), Identity(patient, "test", True))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"../../{path.name}")
    return stream.getvalue()
