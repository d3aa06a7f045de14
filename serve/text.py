"""The text deployment: one base model in memory, the adapters of S and P on it, all requests in one running batch.

A thread owns the model. Requests are handed to it and answered through futures; what nobody waits for any more leaves
the batch at the next token. If a step fails, each of its texts is tried alone, so that one that cannot be answered
takes no other with it.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rollama.chain.run import TEXT_FOLDERS, Answer
from rollama.core.errors import ConfigError
from rollama.core.registry import Decoding, Task
from serve.telemetry import LOGGER

logger = logging.getLogger(LOGGER)
MOST_ROWS = 16


@dataclass(eq=False)
class _Asked:
    task: Task
    text: str = field(repr=False)
    deadline: float
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Answer]

    @property
    def wanted(self) -> bool:
        return not self.answer.done() and time.time() < self.deadline

    def tell(self, result: Any, error: BaseException | None = None) -> None:
        """Hand over from the model's thread."""

        def settle() -> None:
            if self.answer.done():
                return
            if error is None:
                self.answer.set_result(result)
            else:
                self.answer.set_exception(error)

        self.loop.call_soon_threadsafe(settle)


class Batcher:
    """Owns a `TextModel` in a thread of its own."""

    def __init__(self, model: Any, most_tokens: int, most_rows: int = MOST_ROWS) -> None:
        """Begin to wait for texts.

        Args:
            model: S and P.
            most_tokens: rows times width of the batch; a text that does not fit beside the others waits.
            most_rows: texts at once.
        """
        from rollama.text.continuous import Decoder

        self.model, self.most_tokens, self.most_rows = model, most_tokens, most_rows
        try:
            self.decoder: Decoder | None = Decoder(model)
        except ConfigError:  # wholly trained models: one text after the other
            self.decoder = None
        self.asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self.held: list[_Asked] = []
        self.running: dict[Hashable, _Asked] = {}
        self.thread = threading.Thread(target=self._serve, name="text model", daemon=True)
        self.thread.start()

    async def generate(self, task: Task, text: str, deadline: float) -> Answer:
        """The answer to one text.

        Args:
            task: S or P.
            text: a note or a summary.
            deadline: seconds since 1970; after it nothing is done for this text any more.

        Raises:
            DataError: the text is longer than the model's context.
            TimeoutError: the deadline passed.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self.asked.put(_Asked(task, text, deadline, loop, answer))
        return await answer  # when it is cancelled, the thread sees that it is done

    def close(self) -> None:
        """End the thread after what runs."""
        self.asked.put(None)
        self.thread.join()

    def _serve(self) -> None:
        while True:
            idle = not self.running and not self.held
            try:
                while True:
                    item = self.asked.get(block=idle)
                    if item is None:
                        return
                    self.held.append(item)
                    idle = False
            except queue.Empty:
                pass
            self._admit()
            if self.running:
                self._step()

    def _admit(self) -> None:
        """Let texts join while there is room, in the order in which they came."""
        while self.held and len(self.running) < self.most_rows:
            item = self.held[0]
            if not item.wanted:
                item.tell(None, TimeoutError())
            elif self.decoder is None:
                self._alone(item)
            else:
                try:
                    cost = self.decoder.cost(item.task, item.text)
                    if self.running and (len(self.running) + 1) * max(cost, self.decoder.width) > self.most_tokens:
                        return
                    self.decoder.add(id(item), item.task, item.text)
                    self.running[id(item)] = item
                except Exception as error:  # this text's own fault; whoever asked is told
                    item.tell(None, error)
            del self.held[0]

    def _step(self) -> None:
        assert self.decoder is not None
        for key in [key for key, item in self.running.items() if not item.wanted]:
            self.running.pop(key).tell(None, TimeoutError())
            self.decoder.remove(key)
        try:
            ended = self.decoder.step()
        except Exception as error:  # which text it was is not known: each is tried alone
            logger.error("a text batch failed", extra={"rows": len(self.running), "error": type(error).__name__})
            from rollama.text.continuous import Decoder

            self.decoder = Decoder(self.model)
            some, self.running = list(self.running.values()), {}
            for item in some:
                if item.wanted:
                    self._alone(item)
                else:
                    item.tell(None, TimeoutError())
            return
        for key, generation in ended.items():
            self.running.pop(key).tell(generation)

    def _alone(self, item: _Asked) -> None:
        try:
            (generation,) = self.model.generate(item.task, [item.text])
        except Exception as error:
            item.tell(None, error)
        else:
            item.tell(generation)


class TextDeployment:
    """Answers S and P. Readiness is answered meanwhile."""

    def __init__(self, models: Path, most_tokens: int, plan_decoding: Decoding = Decoding.FREE) -> None:
        """Load both adapters; the replica counts as started only afterwards.

        Raises:
            CheckpointError: an artefact is missing, damaged or does not fit its base.
            ConfigError: constrained plans without llguidance.
        """
        from rollama.text.generate import TextModel

        folders = {task: models / name for task, name in TEXT_FOLDERS.items()}
        self.batcher = Batcher(TextModel.load(folders, plan_decoding=plan_decoding), most_tokens)

    async def ready(self) -> bool:
        """Answers once the models are loaded."""
        return True

    def check_health(self) -> None:
        """Called by Serve: a replica whose thread has ended is replaced.

        Raises:
            RuntimeError: it has.
        """
        if not self.batcher.thread.is_alive():
            raise RuntimeError("the text model's thread has ended")

    async def generate(self, task: Task, text: str, deadline: float) -> Answer:
        """Greedy answer of one adapter to one text; see `Batcher.generate`."""
        return await self.batcher.generate(task, text, deadline)
