"""The segmentation deployment: CT and plan text in, mask on the CT's own grid out."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from rollama.chain.run import SEGMENTATION_FOLDER
from rollama.data.volumes import Volume
from rollama.segmentation.outline import Outline


class GivenUpError(Exception):
    """Nobody waits for the answer any more."""


class SegmentationDeployment:
    """Holds a `SegmentationModel`. CT and mask go through Ray's object store, not through HTTP."""

    def __init__(self, models: Path) -> None:
        """Load the network and its text encoder.

        Raises:
            CheckpointError: the artefact is missing, damaged or does not fit its base.
        """
        from rollama.segmentation.predict import SegmentationModel

        self.model: Any = SegmentationModel.load(models / SEGMENTATION_FOLDER)
        self.lock = asyncio.Lock()

    async def ready(self) -> bool:
        """Answers once the model is loaded."""
        return True

    async def segment(
        self, volume: Volume, plan_text: str, deadline: float, probability: bool
    ) -> AsyncIterator[tuple[int, int] | Outline]:
        """Progress as (finished windows, all windows), then the target of `plan_text` on the CT's own grid.

        Whoever stops listening ends the work at the next window; so does the deadline (seconds since 1970).

        Raises:
            TimeoutError: the deadline passed.
        """
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
                    self.model.keep_probability = probability
                    found: Outline = self.model.outline(volume, plan_text, progress)
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
