"""Jobs under a name: what a site's administrator wants to run again and again, written once.

The Helm chart keeps them beside the site (ConfigMap `rollama-site`, key `presets.yaml`), so that a schedule and a
person submit the same thing. They say what to run; where it goes is the site's, what it costs the bundled preset's.
"""

from __future__ import annotations

import difflib
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from rollama.core.config import StrictModel, build, parse_yaml
from rollama.core.errors import ConfigError

PRESETS_KEY = "presets.yaml"


class JobPreset(StrictModel):
    """The arguments of `rollama submit train` or `evaluate`."""

    task: Literal["s", "p", "seg", "evaluate"]
    name: str | None = Field(None, description="of run and model; default: the task, for an evaluation the job's name")
    preset: str = Field("", description="bundled preset of a training")
    set: list[str] = Field(default_factory=list, description="key=value over it")
    thresholds: list[dict[str, Any]] = Field(
        default_factory=list, description="of an evaluation: rules as in infra/ci/thresholds.yaml"
    )
    gpus: int = Field(0, ge=0, le=1, description="of an evaluation")
    limit: int | None = Field(None, ge=1, description="of an evaluation: cases a centre and split")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.task == "evaluate" and (self.preset or self.set):
            raise ValueError("an evaluation takes neither preset nor set")
        if self.task != "evaluate" and not self.preset:
            raise ValueError("a training needs preset, the name of a bundled one")
        if self.task != "evaluate" and (self.thresholds or self.gpus or self.limit):
            raise ValueError("thresholds, gpus and limit belong to an evaluation")
        return self


class _Presets(StrictModel):
    presets: dict[str, JobPreset]


def parse_presets(text: str, source: str) -> dict[str, JobPreset]:
    """Read presets from YAML.

    Raises:
        ConfigError: not a YAML mapping, or a key is unknown or not accepted.
    """
    values = parse_yaml(text, source) if text.strip() else {}
    return build(_Presets, {"presets": values}, source).presets


def choose(presets: dict[str, JobPreset], name: str, source: str) -> JobPreset:
    """The preset of this name.

    Raises:
        ConfigError: there is none; names what there is.
    """
    if name not in presets:
        near = difflib.get_close_matches(name, presets, n=1)
        there = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(sorted(presets)) or 'none'}"
        raise ConfigError(f"{source}: no job {name!r}; {there} (the chart's jobs.presets)")
    return presets[name]
