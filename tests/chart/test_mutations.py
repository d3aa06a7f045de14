"""Is every security line of the chart held by a test? Each is dropped once, and somebody has to notice.

Noticing is: helm does not render the chart any more, or `rules.problems` names something, or values that must be
refused are not. The lines are found by pattern, so a new one is covered, or fails here, without anybody thinking of it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest

from infra.chart import CHART
from tests.chart.cases import BY_CLUSTER, BY_TEMPLATE
from tests.chart.copies import FAKE, LOOK, Line, security_lines, without
from tests.chart.rendering import SETS, Refused, Values, parsed, text
from tests.chart.rules import problems

pytestmark = [pytest.mark.chart, pytest.mark.timeout(300)]
BY_NAME = {values.name: values for values in SETS}
ORDER = [BY_NAME[name] for name in (
    "gpu-cluster", "air-gapped", "gpu-small", "cpu", "serving", "defaults", "federation-coordinator", "federation-site",
    "federation-site-jobs",
)]  # fmt: skip


def test_the_pattern_finds_what_is_known() -> None:
    found = [str(line) for line in security_lines()]
    for known in (
        "readOnlyRootFilesystem: true", "allowPrivilegeEscalation: false", "capabilities: {drop: [ALL]}",
        "policyTypes: [Ingress, Egress]", "authOptions: {mode: token", "automountServiceAccountToken: false",
        "resourceNames: [rollama-site]", "secretName: {{ .Values.ingress.tls.secretName }}", "not sent without TLS",
    ):  # fmt: skip
        assert any(known in line for line in found), known
    assert len(found) > 150


def test_a_dropped_security_line_is_noticed() -> None:
    lines = list(security_lines())
    with ThreadPoolExecutor(4) as threads:
        noticed = list(threads.map(_noticed, lines))
    assert [str(line) for line, how in zip(lines, noticed, strict=True) if not how] == []


def _noticed(line: Line) -> str:
    with tempfile.TemporaryDirectory() as folder:
        chart = without(line, Path(folder))
        if "fail (" in line.text or 'fail "' in line.text:
            return _still_refused(line, chart)
        if "rollama.check" in line.text:
            gone = (f"not refused: {options}" for options, words in BY_TEMPLATE if not _refused(options, words, chart))
            return next(gone, "") or _check_is_gone(line, chart)
        for values in ORDER:
            try:
                shown = text(values.arguments(chart), chart)
                if _steady(shown) == _as_it_is(values):
                    continue
                found = next(problems(parsed(shown), values.name), "")
            except Refused as error:
                return str(error)
            if found:
                return found
    return ""


def _steady(shown: str) -> str:
    return re.sub(r"(auth_token|api-key): \w+=*\n", "", shown)  # made anew at each rendering


@cache
def _as_it_is(values: Values) -> str:
    return _steady(text(values.arguments(CHART)))


def _still_refused(line: Line, chart: Path) -> str:
    """The cases that the guard refuses: one of them has to come through, or with another refusal."""
    start = re.search(r'fail \(?(?:printf )?"((?:[^"\\]|\\.)*)"', line.text)
    assert start, line
    parts = [part for part in re.split(r"%[a-z]|\\\"", start[1]) if len(part) > 12]
    for options, words in BY_TEMPLATE:
        asked = any(words in part or part in words or _shares(part, words) for part in parts)
        if asked and not _refused(options, words, chart):
            return f"not refused: {options}"
    return _check_is_gone(line, chart)


def _refused(options: Iterable[str], words: str, chart: Path) -> bool:
    try:
        text(list(options), chart)
    except Refused as error:
        return words in str(error)
    return False


def _shares(part: str, words: str) -> bool:
    return any(words[at : at + 16] in part for at in range(max(1, len(words) - 16)))


def _check_is_gone(line: Line, chart: Path) -> str:
    """The same for what helm looks up in a cluster."""
    import json

    helpers = chart / "templates/_helpers.tpl"
    helpers.write_text(LOOK.sub(lambda found: found[1] + FAKE + found[2], helpers.read_text()))
    for options, there, words in BY_CLUSTER:
        (chart / "there.json").write_text(json.dumps(there))
        if not _refused(options, words, chart):
            return f"not refused: {options}"
    if "rollama.checkFederation" in line.text:
        return next((words for options, words in BY_TEMPLATE if not _refused(options, words, chart)), "")
    return ""
