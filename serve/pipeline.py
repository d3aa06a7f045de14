"""The ingress: HTTP in front, the two model deployments behind it by their handles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from rollama.chain.run import Answer, hash_models, model_folders
from rollama.core.registry import Task
from rollama.core.storage import open_storage
from rollama.data.volumes import Volume
from rollama.segmentation.outline import Outline
from serve.api import make_api
from serve.audit import open_audit
from serve.auth import load_callers
from serve.config import ServeConfig
from serve.jobs import JobStore, new_id
from serve.problems import BusyError
from serve.service import Service
from serve.telemetry import RayMeter, log_as_json
from serve.work import Backend, Progress


class PipelineDeployment:
    """Answers HTTP. The key is read here, in the replica: it is not among the deployment's arguments."""

    def __init__(self, config: ServeConfig, text: Any, segmentation: Any) -> None:
        """Take the handles of the deployments.

        Raises:
            ServeError: there is no key, or the data folder is missing.
        """
        self.text = text
        self.segmentation = segmentation
        self.config = config
        log_as_json()
        self.hashes = hash_models(model_folders(config.models))
        self.check = load_callers(config)
        store = JobStore(open_storage(config.store), config.lease_s)
        backend = Backend(self._generate, self._segment, self._ready)
        self.service = Service(config, backend, store, new_id(), open_audit(config), RayMeter())

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve after the constructor (`serve.ingress()` without an app)."""
        return make_api(self.service, self.check)

    async def _generate(self, task: Task, text: str, deadline: float) -> Answer:
        answer: Answer = await _result(self.text.generate.remote(task, text, deadline))
        return answer

    async def _segment(
        self, volume: Volume, plan_text: str, deadline: float, probability: bool, progress: Progress
    ) -> Outline:
        items = self.segmentation.options(stream=True).segment.remote(volume, plan_text, deadline, probability)
        async with _stream(items) as stream:
            async for item in stream:
                if isinstance(item, Outline):
                    return item
                progress(*item)
        raise RuntimeError("the segmentation ended without an answer")

    async def _ready(self) -> dict[str, str] | None:
        """Hashes of all models; None until the deployments answer. One that may scale to zero is not woken by this."""
        scaled = ((self.text, self.config.text_scaling), (self.segmentation, self.config.segmentation_scaling))
        asked = [handle for handle, scaling in scaled if scaling.min_replicas]
        try:
            async with asyncio.timeout(self.config.ready_timeout_s):
                await asyncio.gather(*(_result(handle.ready.remote()) for handle in asked))
        except (TimeoutError, BusyError):
            return None
        return self.hashes


@asynccontextmanager
async def _translated(response: Any) -> AsyncIterator[None]:
    """A deployment's own error instead of Ray's wrapping, and no work left behind when given up."""
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        response.cancel()
        raise
    except RayTaskError as error:
        raise error.cause from None
    except (BackPressureError, DeploymentUnavailableError):
        raise BusyError("too many requests are waiting") from None
    except RayActorError:  # its process was killed; Serve starts another one
        raise BusyError("a model's server was lost; another one is starting") from None


async def _result(response: Any) -> Any:
    async with _translated(response):
        return await response


@asynccontextmanager
async def _stream(response: Any) -> AsyncIterator[Any]:
    async with _translated(response):
        yield response
