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
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from rollama.chain.run import TEXT_FOLDERS, Answer
from rollama.core.errors import ConfigError
from rollama.core.registry import Decoding, EngineName, Task
from serve.engine import TextEngine
from serve.release import ModelServer, Release, Releases
from serve.telemetry import LOGGER, named

logger = logging.getLogger(LOGGER)
Result = TypeVar("Result")
MOST_ROWS = 16


@dataclass(eq=False)
class _Asked:
    task: Task
    text: str = field(repr=False)
    deadline: float
    model: Any
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Answer]

    @property
    def wanted(self) -> bool:
        return not self.answer.done() and time.time() < self.deadline

    def tell(self, result: Any, error: BaseException | None = None) -> None:
        """Hand over from the model's thread."""

        self.loop.call_soon_threadsafe(_settle, self.answer, result, error)


class Batcher:
    """Owns a base in a thread of its own: a `TextModel`, and others whose adapters lie on the same base."""

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
        self.asked: queue.SimpleQueue[_Asked | Callable[[], None] | None] = queue.SimpleQueue()
        self.models, self.unwanted = [model], list[Any]()
        self.held: list[_Asked] = []
        self.running: dict[Hashable, _Asked] = {}
        self.thread = threading.Thread(target=self._serve, name="text model", daemon=True)
        self.thread.start()

    async def generate(self, task: Task, text: str, deadline: float, model: Any = None) -> Answer:
        """The answer to one text.

        Args:
            task: S or P.
            text: a note or a summary.
            deadline: seconds since 1970; after it nothing is done for this text any more.
            model: another one on this base (see `between`).

        Raises:
            DataError: the text is longer than the model's context.
            TimeoutError: the deadline passed.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self.asked.put(_Asked(task, text, deadline, model or self.model, loop, answer))
        return await answer  # when it is cancelled, the thread sees that it is done

    async def between(self, work: Callable[[], Result]) -> Result:
        """Let the model's thread do something between two tokens, such as loading further adapters on the base."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()

        def run() -> None:
            try:
                found = work()
            except Exception as error:
                loop.call_soon_threadsafe(_settle, answer, None, error)
            else:
                loop.call_soon_threadsafe(_settle, answer, found, None)

        self.asked.put(run)
        return await answer

    async def adopt(self, artefacts: Mapping[Task, Any]) -> Any:
        """A further `TextModel` on this base, or None when the artefacts do not stand on it.

        Raises:
            CheckpointError: an adapter does not fit the base.
        """

        def adopt() -> Any:
            found = self.model.beside(artefacts)
            if found is not None:
                self.models.append(found)
            return found

        return await self.between(adopt)

    async def forget(self, model: Any) -> None:
        """Take a model's adapters off the base as soon as nobody's text is written with them."""
        await self.between(lambda: self.unwanted.append(model))

    @property
    def alive(self) -> bool:
        """Whether its thread still runs."""
        return self.thread.is_alive()

    def retire(self) -> None:
        """Let the thread end after what it has been asked."""
        self.asked.put(None)

    def close(self) -> None:
        """End the thread after what it has been asked, and wait for that."""
        self.retire()
        self.thread.join()

    def _serve(self) -> None:
        ending = False
        while not ending or self.running or self.held:
            idle = not self.running and not self.held
            try:
                while not ending:
                    item = self.asked.get(block=idle)
                    if item is None:
                        ending = True
                    elif isinstance(item, _Asked):
                        self.held.append(item)
                    else:
                        item()
                    idle = not self.running and not self.held
            except queue.Empty:
                pass
            self._clear()
            self._admit()
            if self.running:
                self._step()

    def _clear(self) -> None:
        used = {id(item.model) for item in (*self.running.values(), *self.held)}
        for model in [item for item in self.unwanted if id(item) not in used]:
            self.unwanted.remove(model)
            self.models.remove(model)
            model.drop(self.models)

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
                    cost = self.decoder.cost(item.task, item.text, item.model)
                    if self.running and self.decoder.size(cost) > self.most_tokens:
                        return
                    self.decoder.add(id(item), item.task, item.text, item.model)
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
            logger.error("a text batch failed", extra={"rows": len(self.running), **named(error)})
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
            (generation,) = item.model.generate(item.task, [item.text])
        except Exception as error:
            item.tell(None, error)
        else:
            item.tell(generation)


class TextDeployment(ModelServer[tuple[TextEngine, Any]]):
    """Answers S and P of the releases that it holds. Readiness is answered meanwhile."""

    def __init__(
        self, most_tokens: int, plan_decoding: Decoding = Decoding.FREE, engine: EngineName = EngineName.BATCH
    ) -> None:
        """Take the settings; models come with `reconfigure`, which Serve calls before it sends requests."""
        self.most_tokens, self.plan_decoding, self.engine = most_tokens, plan_decoding, engine
        self.releases = Releases(tuple(TEXT_FOLDERS.values()), self._load, self._drop)

    def _alive(self, model: tuple[TextEngine, Any]) -> bool:
        return model[0].alive

    async def generate(self, task: Task, text: str, deadline: float, release: Release) -> Answer:
        """Greedy answer of one adapter of a release to one text; see `TextEngine.generate`."""
        engine, model = await self.releases.get(release)
        return await engine.generate(task, text, deadline, model)

    async def _load(self, release: Release) -> tuple[TextEngine, Any]:
        from rollama.text.adapters import read_artefacts
        from rollama.text.generate import TextModel

        found = await asyncio.to_thread(release.fetch, tuple(TEXT_FOLDERS.values()))
        folders = {task: found[name] for task, name in TEXT_FOLDERS.items()}
        artefacts = await asyncio.to_thread(read_artefacts, folders)
        for engine, _ in reversed(self.releases.held.values()):
            beside = await engine.adopt(artefacts)
            if beside is not None:
                return engine, beside
        if self.engine is EngineName.VLLM:
            from serve.vllm import VllmEngine

            return await VllmEngine.start(artefacts, self.plan_decoding)
        model = await asyncio.to_thread(partial(TextModel.load, folders, plan_decoding=self.plan_decoding))
        return Batcher(model, self.most_tokens), model

    async def _drop(self, gone: tuple[TextEngine, Any]) -> None:
        engine, model = gone
        if any(other is engine for other, _ in self.releases.held.values()):
            await engine.forget(model)
        else:
            engine.retire()


def _settle(answer: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)
