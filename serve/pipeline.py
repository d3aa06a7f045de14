"""The ingress: HTTP in front, the two model deployments behind it by their handles."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI
from ray.exceptions import RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from rollama.chain.run import Answer
from rollama.core.registry import Task
from rollama.data.volumes import Volume
from rollama.segmentation.outline import Outline
from serve.auth import load_key
from serve.config import ServeConfig
from serve.service import Backend, BusyError, PipelineService, make_api


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
        backend = Backend(self._generate, self._segment, self._ready)
        self.service = PipelineService(config, backend, load_key(config))

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve after the constructor (`serve.ingress()` without an app)."""
        return make_api(self.service)

    async def _generate(self, task: Task, text: str) -> Answer:
        answer: Answer = await _result(self.text.generate.remote(task, text))
        return answer

    async def _segment(self, volume: Volume, plan_text: str) -> Outline:
        found: Outline = await _result(self.segmentation.segment.remote(volume, plan_text))
        return found

    async def _ready(self) -> dict[str, str] | None:
        """Hashes of all models; None until both deployments answer."""
        try:
            async with asyncio.timeout(self.config.ready_timeout_s):
                parts = await asyncio.gather(*(_result(h.ready.remote()) for h in (self.text, self.segmentation)))
        except (TimeoutError, BusyError):
            return None
        return {name: value for part in parts for name, value in part.items()}


async def _result(response: Any) -> Any:
    """Await a deployment's answer: its own error instead of Ray's wrapping, and no work left behind when given up."""
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise
    except RayTaskError as error:
        raise error.cause from None
    except (BackPressureError, DeploymentUnavailableError):
        raise BusyError("too many requests are waiting") from None
