"""Typed configuration: strict keys, YAML files, dotted overrides, one hash per configuration.

A misspelt key that is silently ignored costs a training run. Every configuration class therefore derives from
`StrictModel`, which refuses unknown keys, and `build` turns pydantic's report into one message that names each
key, what was found and the nearest accepted spelling.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from rollama.core.errors import ConfigError


class StrictModel(BaseModel):
    """Base of every configuration and record: unknown keys are refused, instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON form; equal configurations have equal digests."""
        return hash_json(self.model_dump(mode="json"))

    def updated(self, **changes: Any) -> Self:
        """Return a validated copy with some fields changed.

        Raises:
            ConfigError: a key is unknown or a value is not accepted.
        """
        return build(type(self), {**self.model_dump(), **changes}, source=type(self).__name__)


Model = TypeVar("Model", bound=StrictModel)
_NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)
"""What the parser raises: its own errors, that of an impossible date, and the end of the stack for a deep nesting."""


def hash_text(text: str) -> str:
    """SHA-256 (hex) of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def hash_json(value: Any) -> str:
    """SHA-256 (hex) of a JSON value, independent of key order."""
    return hash_text(json.dumps(value, sort_keys=True, separators=(",", ":")))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML mapping.

    Raises:
        ConfigError: the file is missing, not UTF-8, not YAML or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot read it ({error.strerror}); give a readable YAML file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """Read one YAML mapping from a text; `source` names it in messages.

    Raises:
        ConfigError: not YAML or not a mapping.
    """
    try:
        value = yaml.safe_load(text)
    except _NOT_YAML as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        raise ConfigError(f"{source}: not valid YAML{line}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{source}: expected keys and values, found {type(value).__name__}")
    return value


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return `values` with `a.b=c` overrides applied; each `c` is read as YAML.

    Raises:
        ConfigError: an override has no `=`, or its path goes through a value that is not a mapping.
    """
    result: dict[str, Any] = json.loads(json.dumps(values))
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator or not path.strip():
            raise ConfigError(f"--set {override}: expected key.subkey=value")
        *parents, leaf = path.strip().split(".")
        node = result
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise ConfigError(f"--set {override}: {parent!r} is a value, not a section")
            node = child
        try:
            node[leaf] = yaml.safe_load(text)
        except _NOT_YAML as error:
            raise ConfigError(f"--set {override}: the value is not valid YAML") from error
    return result


def build(model: type[Model], values: Mapping[str, Any], source: str) -> Model:
    """Validate `values` as `model`.

    Args:
        model: the configuration class.
        values: nested plain values.
        source: where they come from, for the message.

    Raises:
        ConfigError: lists every wrong key with what is accepted.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [_explain(model, item) for item in error.errors(include_url=False)]
        raise ConfigError(f"{source}: " + "; ".join(problems)) from error


def _explain(model: type[BaseModel], item: Any) -> str:
    path = [str(part) for part in item["loc"]]
    key = ".".join(path)
    if item["type"] == "extra_forbidden":
        accepted = sorted(_fields_at(model, path[:-1]))
        near = difflib.get_close_matches(path[-1], accepted, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"accepted: {', '.join(accepted)}"
        return f"unknown key {key!r}; {hint}"
    if item["type"] == "missing":
        return f"key {key!r} is missing"
    found = repr(item["input"])
    shown = found if len(found) <= 60 else type(item["input"]).__name__
    return f"{key or 'value'}: found {shown}; {item['msg']}"


def _fields_at(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    current: type[BaseModel] = model
    for part in path:
        field = current.model_fields.get(part)
        nested = _model_inside(field.annotation) if field else None
        if nested is None:
            return list(current.model_fields) if field is None else []
        current = nested
    return list(current.model_fields)


def _model_inside(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, list, tuple, dict):
        for argument in typing.get_args(annotation):
            if (found := _model_inside(argument)) is not None:
                return found
    return None
