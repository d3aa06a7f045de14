"""Copies of the chart with one thing changed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.chart import CHART

LOOK = re.compile(r'(\{\{- define "rollama\.look" -\}\}\n).*?(\{\{- end -\}\})', re.DOTALL)
FAKE = '{{- index (.root.Files.Get "there.json" | fromJson) (printf "%s/%s" .kind .name) | default dict | toJson -}}\n'


def connected_chart(folder: Path, there: object) -> Path:
    """The chart as if helm were connected to a cluster that holds these objects: `lookup` is empty without one."""
    chart = folder / "chart"
    shutil.copytree(CHART, chart)
    (chart / "there.json").write_text(json.dumps(there))
    helpers = chart / "templates/_helpers.tpl"
    changed, count = LOOK.subn(lambda found: found[1] + FAKE + found[2], helpers.read_text())
    assert count == 1
    helpers.write_text(changed)
    return chart


@dataclass(frozen=True)
class Line:
    """A line of a template."""

    path: str
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.number}: {self.text.strip()}"


SECURITY = re.compile(
    r"automountServiceAccountToken|enableServiceLinks|allowPrivilegeEscalation|readOnlyRootFilesystem|runAsNonRoot"
    r"|runAsUser|runAsGroup|fsGroup|capabilities|seccompProfile|securityContext|containerSecurity|podSecurity"
    r"|authOptions|readOnly: true|defaultMode|policyTypes|podSelector|namespaceSelector|ipBlock|protocol:|- \{port:"
    r"|- from:|- to:|ports: \{\{|rollama\.(pods|peers|ports|policy|dnsRule|storageRule|check\w+)"
    r"|matchLabels|matchExpressions|app.kubernetes.io/component|ray.io/node-type|resourceNames|resource-policy"
    r"|sectionName|secretName|tls:|hosts|concurrencyPolicy|activeDeadline|preemptionPolicy|value: 100000|minAvailable"
    r"|limits: \{|allowed-hosts|TELEMETRY|helm.sh/hook:|hook-output|backoffLimit: 0|priorityClassName"
    r"|serviceAccountName|terminationGrace|api_key_file|keys_file|fail \(?\""
)
"""Lines that make something safe. A new line of one of these kinds is covered without anybody thinking of it."""


def security_lines(chart: Path = CHART) -> Iterator[Line]:
    """All of them, comments left out."""
    for path in sorted((chart / "templates").rglob("*")):
        if path.suffix not in (".yaml", ".tpl"):
            continue
        for number, text in enumerate(path.read_text().splitlines(), 1):
            bare = text.strip()
            if SECURITY.search(text) and not bare.startswith(("#", "{{/*", "{{- define")):
                yield Line(path.relative_to(chart).as_posix(), number, text)


def without(line: Line, folder: Path) -> Path:
    """A copy of the chart that lacks the line."""
    chart = folder / "chart"
    shutil.copytree(CHART, chart)
    path = chart / line.path
    lines = path.read_text().splitlines(keepends=True)
    assert lines[line.number - 1].rstrip("\n") == line.text
    del lines[line.number - 1]
    path.write_text("".join(lines))
    return chart
