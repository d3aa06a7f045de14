"""The ingress' own share: what counts as ready when the models are silent, what is worth asking again.

All else is tested in `test_app.py`.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from dataclasses import dataclass, field
from typing import Any

import pytest

from rollama.core.errors import DataError
from serve.config import ServeConfig
from serve.problems import BusyError, LostError
from serve.telemetry import named


@dataclass
class Silent:
    """A deployment's handle whose models answer, or not in time; `ready` stands for the method of that name."""

    answers: bool = True
    asked: int = 0
    ready: Any = field(init=False)

    def __post_init__(self) -> None:
        self.ready = self

    def remote(self) -> Answering:
        self.asked += 1
        return Answering(self.answers)


@dataclass(frozen=True)
class Answering:
    answers: bool

    def __await__(self) -> Any:
        if not self.answers:
            raise TimeoutError
        return asyncio.sleep(0).__await__()

    def cancel(self) -> None:
        pass


@dataclass
class Clock:
    now: float = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, imported without the warnings of Ray Serve's own models (see `test_app`)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        from serve import pipeline
    monkeypatch.setattr(pipeline, "log_as_json", lambda: None)  # the handler would stay for other tests
    return pipeline


def test_models_that_answered_a_moment_ago_are_sent_requests_but_are_not_called_ready(
    config: ServeConfig, api_key: str, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(pipeline, "time", clock)

    async def scenario() -> None:
        text = Silent()
        ingress = pipeline.PipelineDeployment(config.updated(ready_grace_s=10.0), text, Silent())
        ingress.current.hashes = {"s": "1"}
        backend = ingress.service.backend
        text.answers = False
        for strict in (True, False):  # never heard of
            with pytest.raises(BusyError, match="too busy to say"):
                await backend.hashes(strict)
        text.answers = True
        assert await backend.hashes(now=True) == await backend.hashes() == {"s": "1"}
        text.answers, clock.now = False, clock.now + 9
        pinned = backend.pinned()
        assert await backend.hashes() == await pinned.hashes() == {"s": "1"}
        with pytest.raises(BusyError):
            await backend.hashes(now=True)
        clock.now += 2
        for one in (backend, pinned):
            with pytest.raises(BusyError):
                await one.hashes()
        assert text.asked > 6, "each time they are asked"

    asyncio.run(scenario())


def test_what_ray_lost_is_worth_asking_again_and_what_a_model_refused_is_not(
    pipeline: Any, caplog: pytest.LogCaptureFixture
) -> None:
    from ray.exceptions import (
        ActorDiedError,
        ActorUnavailableError,
        ObjectStoreFullError,
        OutOfMemoryError,
        RayTaskError,
        TaskCancelledError,
    )
    from ray.serve.exceptions import ReplicaUnavailableError

    async def raised(error: Exception) -> Exception:
        try:
            async with pipeline._translated(Answering(True)):
                raise error
        except Exception as found:
            return found  # type: ignore[no-any-return]

    def inside(cause: Exception) -> Exception:
        """As Ray raises it: of both classes where it can, its own and the cause's."""
        text = 'File "/x/predict.py", line 7, in run\nDataError: File "patient 4711", line 8'
        return RayTaskError("segment", text, cause).as_instanceof_cause()  # type: ignore[no-any-return]

    lost = [ActorDiedError(), OutOfMemoryError("patient 4711"), ReplicaUnavailableError("gone"),
            inside(TaskCancelledError())]  # fmt: skip
    with caplog.at_level(logging.WARNING):
        for error in lost:
            found = asyncio.run(raised(error))
            assert isinstance(found, LostError) and "was lost" in str(found)
        away = asyncio.run(raised(ActorUnavailableError("patient 4711", b"1" * 16)))
    assert type(away) is BusyError, "it may be asked without end"
    assert len(caplog.records) == len(lost) + 1 and "4711" not in caplog.text
    places = [vars(record)["at"].partition(":") for record in caplog.records[: len(lost)]]
    assert [name for name, _, _ in places] == ["test_pipeline.py"] * 3 + ["predict.py"] and places[3][2] == "7"
    for cause in (DataError("plan: unknown key"), ValueError("a mistake of ours"), ObjectStoreFullError()):
        found = asyncio.run(raised(inside(cause)))
        assert found is cause and named(found)["at"] == "predict.py:7"


def test_a_stream_that_ends_early_is_asked_again(config: ServeConfig, api_key: str, pipeline: Any) -> None:
    class Ended(Answering):
        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> Any:
            raise StopAsyncIteration

    class Segmentation(Silent):
        segment = property(lambda self: self)

        def options(self, **_: Any) -> Any:
            return self

        def remote(self, *_: Any) -> Answering:
            return Ended(True)

    async def scenario() -> None:
        ingress = pipeline.PipelineDeployment(config, Silent(), Segmentation())
        with pytest.raises(LostError, match="ended without an answer"):
            await ingress._segment(None, "plan", 0.0, False, lambda *_: None)

    asyncio.run(scenario())
