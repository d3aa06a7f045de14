"""The page in a real browser (headless Chromium), scripted models behind the real HTTP face.

`make page-install` brings browser and node, `make page` the viewer; without them these tests fail.
"""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Page, sync_playwright

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
pytestmark = [pytest.mark.page, pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.timeout(180)]
SOFTWARE_GL = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@pytest.fixture
def address(config: ServeConfig, models: Models, api_key: str) -> Iterator[str]:
    assert (HERE / "niivue.js").is_file(), "the viewer is missing; run 'make page'"
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


@pytest.fixture(scope="module")
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


def enter(page: Page, config: ServeConfig, key: str = KEY) -> None:
    page.fill("#key", key)
    page.press("#key", "Enter")
    page.fill("#note", "A note.")
    page.set_input_files("#ct", str(config.data_folder / "ct.nii.gz"))


def test_the_whole_way_and_an_edited_plan(watched: Watched, config: ServeConfig, address: str) -> None:
    page = watched.page
    assert "Not a medical device" in page.inner_text("header")
    enter(page, config)
    watched.until(lambda: page.text_content("#key-state") == "accepted")
    page.click("#start")
    watched.until(lambda: page.get_attribute("#viewer", "data-shown") == "1")
    assert page.text_content("#summary") == "Left, pT1."
    assert page.input_value("select[name=side]") == "left" and "40.05 Gy in 15 fractions" in page.inner_text(
        "#plan-rest"
    )
    pixels = page.locator("#view").screenshot()
    assert len(pixels) > 10_000  # more than a black canvas
    page.select_option("select[name=side]", "right")
    page.check("#levels input[value=L3]")
    page.click("#again")
    watched.until(lambda: page.get_attribute("#viewer", "data-shown") == "2")
    assert "right, whole breast, L3" in page.inner_text("#results")
    page.click("#results button >> nth=0")
    watched.until(lambda: page.get_attribute("#viewer", "data-shown") == "1")
    assert page.get_attribute("#results button >> nth=0", "aria-pressed") == "false"
    with page.expect_download() as download:
        page.click("#downloads button:has-text('plan.txt')")
    assert "Side: right." in Path(download.value.path()).read_text()
    (config.data_folder / "other.nii.gz").write_bytes((config.data_folder / "ct.nii.gz").read_bytes())
    page.set_input_files("#ct", str(config.data_folder / "other.nii.gz"))  # perhaps another patient
    assert page.locator("#results button").count() == 0 and not page.is_visible("#viewer")
    assert page.text_content("#summary") == "The summary appears here." and not page.is_visible("#plan-form")
    assert watched.errors == []
    assert all(url.startswith((address, "blob:", "data:")) for url in watched.asked), watched.asked


def test_by_keyboard_alone(watched: Watched, config: ServeConfig) -> None:
    page = watched.page
    page.set_input_files("#ct", str(config.data_folder / "ct.nii.gz"))
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        name = page.evaluate("() => document.activeElement.id || document.activeElement.tagName")
        reached.append(name)
        if name == "key":
            page.keyboard.type(KEY)
        if name == "note":
            page.keyboard.type("A note.")
        if name == "BUTTON":
            page.keyboard.press("Enter")
        if name == "start":
            watched.until(lambda: page.text_content("#key-state") == "accepted")
            page.keyboard.press("Enter")
    assert reached[:3] == ["key", "BUTTON", "note"] and "start" in reached
    watched.until(lambda: page.locator("#results button").count() == 1)
    assert watched.errors == []


def test_what_goes_wrong_is_said(watched: Watched, config: ServeConfig, models: Models) -> None:
    page = watched.page
    enter(page, config, "a wrong key of this endpoint")
    watched.until(lambda: page.text_content("#key-state") == "not accepted")
    page.click("#start")
    watched.until(lambda: "Authorization: Bearer" in (page.text_content("#message") or ""))
    enter(page, config)
    watched.until(lambda: page.text_content("#key-state") == "accepted")
    (config.data_folder / "bad.nii.gz").write_bytes(b"no CT")
    page.set_input_files("#ct", str(config.data_folder / "bad.nii.gz"))
    page.click("#start")
    watched.until(lambda: "not a CT file" in (page.text_content("#message") or ""))
    page.set_input_files("#ct", str(config.data_folder / "ct.nii.gz"))
    models.delay = 60.0
    page.click("#start")
    watched.until(lambda: page.is_visible("#stop"))
    page.wait_for_timeout(500)
    page.click("#stop")
    watched.until(lambda: "cancelled" in (page.text_content("#message") or ""))
    assert page.is_enabled("#start")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (820, "light")])
def test_nothing_overflows_and_contrast_is_kept(browser: Any, address: str, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(address)
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    paper, ink = (
        page.evaluate(f"() => getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color")
    )
    assert contrast(paper, ink) > 7
    page.close()


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio of two CSS colours `rgb(r, g, b)`."""

    def luminance(colour: str) -> float:
        values = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
