"""The page's files: open to all, the same for all, and nothing else is served beside them."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import serve.page
from serve.page import FILES, HERE, SCRIPTS

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


def test_every_module_of_the_page_is_served_and_comes_with_the_package(client: TestClient) -> None:
    scripts = {path.name for path in HERE.glob("*.js")} - {"niivue.js"}
    assert scripts == set(SCRIPTS) - {"niivue.js"}
    for name in scripts:
        answer = client.get(f"/page/{name}", headers=NOBODY)
        assert answer.status_code == 200 and "script-src 'self'" in answer.headers["Content-Security-Policy"]
        wanted = set(re.findall(r"""(?:from|import)\W+"([^"]*)\"""", answer.text))
        assert wanted <= {f"./{other}" for other in SCRIPTS}, name
        assert "innerHTML" not in answer.text and "insertAdjacentHTML" not in answer.text  # text stays text
        assert "://" not in answer.text
    packed = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for path in (path for path in HERE.iterdir() if path.suffix in (".html", ".css", ".js")):
        assert any(fnmatch(f"page/{path.name}", pattern) for pattern in packed["serve"]), path.name


@pytest.mark.parametrize("name", ["__init__.py", "other.js", "..%2Fauth.py", "%2e%2e/auth.py"])
def test_nothing_else_is_served(client: TestClient, name: str) -> None:
    assert client.get(f"/page/{name}", headers=NOBODY).status_code in (401, 404)


def test_without_the_viewer_the_rest_is_there(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in HERE.iterdir():
        if path.suffix in (".html", ".css", ".js") and path.name != "niivue.js":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(serve.page, "HERE", tmp_path)
    assert client.get("/", headers=NOBODY).status_code == 200
    assert client.get("/page/niivue.js", headers=NOBODY).status_code == 404
