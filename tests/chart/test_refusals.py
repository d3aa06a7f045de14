"""Values that cannot work are refused by helm itself, in a sentence that names the value."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tests.chart.cases import BY_CLUSTER, BY_SCHEMA, BY_TEMPLATE, CONNECTED, KUBERAY, secret
from tests.chart.copies import connected_chart
from tests.chart.rendering import S3, SERVING, Refused, text

pytestmark = pytest.mark.chart


def said(options: tuple[str, ...], *chart: Path) -> str:
    """Helm's refusal."""
    try:
        text(list(options), *chart)
    except Refused as error:
        return str(error)
    return "rendered"


def test_by_schema_and_templates() -> None:
    cases = BY_SCHEMA + BY_TEMPLATE
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda case: said(case[0]), cases))
    wrong = [(words, answer) for (_, words), answer in zip(cases, found, strict=True) if words not in answer]
    assert not wrong


@pytest.mark.parametrize(("options", "there", "words"), BY_CLUSTER, ids=[item[2][:40] for item in BY_CLUSTER])
def test_by_what_is_in_the_cluster(tmp_path: Path, options: tuple[str, ...], there: object, words: str) -> None:
    assert words in said(options, connected_chart(tmp_path, there))


def test_nothing_is_refused_where_all_is_there(tmp_path: Path) -> None:
    there = {
        **CONNECTED,
        **KUBERAY,
        "Secret/key": secret(api_key="k" * 32),
        "Secret/mine": secret(**{"auth_token": "x"}),
    }
    entry = {"name": "clinic", "sha256": "0" * 64, "scopes": ["texts"], "expires": "2027-06-30", "per_minute": 60}
    there["Secret/list"] = secret(**{"keys.yaml": yaml.safe_dump({"keys": [entry]})})
    there["Secret/mine"] = {**there["Secret/mine"], "data": {"auth_token": "eA=="}}
    options = [*SERVING, S3, "--set=serve.apiKey.existingSecret=key", "--set=token.existingSecret=mine"]
    options += ["--set=serve.keys.existingSecret=list"]
    assert "kind: RayService" in text(options, connected_chart(tmp_path, there))


def test_a_changed_secret_makes_new_pods(tmp_path: Path) -> None:
    options = [*SERVING, S3, "--set=serve.apiKey.existingSecret=key"]
    found = []
    for number, value in enumerate(("k" * 32, "l" * 32)):
        (tmp_path / str(number)).mkdir()
        there = {**CONNECTED, **KUBERAY, "Secret/key": secret(api_key=value)}
        rendered = text(options, connected_chart(tmp_path / str(number), there))
        found.append(next(line for line in rendered.splitlines() if "checksum/api-key" in line))
        assert json.dumps(there["Secret/key"])[-40:] not in rendered
    assert found[0] != found[1]
