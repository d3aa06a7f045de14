"""Presets: whole configurations as YAML files, from a test on one core to eight GPUs.

A preset names the cohort, the two text models and the segmentation model. `text` holds what S and P share, `s` and `p`
what differs. `load_preset` applies `key.subkey=value` overrides and refuses unknown keys.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field

from rollama.cohort.config import CohortConfig
from rollama.core.config import StrictModel, apply_overrides, build, read_yaml
from rollama.core.errors import ConfigError
from rollama.core.registry import Task
from rollama.segmentation.config import SegConfig
from rollama.text.config import TextConfig


class Preset(StrictModel):
    """All that a run needs. Sections that a preset leaves out have their defaults."""

    name: str
    description: str
    cohort: CohortConfig = Field(default_factory=CohortConfig)
    s: TextConfig = Field(default_factory=TextConfig)
    p: TextConfig = Field(default_factory=TextConfig)
    segmentation: SegConfig = Field(default_factory=SegConfig)
    expected_seconds: dict[str, float] = Field(
        default_factory=dict, description="phase -> seconds, measured on two cores"
    )

    @property
    def needs_parts(self) -> bool:
        """Whether training reads all parts of a case (`data.regions`), so that the cohort has to have them."""
        return self.segmentation.plan_edits > 0

    def text(self, task: Task) -> TextConfig:
        """The configuration of S or P."""
        return self.s if task is Task.SUMMARY else self.p


def preset_names() -> list[str]:
    """Names of the bundled presets."""
    return sorted(
        path.name.removesuffix(".yaml") for path in resources.files(__name__).iterdir() if path.name.endswith(".yaml")
    )


def load_preset(name: str, overrides: Sequence[str] = ()) -> Preset:
    """Load a bundled preset by name, or a YAML file by path, and apply overrides such as `s.lr=1e-3`.

    `text.KEY=VALUE` sets a key for both S and P.

    Raises:
        ConfigError: no such preset, or a key or value that is not accepted.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        values, source = read_yaml(path), str(path)
    elif name in preset_names():
        with resources.as_file(resources.files(__name__) / f"{name}.yaml") as bundled:
            values, source = read_yaml(bundled), f"preset {name}"
    else:
        near = difflib.get_close_matches(name, preset_names(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"preset {name!r}: {hint}not one of {', '.join(preset_names())}, and not a .yaml file")
    values = apply_overrides(values, overrides)
    shared = values.pop("text", {})
    if not isinstance(shared, Mapping):
        raise ConfigError(f"{source}: 'text' must hold keys and values")
    for task in ("s", "p"):
        own = values.get(task) or {}
        if not isinstance(own, Mapping):
            raise ConfigError(f"{source}: {task!r} must hold keys and values, found {own!r}")
        values[task] = _merged(shared, own)
    if overrides:
        source += " with --set"
    return build(Preset, values, source)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result
