"""Bring a release to the running endpoint, in place and by digest, and see that it answers with it.

The endpoint's models are part of its Serve configuration (`user_config`), which the Helm chart makes of `serve.models`;
another value there changes them in running replicas without a lost request (docs/serving.md). So a release is one small
file of helm values, and a command of the site's that applies it. The file alone is enough where something else watches
it (GitOps). Whether it worked is asked of the endpoint itself: what it says it serves, by the hash of the weights.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from rollama.core.config import build, read_yaml
from rollama.core.errors import ConfigError, ServeError
from rollama.core.files import write_text
from rollama.release.site import EndpointConfig
from rollama.release.verdict import Parts

POLL_S = 5.0


def values_text(parts: Parts) -> str:
    """Helm values with `serve.models` of a release, by digest."""
    head = f"# Written by 'rollama release'; release {parts.release[:16]}. Not to be edited.\n"
    return head + yaml.safe_dump({"serve": {"models": parts.model_dump()}}, sort_keys=False)


class Target:
    """The endpoint of a site; does nothing where none is configured."""

    def __init__(
        self, config: EndpointConfig, ask: Callable[[], Any] | None = None, pause: Callable[[float], None] = time.sleep
    ) -> None:
        """Take the configuration; `ask` (answers like `GET /v1/models`) and `pause` are for tests."""
        self.config, self._ask, self.pause = config, ask, pause

    def named(self) -> Parts | None:
        """The release that the file names; None without file.

        Raises:
            ConfigError: the file is there and is not ours.
        """
        path = self.config.values
        if path is None or not path.is_file():
            return None
        values = read_yaml(path)
        models = values.get("serve", {}).get("models") if isinstance(values.get("serve"), Mapping) else None
        if not isinstance(models, Mapping):
            raise ConfigError(f"{path}: no serve.models in it; 'endpoint.values' must be a file of its own")
        return build(Parts, models, str(path))

    def bring(self, parts: Parts, hashes: Mapping[str, str]) -> None:
        """Write the file, run the command and wait for the endpoint; the same again changes nothing.

        Raises:
            ServeError: the command fails, or the endpoint does not come to serve the release.
        """
        path = self.config.values
        if path is None:
            return
        if self.named() != parts:
            write_text(path, values_text(parts))
        if self.config.command:
            self._run([part.replace("{values}", str(path)) for part in self.config.command])
        if self.config.url is not None:
            self._wait(hashes)

    def _run(self, command: list[str]) -> None:
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=self.config.command_timeout_s, check=False
            )
        except OSError as error:
            raise ServeError(f"endpoint.command {command[0]}: cannot be started ({error.strerror})") from error
        except subprocess.TimeoutExpired as error:
            raise ServeError(f"endpoint.command {command[0]}: not done after {error.timeout:g} s") from error
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise ServeError(
                f"endpoint.command {command[0]} failed with {done.returncode}: {said[-1] if said else 'no message'}"
            )

    def _wait(self, hashes: Mapping[str, str]) -> None:
        deadline, problem = time.monotonic() + self.config.wait_s, ""
        while True:
            try:
                served = (self._ask or self._models)()
                if dict(served.serving) == dict(hashes):
                    return
                problem = served.problem or "it serves others still"
            except ServeError as error:
                problem = str(error)
            if time.monotonic() >= deadline:
                raise ServeError(
                    f"endpoint {self.config.url}: does not answer with the release after {self.config.wait_s:g} s: "
                    f"{problem}; it goes on with what it has"
                )
            self.pause(POLL_S)

    def _models(self) -> Any:
        from rollama.client.endpoint import Endpoint

        key = os.environ.get(self.config.key_env)
        if not key:
            raise ConfigError(f"endpoint.url is given, and the variable {self.config.key_env} with its key is not set")
        endpoint = Endpoint(str(self.config.url), key)
        try:
            return endpoint.models()
        finally:
            endpoint.close()
