"""The chart rendered by the real helm, one call of some 70 ms a set of values; no cluster is asked."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from infra.chart import CHART
from infra.cluster.binaries import path_of

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NAMESPACE = "team"
APIS = ("monitoring.coreos.com/v1/PodMonitor", "monitoring.coreos.com/v1/PrometheusRule")
S3 = "--set=storage.env.AWS_ENDPOINT_URL=http://s3.s3.svc.cluster.local:7070"
SERVING = tuple(
    f"--set=serve.models.{name}=s3://bucket/store@sha256:{digit * 64}" for name, digit in zip("spx", "123", strict=True)
)
SERVING = tuple(item.replace("models.x=", "models.seg=") for item in SERVING)


@dataclass(frozen=True)
class Values:
    """A set of values: files below `ci/` of the chart, and options of helm."""

    name: str
    options: tuple[str, ...] = ()
    file: str = ""

    def arguments(self, chart: Path) -> list[str]:
        """For helm."""
        return [*(["-f", str(chart / "ci" / self.file)] if self.file else []), *self.options]


CI = tuple(
    Values(path.name.removesuffix("-values.yaml"), tuple(f"--api-versions={api}" for api in APIS), path.name)
    for path in sorted((CHART / "ci").iterdir())
)
SETS = (Values("defaults"), Values("serving", (*SERVING, S3)), *CI)


class Refused(Exception):
    """Helm's own words about why it does not render."""


def helm() -> str:
    """The helm of the test cluster, or the one on PATH."""
    built = path_of("helm")
    found = str(built) if built.is_file() else shutil.which("helm")
    assert found, "no helm: run 'make cluster-up' once, or install helm"
    return found


def text(options: list[str], chart: Path = CHART) -> str:
    """What `helm template` prints.

    Raises:
        Refused: helm does not render it.
    """
    command = [helm(), "template", "rollama", str(chart), "-n", NAMESPACE, "--kube-version", "1.34", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def objects(values: Values, chart: Path = CHART) -> list[dict[str, Any]]:
    """The objects of a set of values.

    Raises:
        Refused: helm does not render it, or not as YAML.
    """
    return parsed(text(values.arguments(chart), chart))


def parsed(shown: str) -> list[dict[str, Any]]:
    """The objects of what helm printed.

    Raises:
        Refused: it is no YAML.
    """
    try:
        found = list(yaml.load_all(shown, LOADER))
    except yaml.YAMLError as error:
        raise Refused(str(error)) from error
    return [item for item in found if item]


@cache
def rendered(values: Values) -> tuple[dict[str, Any], ...]:
    """The same for the chart as it is, once a session; not to be changed."""
    return tuple(objects(values))


def of(found: Any, kind: str, name: str = "") -> dict[str, Any]:
    """The one object of this kind (and name)."""
    (item,) = [item for item in found if item["kind"] == kind and name in ("", item["metadata"]["name"])]
    return dict(item)
