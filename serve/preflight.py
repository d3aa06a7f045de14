"""Asked by the chart before it changes anything: would this endpoint start?

    python -m serve.preflight FOLDER s=REFERENCE p=REFERENCE seg=REFERENCE

FOLDER holds `serve.yaml` (what Ray Serve will be told) and `rooms.yaml` (what its pods offer). Settings that the
application would refuse, replicas that no pod has room for and models that are not in the store are said in one
sentence each, and the exit code is 2; helm then leaves the running release alone.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from rollama.cluster import quantity
from rollama.cluster.serveconfig import Room, check_room, parse_serve
from rollama.core.config import StrictModel, build
from rollama.core.errors import DataError, RollamaError
from rollama.data.store import Kind, parse_reference, read_stored
from serve.config import ServeConfig


class _Room(StrictModel):
    """Pods of one kind; cpu as Kubernetes spells it, empty where Ray counts the node's own."""

    cpu: str = ""
    gpus: float = Field(0, ge=0)
    pods: int = Field(1, ge=1)

    def room(self) -> Room:
        # KubeRay starts Ray with whole CPUs, rounded up.
        return Room(math.ceil(quantity.parse(self.cpu, "cpu")) if self.cpu else math.inf, self.gpus, self.pods)


class _Rooms(StrictModel):
    rooms: list[_Room] = Field(min_length=1)


def check(folder: Path, models: dict[str, str]) -> list[str]:
    """Everything that would keep the endpoint from starting, a sentence each.

    Args:
        folder: with `serve.yaml` and `rooms.yaml`.
        models: references by task.
    """
    found: list[str] = []

    def tried(step: Any, *arguments: Any) -> Any:
        try:
            return step(*arguments)
        except RollamaError as error:
            found.append(str(error))
            return None

    served = tried(parse_serve, (folder / "serve.yaml").read_text(encoding="utf-8"), "serve.settings")
    if served is not None:
        args = served.applications[0].args
        tried(build, ServeConfig, args, "serve.settings")
        rooms = yaml.safe_load((folder / "rooms.yaml").read_text(encoding="utf-8"))
        pods = build(_Rooms, {"rooms": rooms}, "rooms.yaml").rooms
        tried(check_room, args, [pod.room() for pod in pods])
    for name, reference in sorted(models.items()):
        tried(_check_model, name, reference)
    return found


def _check_model(name: str, reference: str) -> None:
    try:
        manifest = read_stored(parse_reference(reference))
    except DataError as error:
        raise DataError(f"serve.models.{name}: {error}") from error
    if manifest.kind is not Kind.MODEL:
        raise DataError(f"serve.models.{name}: {reference} is a {manifest.kind}, not a model")


def main(arguments: list[str]) -> int:
    """Print what is wrong; 0 when nothing is."""
    folder, *pairs = arguments
    wrong = check(Path(folder), dict(pair.split("=", 1) for pair in pairs))
    for sentence in wrong:
        print(f"refused: {sentence}", file=sys.stderr)
    if not wrong:
        print("the endpoint's settings are accepted, and its models are in the store")
    return 2 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
