"""Requests made from the OpenAPI document: never a 5xx but 503, and every refusal is a problem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from fastapi.testclient import TestClient

from serve.config import ServeConfig
from tests.serve.conftest import KEY, Connect

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ROUTES = [
    ("POST", "/v1/summary"), ("POST", "/v1/plan"), ("POST", "/v1/pipeline"), ("POST", "/v1/segment"),
    ("POST", "/v1/pipeline/upload"), ("POST", "/v1/segment/upload"), ("GET", "/v1/jobs/{job_id}"),
    ("GET", "/v1/jobs/{job_id}/events"), ("DELETE", "/v1/jobs/{job_id}"), ("GET", "/v1/jobs/{job_id}/files/{name}"),
    ("GET", "/v1/samples"), ("GET", "/v1/samples/{name}/ct.nii.gz"), ("GET", "/healthz"), ("GET", "/readyz"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_request_breaks_the_server(connect: Connect, config: ServeConfig, method: str, path: str) -> None:
    client: TestClient = connect(deadline_s=5.0)
    document = client.get("/openapi.json").json()
    operation = schemathesis.openapi.from_dict(document)[path][method]
    answers: list[int] = []

    @hypothesis.settings(
        max_examples=15, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck), phases=[hypothesis.Phase.generate],
    )  # fmt: skip
    @hypothesis.given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        options = case.as_transport_kwargs(base_url="http://testserver")
        options.pop("cookies", None)
        headers = {**(options.pop("headers", None) or {}), "Authorization": f"Bearer {KEY}"}
        answer = client.request(**options, headers=headers)
        answers.append(answer.status_code)
        assert answer.status_code < 500 or answer.status_code == 503, (answer.status_code, answer.text)
        kind = answer.headers.get("Content-Type", "")
        assert answer.is_success or kind == "application/problem+json", (answer.status_code, kind)

    ask()
    assert len(answers) >= 1
    assert not list(Path(config.store).glob("jobs/*/ct")) or "upload" in path
