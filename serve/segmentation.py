"""The segmentation deployment: CT and plan text in, mask on the CT's own grid out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from rollama.chain.run import SEGMENTATION_FOLDER, hash_models
from rollama.data.volumes import Mask, Volume


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

    async def segment(self, volume: Volume, plan_text: str) -> Mask:
        """The target of `plan_text`: uint8 0/1 of the CT's shape."""
        async with self.lock:
            mask: Mask = await asyncio.to_thread(self.model.predict, volume, plan_text)
        return mask
