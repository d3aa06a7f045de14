"""The segmentation deployment: CT and plan text in, mask on the CT's own grid out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from rollama.chain.run import SEGMENTATION_FOLDER, hash_models
from rollama.data.volumes import Volume
from rollama.segmentation.outline import Outline


class SegmentationDeployment:
    """Holds a `SegmentationModel`. CT and mask go through Ray's object store, not through HTTP."""

    def __init__(self, models: Path) -> None:
        """Load the network and its text encoder.

        Raises:
            CheckpointError: the artefact is missing, damaged or does not fit its base.
        """
        from rollama.segmentation.predict import SegmentationModel

        self.model: Any = SegmentationModel.load(models / SEGMENTATION_FOLDER)
        self.hashes = hash_models({SEGMENTATION_FOLDER: models / SEGMENTATION_FOLDER})
        self.lock = asyncio.Lock()

    async def ready(self) -> dict[str, str]:
        """Hash of the loaded artefact."""
        return self.hashes

    async def segment(self, volume: Volume, plan_text: str) -> Outline:
        """The target of `plan_text` on the CT's own grid, and how unusual CT and plan are."""
        async with self.lock:
            found: Outline = await asyncio.to_thread(self.model.outline, volume, plan_text)
        return found
