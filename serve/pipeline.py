"""The ingress: HTTP in front, the two model deployments behind it by their handles."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI
from ray.exceptions import (
    ActorUnavailableError,
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from rollama.chain.run import Answer
from rollama.core.config import build
from rollama.core.registry import Task
from rollama.core.storage import open_storage
from rollama.data.volumes import Volume
from rollama.segmentation.outline import Outline
from serve.api import make_api
from serve.audit import open_audit
from serve.auth import load_callers
from serve.config import ServeConfig
from serve.current import Current
from serve.jobs import JobStore, new_id
from serve.problems import BusyError, LostError
from serve.release import Release
from serve.service import Service
from serve.telemetry import LOGGER, RayMeter, from_elsewhere, log_as_json, named
from serve.work import Backend, Progress, patiently

LOST = (
    RayActorError, WorkerCrashedError, NodeDiedError, LocalRayletDiedError, ObjectLostError, OutOfMemoryError,
    TaskCancelledError, ReplicaUnavailableError,
)  # fmt: skip
"""What Ray says when a process, a node or an object in between is gone (killed, out of memory, scaled away)."""

logger = logging.getLogger(LOGGER)


class PipelineDeployment:
    """Answers HTTP. The key is read here, in the replica: it is not among the deployment's arguments."""

    def __init__(self, config: ServeConfig, text: Any, segmentation: Any) -> None:
        """Take the handles of the deployments.

        Raises:
            ServeError: there is no key, the data folder is missing, or the store cannot carry jobs.
        """
        self.text = text
        self.segmentation = segmentation
        self.config = config
        log_as_json()
        self.check = load_callers(config)
        store = JobStore(open_storage(config.store), config.lease_s)
        self.current = Current(self._warm, self._tell)
        self.heard = -math.inf
        backend = Backend(
            self._generate, self._segment, self._ready, self._lately, self._pinned, self.current.describe
        )  # fmt: skip
        self.service = Service(config, backend, store, new_id(), open_audit(config), RayMeter())

    async def reconfigure(self, release: Mapping[str, str]) -> None:
        """Serve's `user_config`: the release that new requests get once it is ready.

        Raises:
            RollamaError: it is the first one and not to be found.
        """
        await self.current.renew(build(Release, release, "models"))

    def check_health(self) -> None:
        """Called by Serve.

        Raises:
            RuntimeError: no models were named.
        """
        if self.current.release is None:
            raise RuntimeError("no models were named: give them as the deployment's user_config")

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve after the constructor (`serve.ingress()` without an app)."""
        return make_api(self.service, self.check)

    def _pinned(self) -> Backend:
        release, hashes = self.current.release, dict(self.current.hashes)

        async def ready() -> dict[str, str] | None:
            return hashes if await self._lately() else None

        generate, segment = partial(self._generate, release=release), partial(self._segment, release=release)
        return Backend(generate, segment, ready, served=self.current.describe)

    async def _generate(self, task: Task, text: str, deadline: float, release: Release | None = None) -> Answer:
        chosen = release or self.current.release
        answer: Answer = await _result(self.text.generate.remote(task, text, deadline, chosen))
        return answer

    async def _segment(
        self, volume: Volume, plan_text: str, deadline: float, probability: bool, progress: Progress,
        release: Release | None = None,
    ) -> Outline:  # fmt: skip
        chosen = release or self.current.release
        handle = self.segmentation.options(stream=True)
        async with _stream(handle.segment.remote(volume, plan_text, deadline, probability, chosen)) as stream:
            async for item in stream:
                if isinstance(item, Outline):
                    return item
                progress(*item)
        raise LostError("the segmentation ended without an answer; its server is going")

    def _awake(self) -> list[Any]:
        """The deployments that always have a replica; one that may scale to zero is not woken by questions."""
        scaled = ((self.text, self.config.text_scaling), (self.segmentation, self.config.segmentation_scaling))
        return [handle for handle, scaling in scaled if scaling.min_replicas]

    async def _ready(self) -> dict[str, str] | None:
        """Hashes of all models; None until the deployments answer."""
        try:
            async with asyncio.timeout(self.config.ready_timeout_s):
                await asyncio.gather(*(_result(handle.ready.remote()) for handle in self._awake()))
        except (TimeoutError, BusyError):
            return None
        self.heard = time.monotonic()
        return self.current.hashes

    async def _lately(self) -> dict[str, str] | None:
        """As `_ready`; models that answered a moment ago and are too busy now keep the work that comes waiting."""
        found = await self._ready()
        if found is None and time.monotonic() - self.heard < self.config.ready_grace_s:
            return self.current.hashes
        return found

    async def _warm(self, release: Release) -> None:
        for handle in self._awake():
            await patiently(lambda chosen=handle: _result(chosen.ready.remote(release)))

    def _tell(self, outcome: str, hashes: dict[str, str]) -> None:
        self.service.meter.level("rollama_release_refused", float(outcome == "refused"))
        self.service.drift.trained(self.current.trained)
        if self.service.audit is not None:
            self.service.audit.add(who="operator", what="release", outcome=outcome, models=hashes)


@asynccontextmanager
async def _translated(response: Any) -> AsyncIterator[None]:
    """A deployment's own error instead of Ray's wrapping, and no work left behind when given up."""
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        response.cancel()
        raise
    except (BackPressureError, DeploymentUnavailableError):
        raise BusyError("too many requests are waiting") from None
    except RayTaskError as error:
        cause = from_elsewhere(error.cause, str(error))
        if not isinstance(cause, LOST):
            raise cause from None
        raise _lost(cause) from None
    except LOST as error:
        raise _lost(error) from None


def _lost(error: BaseException) -> BusyError:
    """Most often not the request's fault: who has time asks again, and Serve starts another server."""
    logger.warning("a model's server was lost", extra=named(error))
    if isinstance(error, ActorUnavailableError):  # it is there and cannot be reached now; it died of nothing
        return BusyError("a model's server cannot be reached; try again")
    return LostError("a model's server was lost; another one is starting")


async def _result(response: Any) -> Any:
    async with _translated(response):
        return await response


@asynccontextmanager
async def _stream(response: Any) -> AsyncIterator[Any]:
    async with _translated(response):
        yield response
