"""The ingress' own share: what counts as ready when the models are silent. All else is tested in `test_app.py`."""

from __future__ import annotations

import asyncio
import warnings
from dataclasses import dataclass, field
from typing import Any

import pytest

from serve.config import ServeConfig
from serve.problems import BusyError


@dataclass
class Silent:
    """A deployment's handle whose models answer, or do not; `ready` stands for the method of that name."""

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
        return asyncio.sleep(0 if self.answers else 60).__await__()

    def cancel(self) -> None:
        pass


def test_models_that_answered_a_moment_ago_are_sent_requests_but_are_not_called_ready(
    config: ServeConfig, api_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warnings.catch_warnings():  # see test_app
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        from serve import pipeline
    monkeypatch.setattr(pipeline, "log_as_json", lambda: None)  # the handler would stay for other tests

    async def scenario() -> None:
        text = Silent()
        settings = config.updated(ready_timeout_s=0.05, ready_grace_s=0.4)
        ingress = pipeline.PipelineDeployment(settings, text, Silent())
        ingress.current.hashes = {"s": "1"}
        backend = ingress.service.backend
        text.answers = False
        for strict in (True, False):  # never heard of
            with pytest.raises(BusyError, match="too busy to say"):
                await backend.hashes(strict)
        text.answers = True
        assert await backend.hashes(now=True) == await backend.hashes() == {"s": "1"}
        text.answers = False
        pinned = backend.pinned()
        assert await backend.hashes() == await pinned.hashes() == {"s": "1"}
        with pytest.raises(BusyError):
            await backend.hashes(now=True)
        await asyncio.sleep(0.4)
        for one in (backend, pinned):
            with pytest.raises(BusyError):
                await one.hashes()
        assert text.asked > 6, "each time they are asked"

    asyncio.run(scenario())
