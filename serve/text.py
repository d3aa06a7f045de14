"""The text deployment: one base model in memory, the adapters of S and P on it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from rollama.chain.run import TEXT_FOLDERS, Answer, hash_models
from rollama.core.registry import Task


class TextDeployment:
    """Holds a `TextModel`. One generation at a time; readiness is answered meanwhile."""

    def __init__(self, models: Path) -> None:
        """Load both adapters; the replica counts as started only afterwards.

        Raises:
            CheckpointError: an artefact is missing, damaged or does not fit its base.
        """
        from rollama.text.generate import TextModel

        folders = {task: models / name for task, name in TEXT_FOLDERS.items()}
        self.model: Any = TextModel.load(folders)
        self.hashes = hash_models({TEXT_FOLDERS[task]: folder for task, folder in folders.items()})
        self.lock = asyncio.Lock()

    async def ready(self) -> dict[str, str]:
        """Hashes of the loaded artefacts."""
        return self.hashes

    async def generate(self, task: Task, text: str) -> Answer:
        """Greedy answer of one adapter to one text.

        Raises:
            DataError: the text is longer than the model's context.
        """
        async with self.lock:  # the model is not safe to share, and two at once would only fight for the cores
            (answer,) = await asyncio.to_thread(self.model.generate, task, [text])
        result: Answer = answer
        return result
