"""A job waits while models are busy, and is given up when one server after the other is lost at it."""

from __future__ import annotations

import asyncio

import pytest

from rollama.core.errors import ServeError
from serve import work
from serve.problems import BusyError, LostError


def asked(monkeypatch: pytest.MonkeyPatch, *failures: Exception) -> int:
    """How often a model is asked that fails so and answers then."""
    monkeypatch.setattr(work, "PAUSE_S", 0.0)
    left, calls = list(failures), 0

    async def ask() -> str:
        nonlocal calls
        calls += 1
        if left:
            raise left.pop(0)
        return "answer"

    assert asyncio.run(work.patiently(ask)) == "answer"
    return calls


def test_a_busy_model_is_asked_again_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, *[BusyError("full")] * 50) == 51


def test_what_loses_one_server_after_the_other_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = [LostError("gone")] * (work.LOSSES - 1)
    assert asked(monkeypatch, *gone, BusyError("starting")) == work.LOSSES + 1
    with pytest.raises(ServeError, match="servers of a model were lost") as error:
        asked(monkeypatch, *gone, BusyError("starting"), LostError("gone"))
    assert not isinstance(error.value, BusyError)
