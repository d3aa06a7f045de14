"""A trained model used in another way: some keys of its configuration say how it is applied, and may change later."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

from rollama.core.config import StrictModel, apply_overrides, build
from rollama.core.errors import ConfigError

Config = TypeVar("Config", bound=StrictModel)


def applied(config: Config, changes: Sequence[str], accepted: Collection[str]) -> Config:
    """A model's configuration with `KEY=VALUE` changes of keys that do not decide how it is trained.

    Raises:
        ConfigError: another key, or a value that it does not take.
    """
    values = apply_overrides(config.model_dump(mode="json"), changes)
    changed = build(type(config), values, "--set")
    if others := sorted(key for key in values if key not in accepted and getattr(changed, key) != getattr(config, key)):
        raise ConfigError(
            f"--set {', '.join(others)}: decides how a model is trained, not how it is applied; accepted: "
            f"{', '.join(accepted)}"
        )
    return changed
