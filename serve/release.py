"""Which models the endpoint serves, and how they change while it runs.

A release is three models by reference. Ray Serve hands every replica the newest one (`user_config`, in place: nothing
restarts). Replicas learn of it at different moments, and a request that began with one release must end with it: its
parts were evaluated together. So each request carries its release along; a replica holds two of them, loads a third
when it is asked for one, and gets the newest ready ahead of the first request for it. A release that cannot be loaded
changes nothing: what was served is served on, and `/v1/models` says why.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from rollama.cluster.serveconfig import Models
from rollama.core.config import build
from rollama.data.store import resolve
from serve.telemetry import LOGGER, named

logger = logging.getLogger(LOGGER)
KEPT = 2
Model = TypeVar("Model")


class Release(Models):
    """The models that work together."""

    @classmethod
    def of_folder(cls, models: Path) -> Release:
        """The models of a folder with `s/`, `p/` and `seg/`."""
        return cls(**{name: str(models / name) for name in cls.model_fields})

    def references(self, names: Collection[str]) -> tuple[str, ...]:
        """Of some of the models."""
        return tuple(str(getattr(self, name)) for name in names)

    def fetch(self, names: Collection[str]) -> dict[str, Path]:
        """Folders of some models on this machine; what is not here is fetched and checked by its hash.

        Raises:
            DataError, ConfigError, ClusterError: a reference leads nowhere, or the store does not answer.
        """
        return {name: resolve(str(getattr(self, name))) for name in names}


class Releases(Generic[Model]):
    """The releases that a replica holds, newest last. For one event loop."""

    def __init__(
        self, names: Collection[str], load: Callable[[Release], Awaitable[Model]],
        drop: Callable[[Model], Awaitable[None]] | None = None,
    ) -> None:  # fmt: skip
        """Begin with none.

        Args:
            names: which of a release's models this replica needs; releases that agree in them are one here.
            load: makes the model of a release.
            drop: told about a model that is held no longer (it may still be at work).
        """
        self.names, self._load, self._drop = tuple(names), load, drop
        self.held: OrderedDict[tuple[str, ...], Model] = OrderedDict()
        self.newest: tuple[str, ...] | None = None
        self._loading: dict[tuple[str, ...], asyncio.Task[Model]] = {}

    async def get(self, release: Release) -> Model:
        """The model of a release; loaded now if it is not here.

        Raises:
            RollamaError: whatever `load` raises.
        """
        key = release.references(self.names)
        if key in self.held:
            self.held.move_to_end(key)
            return self.held[key]
        return await asyncio.shield(self._task(key, release))

    async def renew(self, release: Release) -> None:
        """Take a release as the newest and get it ready; a failure is logged, not raised, if another one is here.

        Raises:
            RollamaError: it is the first one and cannot be loaded.
        """
        self.newest = release.references(self.names)
        if not self.held:
            await self.get(release)
        elif self.newest not in self.held:
            self._task(self.newest, release).add_done_callback(_say)

    def _task(self, key: tuple[str, ...], release: Release) -> asyncio.Task[Model]:
        """One for all who ask: it goes on when the one who asked first gives up."""
        if key not in self._loading:
            self._loading[key] = asyncio.create_task(self._put(key, release))
        return self._loading[key]

    async def _put(self, key: tuple[str, ...], release: Release) -> Model:
        try:
            model = await self._load(release)
            self.held[key] = model
            while len(self.held) > KEPT:
                old = next(name for name in self.held if name not in (key, self.newest))
                gone = self.held.pop(old)
                if self._drop is not None:
                    await self._drop(gone)
            return model
        finally:
            self._loading.pop(key, None)


class ModelServer(Generic[Model]):
    """What the deployments that hold models share. Serve calls `reconfigure` before it sends requests."""

    releases: Releases[Model]

    async def reconfigure(self, release: Mapping[str, str]) -> None:
        """Serve's `user_config`: the newest release.

        Raises:
            RollamaError: it is the first one, and an artefact is missing, damaged or does not fit its base or the
                settings.
        """
        await self.releases.renew(build(Release, release, "models"))

    async def ready(self, release: Release | None = None) -> bool:
        """Answers once models are loaded: some, or those of a release.

        Raises:
            RollamaError: the release cannot be loaded.
        """
        if release is not None:
            await self.releases.get(release)
        return True

    def check_health(self) -> None:
        """Called by Serve: a replica without models, or whose thread has ended, is replaced.

        Raises:
            RuntimeError: it is one.
        """
        held = self.releases.held.values()
        if not held:
            raise RuntimeError("no models were named: give them as the deployment's user_config")
        if not all(self._alive(model) for model in held):
            raise RuntimeError("a model's thread has ended")

    def _alive(self, model: Model) -> bool:
        """Whether a held model still answers."""
        raise NotImplementedError


def _say(task: asyncio.Task[Model]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("a release cannot be loaded; the one before is served on", extra=named(error))
