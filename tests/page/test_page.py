"""The page in a real browser (headless Chromium), scripted models behind the real HTTP face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
import pytest
from playwright.sync_api import Page

from serve.config import ServeConfig
from tests.page.conftest import Watched, contrast
from tests.serve.conftest import KEY, Models, zipped_series

pytestmark = [pytest.mark.page, pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.timeout(180)]


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
    assert page.input_value("select[name=side]") == "left"
    assert page.text_content("[data-field=dose] .value") == "40.05 Gy in 15 fractions"
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
    for _ in range(9):
        page.keyboard.press("Tab")
        name = page.evaluate("() => document.activeElement.id || document.activeElement.tagName")
        reached.append(name)
        if name == "key":
            page.keyboard.type(KEY)
        if name == "note":
            page.keyboard.type("A note.")
        if name == "BUTTON" and page.text_content("#key-state") != "accepted":
            page.keyboard.press("Enter")
            watched.until(lambda: page.is_visible("#samples button"))
        if name == "start":
            page.keyboard.press("Enter")
            break
    assert reached == ["key", "BUTTON", "BUTTON", "BUTTON", "BUTTON", "note", "ct", "start"][: len(reached)]
    assert reached[-1] == "start"
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


def test_a_dicom_series_gives_a_structure_set_to_keep(watched: Watched, config: ServeConfig, tmp_path: Path) -> None:
    page = watched.page
    enter(page, config)
    watched.until(lambda: page.text_content("#key-state") == "accepted")
    (tmp_path / "series.zip").write_bytes(zipped_series(config, tmp_path / "series", "CANARY"))
    page.set_input_files("#ct", str(tmp_path / "series.zip"))
    page.click("#start")
    watched.until(lambda: page.text_content("#measures"))
    assert page.is_visible("#overlay")  # the viewer reads no DICOM
    first = page.locator("#downloads button").first
    assert first.text_content() == "RTSTRUCT: target.dcm"
    with page.expect_download() as download:
        first.click()
    assert pydicom.dcmread(download.value.path()).Modality == "RTSTRUCT"
    assert "CANARY" not in page.content() and watched.errors == []


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
