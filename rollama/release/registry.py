"""The MLflow model registry: versions by digest, and the aliases `released` and `previous`.

It is where other tools look up what is released, and it follows the release history; it decides nothing, because it has
no conditional writes. Models themselves lie in our store, a version only refers to them. As it is kept elsewhere, it
also remembers how long the history was, so a history whose end was cut off is noticed.
"""

from __future__ import annotations

import logging
import os
from typing import Any, Protocol

from rollama.core.errors import ClusterError, ConfigError
from rollama.release.verdict import Parts

RELEASED, PREVIOUS = "released", "previous"
TAG_RELEASE, TAG_HEAD = "release", "history"


class Registry(Protocol):
    """What a promotion asks of a registry; every method raises ClusterError when it is down."""

    def ping(self) -> None: ...
    def register(self, parts: Parts, tags: dict[str, str]) -> str: ...
    def point(self, alias: str, version: str | None) -> None: ...
    def pointed(self, alias: str) -> str | None: ...
    def remember(self, head: str) -> None: ...
    def remembered(self) -> str: ...


class MlflowRegistry:
    """A registered model in MLflow. `register` returns a version's number, `pointed` the digest behind an alias."""

    def __init__(self, uri: str, name: str) -> None:
        """Describe it; nothing is contacted.

        Args:
            uri: sqlite:///file.db or the server's address.
            name: of the registered model.
        """
        self.uri, self.name = uri, name
        self._client: Any = None

    def ping(self) -> None:
        """Ask for the registered model, made now if there is none."""
        from mlflow.exceptions import MlflowException

        def make(client: Any) -> None:
            found = client.search_registered_models(f"name = '{self.name}'", max_results=1)
            if not found:
                try:
                    client.create_registered_model(
                        self.name, description="RO-LLaMA releases (S, P, SEG). Research use only."
                    )
                except MlflowException as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another promotion was faster
                        raise

        self._ask(make)

    def register(self, parts: Parts, tags: dict[str, str]) -> str:
        """The version of a release, made if there is none; its tags are brought up to date."""

        def make(client: Any) -> str:
            found = client.search_model_versions(f"name = '{self.name}' and tags.{TAG_RELEASE} = '{parts.release}'")
            known = {TAG_RELEASE: parts.release, **parts.model_dump(), **tags}
            if not found:
                # A server wants an absolute path of every source, also of one that it never reads.
                made = client.create_model_version(self.name, source=f"rollama:/{parts.release}", tags=known)
                return str(made.version)
            version = str(min(int(item.version) for item in found))
            for key, value in known.items():
                client.set_model_version_tag(self.name, version, key, value)
            return version

        return str(self._ask(make))

    def point(self, alias: str, version: str | None) -> None:
        """Move an alias; None takes it away."""

        def move(client: Any) -> None:
            if version is not None:
                client.set_registered_model_alias(self.name, alias, version)
            elif alias in client.get_registered_model(self.name).aliases:
                client.delete_registered_model_alias(self.name, alias)

        self._ask(move)

    def pointed(self, alias: str) -> str | None:
        """Digest of the release behind an alias."""

        def look(client: Any) -> str | None:
            found = client.search_registered_models(f"name = '{self.name}'", max_results=1)
            version = found[0].aliases.get(alias) if found else None
            if version is None:
                return None
            return str(client.get_model_version(self.name, version).tags.get(TAG_RELEASE, ""))

        answer: str | None = self._ask(look)
        return answer

    def remember(self, head: str) -> None:
        """Keep number and hash of the history's last record."""
        self._ask(lambda client: client.set_registered_model_tag(self.name, TAG_HEAD, head))

    def remembered(self) -> str:
        """What was kept; empty when nothing was."""

        def look(client: Any) -> str:
            found = client.search_registered_models(f"name = '{self.name}'", max_results=1)
            return str(found[0].tags.get(TAG_HEAD, "")) if found else ""

        return str(self._ask(look))

    def _ask(self, question: Any) -> Any:
        try:
            if self._client is None:
                self._client = self._connect()
            return question(self._client)
        except ConfigError:
            raise
        except Exception as error:  # MLflow raises its own, SQLAlchemy's, requests' and OS errors
            place = self.uri.rpartition("@")[2] if "@" in self.uri else self.uri
            if type(error).__name__ == "RestException":  # the server does answer
                code, _, said = str(error).splitlines()[0].partition(": ")
                raise ClusterError(f"the model registry {place} refuses ({code}): {said.partition('. ')[0]}") from error
            raise ClusterError(
                f"the model registry {place} does not answer ({type(error).__name__}); check that MLflow runs and that "
                "'registry' in releases.yaml, or MLFLOW_TRACKING_URI, names it"
            ) from error

    def _connect(self) -> Any:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise ConfigError("the package mlflow is missing; install rollama with its extra 'track'") from error
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every table that it makes
        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
