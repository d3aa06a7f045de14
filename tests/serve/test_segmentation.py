"""The segmentation deployment without Ray: several patients in work, room by voxels, nothing left behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rollama.data.volumes import Volume
from rollama.segmentation.outline import Outline
from rollama.segmentation.predict import SegmentationModel
from serve.release import Release
from serve.segmentation import SegmentationDeployment
from tests.chain.tiny import make_models
from tests.serve.conftest import PLAN

FAR = 10**9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


def patient(slices: int, seed: int = 0) -> Volume:
    array = np.full((40, 34, slices), -1000, np.float32)
    array[4:-4, 4:-4] = np.random.default_rng(seed).integers(0, 60, (32, 26, slices))
    return Volume(array, np.diag([6.0, 6.0, 6.0, 1.0]))


async def started(folder: Path, most_voxels: int = FAR, batch_voxels: int = 0) -> tuple[SegmentationDeployment, Any]:
    made = SegmentationDeployment(most_voxels, batch_voxels)
    release = Release.of_folder(folder)
    await made.reconfigure(release.model_dump())
    return made, release


async def outline(items: AsyncIterator[Any]) -> Outline:
    found = [item async for item in items]
    assert all(done <= total for done, total in found[:-1])
    assert isinstance(found[-1], Outline)
    return found[-1]


@pytest.mark.parametrize("batch_voxels", [0, FAR])
def test_patients_in_work_together_get_what_each_gets_alone(folder: Path, batch_voxels: int) -> None:
    volumes = [patient(20 + 10 * n, n) for n in range(4)]
    model = SegmentationModel.load(folder / "seg")
    alone = [model.outline(volume, PLAN, keep_probability=True) for volume in volumes]

    async def run() -> list[Outline]:
        made, release = await started(folder, batch_voxels=batch_voxels)
        asked = (outline(made.segment(volume, PLAN, time.time() + 60, True, release)) for volume in volumes)
        return await asyncio.gather(*asked)

    for one, together in zip(alone, asyncio.run(run()), strict=True):
        assert together.probability is not None and one.probability is not None
        assert np.abs(together.probability.astype(int) - one.probability).max() <= (1 if batch_voxels else 0)
        assert (together.mask != one.mask).mean() <= (1e-3 if batch_voxels else 0)


def test_a_small_one_does_not_wait_for_a_large_one(folder: Path) -> None:
    async def run() -> list[str]:
        made, release = await started(folder)
        ended: list[str] = []

        async def ask(name: str, slices: int) -> None:
            await outline(made.segment(patient(slices), PLAN, time.time() + 120, False, release))
            ended.append(name)

        large = asyncio.create_task(ask("large", 400))
        await asyncio.sleep(0.2)
        await asyncio.gather(large, ask("small", 16))
        return ended

    assert asyncio.run(run()) == ["small", "large"]


def test_there_is_room_for_so_many_voxels(folder: Path) -> None:
    async def run() -> None:
        volume = patient(300)
        made, release = await started(folder, most_voxels=volume.array.size)  # one patient
        first = made.segment(volume, PLAN, time.time() + 60, False, release)
        await anext(first)
        second = asyncio.create_task(outline(made.segment(volume, PLAN, time.time() + 60, False, release)))
        await asyncio.sleep(0.1)
        assert (made.room.patients, made.room.voxels) == (1, volume.array.size)
        await first.aclose()  # gives up: its work ends, the other one comes in
        await second
        assert (made.room.patients, made.room.voxels) == (0, 0)
        late = made.segment(volume, PLAN, time.time() - 1, False, release)
        with pytest.raises(TimeoutError):
            await anext(late)
        assert made.room.patients == 0

    asyncio.run(run())


def test_a_release_that_goes_lets_its_patients_finish(folder: Path, tmp_path: Path) -> None:
    async def run() -> None:
        made, release = await started(folder)
        (loaded,) = made.releases.held.values()
        running = made.segment(patient(200), PLAN, time.time() + 60, False, release)
        await anext(running)
        for name in ("two", "three"):
            newer = Release.of_folder(make_models(tmp_path / name))
            await made.reconfigure(newer.model_dump())
            await made.ready(newer)
        assert loaded not in made.releases.held.values() and loaded.pool.thread.is_alive()
        assert isinstance([item async for item in running][-1], Outline)
        await asyncio.to_thread(loaded.pool.thread.join, 10)
        assert not loaded.pool.thread.is_alive()
        made.check_health()

    asyncio.run(run())
