"""The release that new requests get, in the ingress: changed only when models and replicas have the new one ready."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from rollama.chain.run import hash_models
from rollama.client.schemas import ServedModels
from rollama.core.errors import RollamaError
from rollama.data.profile import Profile
from serve.drift import read_trained
from serve.release import Release
from serve.telemetry import LOGGER, named

logger = logging.getLogger(LOGGER)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0
Tell = Callable[[str, dict[str, str]], None]
"""Called with what happened to a release (served, refused) and the hashes of its models, as far as they are known."""


class Current:
    """Holds the served release, and tries to bring up a newer one until it works or yet another one is named."""

    def __init__(self, warm: Callable[[Release], Awaitable[None]], tell: Tell) -> None:
        """Begin with none.

        Args:
            warm: waits until the models of a release are loaded somewhere.
            tell: is told about changes.
        """
        self._warm, self._tell = warm, tell
        self.release: Release | None = None
        self.hashes: dict[str, str] = {}
        self.trained: dict[str, Profile] = {}
        self.wanted: Release | None = None
        self.problem = ""
        self._change: asyncio.Task[None] | None = None

    async def renew(self, release: Release) -> None:
        """Serve a release from now on, as soon as it is ready; the first one at once.

        Raises:
            RollamaError: it is the first one and not to be found.
        """
        if self.release is None:
            self.hashes, self.trained = await asyncio.to_thread(_read, release)
            self.release = release
            self._tell("served", self.hashes)
            return
        if release == self.wanted:
            return
        if self._change is not None:
            self._change.cancel()
        refused = bool(self.problem)
        self.wanted, self.problem, self._change = None, "", None
        if release != self.release:
            self.wanted = release
            self._change = asyncio.create_task(self._bring_up(release))
        elif refused:
            self._tell("served", self.hashes)

    def describe(self) -> ServedModels:
        """What is served, and what is to be."""
        wanted = {} if self.wanted is None else {name: _short(text) for name, text in self.wanted}
        those = {} if self.release is None else {name: _short(text) for name, text in self.release}
        return ServedModels(serving=self.hashes, named=those, wanted=wanted, problem=self.problem)

    async def _bring_up(self, release: Release) -> None:
        pause = FIRST_PAUSE_S
        while True:
            hashes: dict[str, str] = {}
            try:
                hashes, trained = await asyncio.to_thread(_read, release)
                await self._warm(release)
                break
            except Exception as error:  # whatever it is: what is served stays, and it is tried again
                problem = str(error) if isinstance(error, RollamaError) else type(error).__name__
                for _, text in release:
                    problem = problem.replace(text, _short(text))
                if problem != self.problem:
                    self.problem = problem
                    logger.error("a release is not ready", extra={**named(error), "models": hashes})
                    self._tell("refused", hashes)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
        self.release, self.hashes, self.trained = release, hashes, trained
        self.wanted, self.problem, self._change = None, "", None
        logger.info("another release is served", extra={"models": hashes})
        self._tell("served", hashes)


def _read(release: Release) -> tuple[dict[str, str], dict[str, Profile]]:
    """The models' identities, and what those that say so were trained on."""
    folders = release.fetch(tuple(Release.model_fields))
    return hash_models(folders), read_trained(folders)


def _short(reference: str) -> str:
    """A reference's digest, or a folder's name: places are nobody's business."""
    return reference.rpartition("@")[2] if "@sha256:" in reference else reference.rstrip("/").rpartition("/")[2]
