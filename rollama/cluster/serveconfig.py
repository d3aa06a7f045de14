"""What Ray Serve is told (`serveConfigV2`), with every key known and every rule between them said.

Ray Serve ignores keys it does not know: a `max_ongoing_requests` one level too deep leaves the endpoint without a limit
and without a word. It also fills in what was not said, and some of that bites (one replica at most, queues without an
end, ten minutes until a replica goes). The models here refuse unknown keys, have no open queue, and are what both the
client and the chart's rendered configuration are checked by.

The arguments of the application are another room's (`serve.config.ServeConfig`); of them only what Ray has to agree
with is looked at here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from rollama.core.config import StrictModel, build, parse_yaml
from rollama.core.errors import ConfigError

IMPORT_PATH = "serve.app:build_app"
MARGIN_S = 30
"""Ray's own limit for a request comes so long after the application's, which can say what happened."""
SCALINGS = ("text", "segmentation")
DEPLOYMENTS = ("pipeline", *SCALINGS)


class Autoscaling(StrictModel):
    """Replicas of one deployment; Ray's own default for max_replicas is 1, so it must be said."""

    min_replicas: int = Field(1, ge=0)
    initial_replicas: int | None = Field(None, ge=0)
    max_replicas: int = Field(ge=1)
    target_ongoing_requests: float = Field(2, gt=0)
    look_back_period_s: float = Field(30, gt=0)
    upscale_delay_s: float = Field(30, ge=0)
    downscale_delay_s: float = Field(600, ge=0)

    @model_validator(mode="after")
    def _steady(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError("accepted is min_replicas <= max_replicas")
        if self.initial_replicas is not None and not self.min_replicas <= self.initial_replicas <= self.max_replicas:
            raise ValueError("accepted is min_replicas <= initial_replicas <= max_replicas")
        if min(self.upscale_delay_s, self.downscale_delay_s) < self.look_back_period_s:
            raise ValueError("accepted are delays >= look_back_period_s; shorter ones make the replicas oscillate")
        return self


class ActorOptions(StrictModel):
    """What a replica reserves."""

    num_cpus: float | None = Field(None, ge=0)
    num_gpus: float | None = Field(None, ge=0)
    memory: float | None = Field(None, gt=0)


class Models(StrictModel):
    """The models that work together: references into a store (see `rollama push model`), or folders all nodes see."""

    s: str = Field(min_length=1)
    p: str = Field(min_length=1)
    seg: str = Field(min_length=1)


class Deployment(StrictModel):
    """Overrides of one deployment of our application."""

    name: Literal["pipeline", "text", "segmentation"]
    num_replicas: int | None = Field(None, ge=1)
    max_ongoing_requests: int | None = Field(None, ge=1)
    max_queued_requests: int | None = Field(None, ge=0, description="Ray's own default is a queue without an end")
    max_replicas_per_node: int | None = Field(None, ge=1, le=100)
    graceful_shutdown_timeout_s: float | None = Field(None, gt=0)
    health_check_period_s: float | None = Field(None, gt=0)
    health_check_timeout_s: float | None = Field(None, gt=0)
    ray_actor_options: ActorOptions | None = None
    autoscaling_config: Autoscaling | None = None
    user_config: Models | None = Field(None, description="the models; another value changes them in place")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.num_replicas is not None and self.autoscaling_config is not None:
            raise ValueError("accepted is num_replicas or autoscaling_config")
        limit, auto = self.max_ongoing_requests, self.autoscaling_config
        if limit is not None and auto is not None and auto.target_ongoing_requests >= limit:
            raise ValueError("accepted is target_ongoing_requests < max_ongoing_requests")
        return self


class HttpOptions(StrictModel):
    """Where Serve listens: on every interface of the pod, which the NetworkPolicy closes."""

    host: Literal["0.0.0.0"] = "0.0.0.0"
    port: Literal[8000] = 8000
    request_timeout_s: float = Field(630, gt=0)


class Application(StrictModel):
    """Our application."""

    name: Literal["rollama"] = "rollama"
    route_prefix: Literal["/"] = "/"
    import_path: Literal["serve.app:build_app"] = "serve.app:build_app"
    args: dict[str, Any]
    deployments: list[Deployment] = Field(default_factory=list)

    @field_validator("deployments")
    @classmethod
    def _once(cls, value: list[Deployment]) -> list[Deployment]:
        names = [item.name for item in value]
        if len(set(names)) < len(names):
            raise ValueError("accepted is each deployment once")
        return value

    @model_validator(mode="after")
    def _one_release(self) -> Self:
        named = [item.user_config for item in self.deployments if item.user_config is not None]
        if named and (len(named) < len(DEPLOYMENTS) or any(item != named[0] for item in named)):
            raise ValueError(f"accepted is the same user_config for each of {', '.join(DEPLOYMENTS)}")
        if bool(named) == bool(self.args.get("models")):
            raise ValueError("accepted is args.models (a folder) or user_config (the models' references), one of them")
        return self

    @property
    def models(self) -> Models | None:
        """What is served by reference; None where a folder is named."""
        return next((item.user_config for item in self.deployments), None)


class ServeFile(StrictModel):
    """The whole of `serveConfigV2`."""

    proxy_location: Literal["EveryNode", "HeadOnly"] = "EveryNode"
    http_options: HttpOptions = HttpOptions()
    applications: list[Application] = Field(min_length=1, max_length=1)

    @model_validator(mode="after")
    def _in_time(self) -> Self:
        deadline = self.applications[0].args.get("deadline_s", 600)
        if self.http_options.request_timeout_s <= deadline:
            raise ValueError(
                f"request_timeout_s is {self.http_options.request_timeout_s:g} and deadline_s {deadline}: "
                "Ray would cut a request off before the application answers; accepted is request_timeout_s > deadline_s"
            )
        return self

    def plain(self) -> dict[str, Any]:
        """As Ray takes it, without what was left open."""
        found = self.model_dump(exclude_none=True)
        for application in found["applications"]:
            if not application["deployments"]:
                del application["deployments"]
        return found


def make_serve(
    args: dict[str, Any], deployments: list[Deployment] | None = None, models: Models | None = None
) -> ServeFile:
    """The configuration for these arguments; Ray waits longer than the application does.

    Args:
        args: of the application.
        deployments: what to say about some of them.
        models: what to serve, where `args` names no folder.

    Raises:
        ConfigError: by key.
    """
    timeout = float(args.get("deadline_s", 600)) + MARGIN_S
    said: dict[str, dict[str, Any]] = {item.name: item.model_dump() for item in deployments or ()}
    if models is not None:
        said = {name: {"name": name, **said.get(name, {}), "user_config": models.model_dump()} for name in DEPLOYMENTS}
    values = {
        "http_options": {"request_timeout_s": timeout},
        "applications": [{"args": args, "deployments": list(said.values())}],
    }
    return build(ServeFile, values, "serveConfigV2")


def parse_serve(text: str, source: str) -> ServeFile:
    """Read `serveConfigV2`.

    Raises:
        ConfigError: not a YAML mapping, or a key is unknown or not accepted.
    """
    return build(ServeFile, parse_yaml(text, source), source)


@dataclass(frozen=True)
class Room:
    """What one pod of Ray offers."""

    cpus: float
    gpus: float
    pods: int = 1
    """Of this kind, at most."""


def check_room(args: Mapping[str, Any], rooms: list[Room]) -> None:
    """Whether the replicas that are always there have a place: Ray would wait for it for ever.

    Args:
        args: of the application; what is left out counts as `serve.config` says (1 CPU, no GPU, 1 replica).
        rooms: the pods.

    Raises:
        ConfigError: the replicas need more than all pods have, or one replica more than any pod.
    """
    for key, unit in (("cpus", "CPUs"), ("gpus", "GPUs")):
        default = 1.0 if key == "cpus" else 0.0
        each = {name: float(args.get(f"{name}_{key}", default)) for name in SCALINGS}
        need = sum(each[name] * (args.get(f"{name}_scaling") or {}).get("min_replicas", 1) for name in SCALINGS)
        have, largest = sum(getattr(room, key) * room.pods for room in rooms), max(getattr(room, key) for room in rooms)
        name = max(each, key=lambda item: each[item])
        if each[name] > largest:
            raise ConfigError(f"{name}_{key}: a replica wants {each[name]:g} {unit}, the largest pod has {largest:g}")
        if need > have:
            raise ConfigError(
                f"text_{key}, segmentation_{key}: the replicas that are always there want {need:g} {unit}, all pods "
                f"together have {have:g}; give the pods more, or the replicas less"
            )
