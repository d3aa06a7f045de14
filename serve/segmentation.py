"""The segmentation deployment: CT and plan text in, mask on the CT's own grid out."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from rollama.chain.run import SEGMENTATION_FOLDER
from rollama.core.config import build
from rollama.data.volumes import Volume
from rollama.segmentation.outline import Outline
from serve.release import Release, Releases


class GivenUpError(Exception):
    """Nobody waits for the answer any more."""


class SegmentationDeployment:
    """Holds `SegmentationModel`s. CT and mask go through Ray's object store, not through HTTP."""

    def __init__(self) -> None:
        """Models come with `reconfigure`, which Serve calls before it sends requests."""
        self.releases: Releases[Any] = Releases((SEGMENTATION_FOLDER,), self._load)
        self.lock = asyncio.Lock()

    async def reconfigure(self, release: Mapping[str, str]) -> None:
        """Serve's `user_config`: the newest release.

        Raises:
            CheckpointError: it is the first one, and the artefact is missing, damaged or does not fit its base.
        """
        await self.releases.renew(build(Release, release, "models"))

    async def ready(self, release: Release | None = None) -> bool:
        """Answers once the model is loaded: one, or that of a release.

        Raises:
            RollamaError: the release cannot be loaded.
        """
        if release is not None:
            await self.releases.get(release)
        return True

    def check_health(self) -> None:
        """Called by Serve: a replica without a model is replaced.

        Raises:
            RuntimeError: it is one.
        """
        if not self.releases.held:
            raise RuntimeError("no models were named: give them as the deployment's user_config")

    async def _load(self, release: Release) -> Any:
        from rollama.segmentation.predict import SegmentationModel

        folder = (await asyncio.to_thread(release.fetch, (SEGMENTATION_FOLDER,)))[SEGMENTATION_FOLDER]
        return await asyncio.to_thread(SegmentationModel.load, folder)

    async def segment(
        self, volume: Volume, plan_text: str, deadline: float, probability: bool, release: Release
    ) -> AsyncIterator[tuple[int, int] | Outline]:
        """Progress as (finished windows, all windows), then the target of `plan_text` on the CT's own grid.

        Whoever stops listening ends the work at the next window; so does the deadline (seconds since 1970).

        Raises:
            TimeoutError: the deadline passed.
        """
        model = await self.releases.get(release)
        async with self.lock:
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
                    model.keep_probability = probability
                    found: Outline = model.outline(volume, plan_text, progress)
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
                await asyncio.gather(work, return_exceptions=True)  # the model is free only when its thread has ended
