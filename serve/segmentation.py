"""The segmentation deployment: CT and plan text in, mask on the CT's own grid out.

Several patients are in work at once, as many as there is room for; their windows take turns in one network (see
`WindowPool`), so that a plan changed at the page does not wait for somebody's whole body.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

from rollama.chain.run import SEGMENTATION_FOLDER
from rollama.data.volumes import Volume
from rollama.segmentation.outline import Outline
from serve.release import ModelServer, Release, Releases


class GivenUpError(Exception):
    """Nobody waits for the answer any more."""


class Room:
    """Lets CTs in while there is room for their voxels; a single one always."""

    def __init__(self, most_voxels: int) -> None:
        self.most_voxels, self.voxels, self.patients = most_voxels, 0, 0
        self._left = asyncio.Condition()

    @asynccontextmanager
    async def take(self, voxels: int) -> AsyncIterator[None]:
        """Wait for room and keep it."""
        async with self._left:
            await self._left.wait_for(lambda: not self.patients or self.voxels + voxels <= self.most_voxels)
            self.voxels, self.patients = self.voxels + voxels, self.patients + 1
        try:
            yield
        finally:
            async with self._left:
                self.voxels, self.patients = self.voxels - voxels, self.patients - 1
                self._left.notify_all()


class Loaded:
    """A `SegmentationModel` whose network serves several patients, until nobody needs it any more."""

    def __init__(self, model: Any, most_voxels: int) -> None:
        """Put a pool before the network; `most_voxels`: see `WindowPool`."""
        from rollama.segmentation.pool import WindowPool

        self.model, self.pool = model, WindowPool(model.run_windows, most_voxels)
        self.model.windows = self.pool
        self.users, self.dropped = 0, False

    @contextmanager
    def used(self) -> Iterator[Any]:
        """The model; it stays while it is used."""
        self.users += 1
        try:
            yield self.model
        finally:
            self.users -= 1
            self._end()

    def drop(self) -> None:
        """Let the network's thread end when the last patient is done."""
        self.dropped = True
        self._end()

    def _end(self) -> None:
        if self.dropped and not self.users:
            self.pool.close()


class SegmentationDeployment(ModelServer[Loaded]):
    """Holds `SegmentationModel`s. CT and mask go through Ray's object store, not through HTTP."""

    def __init__(self, most_voxels: int, batch_voxels: int) -> None:
        """Take the settings; models come with `reconfigure`, which Serve calls before it sends requests.

        Args:
            most_voxels: of the CTs in work at once.
            batch_voxels: of the windows of several patients in one pass of the network; 0: each patient's alone.
        """
        self.batch_voxels = batch_voxels
        self.releases = Releases((SEGMENTATION_FOLDER,), self._load, self._drop)
        self.room = Room(most_voxels)

    def _alive(self, model: Loaded) -> bool:
        return model.pool.thread.is_alive()

    async def _load(self, release: Release) -> Loaded:
        from rollama.segmentation.predict import SegmentationModel

        folder = (await asyncio.to_thread(release.fetch, (SEGMENTATION_FOLDER,)))[SEGMENTATION_FOLDER]
        return Loaded(await asyncio.to_thread(SegmentationModel.load, folder), self.batch_voxels)

    async def _drop(self, gone: Loaded) -> None:
        gone.drop()

    async def segment(
        self, volume: Volume, plan_text: str, deadline: float, probability: bool, release: Release
    ) -> AsyncIterator[tuple[int, int] | Outline]:
        """Progress as (finished windows, all windows), then the target of `plan_text` on the CT's own grid.

        Whoever stops listening ends the work at the next window; so does the deadline (seconds since 1970).

        Raises:
            TimeoutError: the deadline passed.
        """
        loaded = await self.releases.get(release)
        with loaded.used() as model:
            async with (
                self.room.take(volume.array.size),
                aclosing(self._run(model, volume, plan_text, deadline, probability)) as items,
            ):
                async for item in items:
                    yield item

    async def _run(
        self, model: Any, volume: Volume, plan_text: str, deadline: float, probability: bool
    ) -> AsyncGenerator[tuple[int, int] | Outline]:
        if time.time() > deadline:
            raise TimeoutError
        loop, news, gone = asyncio.get_running_loop(), asyncio.Queue[tuple[int, int] | None](), threading.Event()

        def progress(done: int, total: int) -> None:
            if gone.is_set():
                raise GivenUpError
            if time.time() > deadline:
                raise TimeoutError
            loop.call_soon_threadsafe(news.put_nowait, (done, total))

        def run() -> Outline:
            try:
                found: Outline = model.outline(volume, plan_text, progress, probability)
                return found
            finally:
                loop.call_soon_threadsafe(news.put_nowait, None)

        work = asyncio.create_task(asyncio.to_thread(run))
        try:
            while (item := await news.get()) is not None:
                yield item
            yield await work
        finally:
            gone.set()
            await asyncio.gather(work, return_exceptions=True)  # the room is free only when its thread has ended
