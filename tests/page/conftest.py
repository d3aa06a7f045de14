"""The page at an address of its own, in headless Chromium.

`make page-install` brings browser and node, `make page` the viewer; without them these tests fail.
"""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Page, sync_playwright

import serve.samples
from rollama.core.storage import open_storage
from serve.api import make_api
from serve.audit import open_audit
from serve.auth import load_callers
from serve.config import ServeConfig
from serve.jobs import JobStore
from serve.page import HERE
from serve.service import Service
from serve.work import Backend
from tests.serve.conftest import KEY, Models, api_key, config, models

__all__ = ["api_key", "config", "models"]  # fixtures
SOFTWARE_GL = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@pytest.fixture
def address(config: ServeConfig, models: Models, api_key: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    assert (HERE / "niivue.js").is_file(), "the viewer is missing; run 'make page'"
    monkeypatch.setattr(serve.samples, "GRID", (80, 64, 48))  # drawn in a moment
    monkeypatch.setattr(serve.samples, "SPACING_MM", (6.25, 6.25, 6.0))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = JobStore(open_storage(config.store), config.lease_s)
    backend = Backend(models.generate, models.segment, models.ready)
    api = make_api(Service(config, backend, store, "replica", open_audit(config)), load_callers(config))
    server = uvicorn.Server(uvicorn.Config(api, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)


class Watched:
    """A page, what its console said, and which addresses it asked for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.asked: set[str] = set()
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.asked.add(request.url))

    def until(self, condition: Callable[[], Any], seconds: float = 60) -> None:
        """Wait; the page's policy forbids the evaluation that Playwright's own waiting needs."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.page.text_content("#message")
            self.page.wait_for_timeout(100)

    def enter(self, key: str = KEY) -> None:
        """Hand in the key."""
        self.page.fill("#key", key)
        self.page.press("#key", "Enter")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    path = shutil.which("chromium")
    assert path, "no chromium; run 'make page-install' as root"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=SOFTWARE_GL)
        yield started
        started.close()


@pytest.fixture
def watched(browser: Any, address: str) -> Iterator[Watched]:
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    found = Watched(page)
    page.goto(address)
    yield found
    page.close()


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio of two CSS colours `rgb(r, g, b)`."""

    def luminance(colour: str) -> float:
        values = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
