"""The page's files: open to all, the same for all, and nothing else is served beside them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import serve.page
from serve.page import FILES, HERE

NOBODY = {"Authorization": ""}


def test_the_page_needs_no_key_and_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/", headers=NOBODY)
    assert page.status_code == 200 and "Not a medical device" in page.text
    policy = page.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy and "default-src 'none'" in policy and "http" not in policy
    wanted = set(re.findall(r'(?:src|href)="(/[^"]*)"', page.text))
    assert wanted == {"/page/style.css", "/page/app.js"}
    for path in wanted:
        answer = client.get(path, headers=NOBODY)
        assert answer.status_code == 200 and answer.headers["Content-Type"] == FILES[path.rpartition("/")[2]]
        assert "://" not in answer.text  # no address of anybody
    assert not re.search(r"<script(?! type=\"module\" src=)|style=|onclick", page.text)  # the policy would refuse it


@pytest.mark.parametrize("name", ["__init__.py", "other.js", "..%2Fauth.py", "%2e%2e/auth.py"])
def test_nothing_else_is_served(client: TestClient, name: str) -> None:
    assert client.get(f"/page/{name}", headers=NOBODY).status_code in (401, 404)


def test_without_the_viewer_the_rest_is_there(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in HERE.iterdir():
        if path.suffix in (".html", ".css") or path.name == "app.js":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(serve.page, "HERE", tmp_path)
    assert client.get("/", headers=NOBODY).status_code == 200
    assert client.get("/page/niivue.js", headers=NOBODY).status_code == 404
