"""What the endpoint tells its operators: numbers with few, bounded tags, and logs as JSON lines.

Tags are routes (patterns, never paths), methods, statuses, stages and states: nothing of a patient, a caller or a job
can become a tag, and a stranger who asks for random paths adds no series. Ray exports the numbers on its own metrics
port of every node, under `ray_rollama_...`.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

LOGGER = "rollama.serve"
ELSEWHERE = "rollama_raised_at"
"""Attribute of an error that came from another process."""
SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600]
"""Upper ends of the histograms' buckets."""
AGAIN_S = 5.0
Tags = tuple[tuple[str, str], ...]


class Meter(Protocol):
    """Takes the numbers."""

    def count(self, name: str, tags: Mapping[str, str]) -> None:
        """One more."""

    def time(self, name: str, seconds: float, tags: Mapping[str, str]) -> None:
        """It took so long."""

    def level(self, name: str, value: float, tags: Mapping[str, str] | None = None) -> None:
        """There are so many now."""

    def begin(self, name: str, tags: Mapping[str, str]) -> None:
        """A count that stands at zero so far; else its first case would be its first value, and no increase."""

    def forget(self, name: str) -> None:
        """A level is not known any more, with any tags."""


def named(error: BaseException) -> dict[str, str]:
    """An error as a log may tell it: its class and where it was raised; its words may be clinical text."""
    frames = traceback.extract_tb(error.__traceback__)
    at = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return {"error": type(error).__name__, "at": getattr(error, ELSEWHERE, at)}


def from_elsewhere(error: BaseException, text: str) -> BaseException:
    """The error of another process, with the last place in its traceback's text as `named` is to tell it."""
    places = re.findall(r'File "(?:[^"]*/)?([\w.-]+\.py)", line (\d+)', text, re.ASCII)
    if places:
        setattr(error, ELSEWHERE, ":".join(places[-1]))
    return error


class NoMeter:
    """Takes nothing."""

    def count(self, name: str, tags: Mapping[str, str]) -> None: ...
    def time(self, name: str, seconds: float, tags: Mapping[str, str]) -> None: ...
    def level(self, name: str, value: float, tags: Mapping[str, str] | None = None) -> None: ...
    def begin(self, name: str, tags: Mapping[str, str]) -> None: ...
    def forget(self, name: str) -> None: ...


BINS = ("model", "centre", "feature", "bin")
COUNTERS = {
    "rollama_requests": ("HTTP requests", ("method", "route", "status")),
    "rollama_jobs": ("jobs by outcome", ("state",)),
    "rollama_profile": ("cases by the bins of their features (rollama.data.features)", BINS),
}
TIMERS = {
    "rollama_request_seconds": ("time until the answer ended", ("method", "route")),
    "rollama_stage_seconds": ("time of a job's stage", ("stage",)),
}
LEVELS = {
    "rollama_jobs_running": "jobs in work in this server",
    "rollama_jobs_waiting": "jobs that wait in this server",
    "rollama_release_refused": "1 while a release is named that cannot be served; the one before answers",
    "rollama_audit_pending": "audit events that the store has not taken",
}
TAGGED_LEVELS = {
    "rollama_profile_reference": ("training cases in the same bins, of the served models, rounded", BINS),
}
ALMOST_NOTHING = 1e-9
"""Ray takes no count of zero."""


class RayMeter:
    """The numbers as Ray metrics. Only inside a Serve replica.

    Ray forgets a level that is not set again within some 20 seconds, so a thread says all of them anew.
    """

    def __init__(self, again_s: float = AGAIN_S) -> None:
        from ray.serve import metrics

        self.counters: dict[str, Any] = {
            name: metrics.Counter(name, description=text, tag_keys=tags) for name, (text, tags) in COUNTERS.items()
        }
        self.timers: dict[str, Any] = {
            name: metrics.Histogram(name, description=text, boundaries=SECONDS, tag_keys=tags)
            for name, (text, tags) in TIMERS.items()
        }
        self.levels: dict[str, Any] = {
            **{name: metrics.Gauge(name, description=text) for name, text in LEVELS.items()},
            **{n: metrics.Gauge(n, description=text, tag_keys=tags) for n, (text, tags) in TAGGED_LEVELS.items()},
        }
        self.lock = threading.Lock()
        self.last: dict[tuple[str, Tags], float] = {(name, ()): 0.0 for name in LEVELS}
        threading.Thread(target=self._repeat, args=(again_s,), name="meter", daemon=True).start()

    def count(self, name: str, tags: Mapping[str, str]) -> None:
        self.counters[name].inc(1, tags=dict(tags))

    def time(self, name: str, seconds: float, tags: Mapping[str, str]) -> None:
        self.timers[name].observe(seconds, tags=dict(tags))

    def level(self, name: str, value: float, tags: Mapping[str, str] | None = None) -> None:
        key = tuple(sorted((tags or {}).items()))
        with self.lock:
            self.last[name, key] = value
        self.levels[name].set(value, tags=dict(key) or None)

    def begin(self, name: str, tags: Mapping[str, str]) -> None:
        self.counters[name].inc(ALMOST_NOTHING, tags=dict(tags))

    def forget(self, name: str) -> None:
        with self.lock:
            self.last = {key: value for key, value in self.last.items() if key[0] != name}

    def _repeat(self, again_s: float) -> None:
        while True:
            with self.lock:
                known = dict(self.last)
            for (name, tags), value in known.items():
                self.levels[name].set(value, tags=dict(tags) or None)
            time.sleep(again_s)


def log_as_json() -> None:
    """Send the endpoint's own log lines to stderr as JSON, one object a line; once a process."""
    from pythonjsonlogger.json import JsonFormatter

    logger = logging.getLogger(LOGGER)
    if any(isinstance(handler.formatter, JsonFormatter) for handler in logger.handlers):
        return
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter(
            "{asctime}{levelname}{message}", style="{", rename_fields={"asctime": "time", "levelname": "level"}
        )
    )
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
