"""Names that make a repeated submission find the job that is already there.

A CI retries; two pipelines start at once. The name of a RayJob is therefore a function of what decides its result
(task, run, configuration, data, workspace, image), so the API server itself refuses the second one. The `spec-hash`
label tells whether a job of that name was also asked for with the same resources and limits.
"""

from __future__ import annotations

import re
from typing import Any

from rollama.core.config import hash_json
from rollama.core.errors import ConfigError

MAX_NAME = 47
"""KubeRay's limit for RayJob and RayService: the RayCluster's name adds a suffix and must fit 53 characters."""

MAX_ATTEMPT = 99
LABEL_JOB, LABEL_ROLE, LABEL_RUN = "rollama.io/job", "rollama.io/role", "rollama.io/run"
LABEL_BASE, LABEL_HASH, LABEL_ATTEMPT = "rollama.io/base", "rollama.io/spec-hash", "rollama.io/attempt"
COMMAND = "rollama.io/command"
_RUN_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_DNS1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def check_run_name(name: str) -> str:
    """Return `name` if it can be a run's name, a folder's and a label's.

    Raises:
        ConfigError: too long or with other characters.
    """
    if len(name) > MAX_NAME:
        raise ConfigError(f"--name: found {len(name)} characters, accepted are at most {MAX_NAME}")
    if not _RUN_NAME.fullmatch(name):
        raise ConfigError(
            f"--name: found {name!r}; accepted are letters, digits, '.', '_' and '-', a letter or digit at both ends"
        )
    return name


def check_resource_name(name: str, key: str) -> str:
    """Return `name` if KubeRay accepts it for a RayJob or RayService.

    Raises:
        ConfigError: longer than 47 characters or not a DNS-1035 label.
    """
    if len(name) > MAX_NAME:
        raise ConfigError(f"{key}: found {name!r} with {len(name)} characters; KubeRay accepts at most {MAX_NAME}")
    if not _DNS1035.fullmatch(name):
        raise ConfigError(
            f"{key}: found {name!r}; accepted are lower-case letters, digits and '-', a letter first, no '-' last"
        )
    return name


def base_name(task: str, run: str, identity: dict[str, Any]) -> str:
    """Name of the first attempt: readable, then ten hex digits of everything that decides the result."""
    digest = hash_json({"task": task, "run": run, **identity})[:10]
    prefix = f"rollama-{task}-"
    room = MAX_NAME - len("-r99") - len(prefix) - len(digest) - 1
    slug = re.sub(r"[^a-z0-9]+", "-", run.lower())[:room].strip("-")
    return f"{prefix}{slug}-{digest}" if slug else f"{prefix}{digest}"


def attempt_name(base: str, attempt: int) -> str:
    """Name of the n-th attempt; the first has the base name itself.

    Raises:
        ConfigError: too many attempts; old ones must go first.
    """
    if attempt > MAX_ATTEMPT:
        raise ConfigError(f"{base}: {MAX_ATTEMPT} attempts are kept already; delete old ones with 'rollama cancel'")
    return base if attempt <= 1 else f"{base}-r{attempt}"


def spec_hash(spec: dict[str, Any]) -> str:
    """Sixteen hex digits of the whole specification, without its names."""
    return hash_json(_nameless(spec))[:16]


def _nameless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nameless(item) for key, item in value.items() if key not in (LABEL_JOB, LABEL_ATTEMPT)}
    return [_nameless(item) for item in value] if isinstance(value, list) else value


def labels(base: str, attempt: int, task: str, run: str) -> dict[str, str]:
    """Labels of the RayJob; KubeRay copies them to the RayCluster."""
    return {
        "app.kubernetes.io/name": "rollama",
        "app.kubernetes.io/component": task if task == "evaluate" else f"train-{task}",
        "app.kubernetes.io/managed-by": "rollama",
        LABEL_RUN: run,
        LABEL_BASE: base,
        LABEL_JOB: attempt_name(base, attempt),
        LABEL_ATTEMPT: str(attempt),
    }
