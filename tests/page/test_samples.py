"""The synthetic patients on the page: one click fills note and CT, and everything of them says that it is synthetic."""

from __future__ import annotations

from typing import Any

import pytest

from serve.config import ServeConfig
from serve.samples import Samples
from tests.page.conftest import Watched
from tests.serve.conftest import Models

pytestmark = [pytest.mark.page, pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.timeout(180)]


def test_a_synthetic_patient_from_click_to_target(watched: Watched, config: ServeConfig, address: str) -> None:
    page = watched.page
    assert not page.is_visible("#samples")  # without the key there are none
    watched.enter()
    watched.until(lambda: page.is_visible("#samples"))
    titles = page.locator("#samples .choices button").all_text_contents()
    assert titles == [sample.title for sample in Samples().all]
    assert not any(badge.is_visible() for badge in page.locator(".synthetic").all())
    page.click("#samples button >> nth=0")
    watched.until(lambda: page.input_value("#note"))
    sample = Samples().all[0]
    assert page.input_value("#note") == sample.note
    assert page.evaluate("() => document.getElementById('ct').files[0].name") == f"synthetic-{sample.name}.nii.gz"
    assert page.locator(".synthetic").count() == 3 and all(
        badge.is_visible() for badge in page.locator(".synthetic").all()
    )
    assert page.get_attribute("#samples button >> nth=0", "aria-pressed") == "true"
    page.click("#start")
    watched.until(lambda: page.get_attribute("#viewer", "data-shown") == "1")
    page.click("#rules summary")
    assert page.text_content("#rules p") == sample.plan_text
    page.set_input_files("#ct", str(config.data_folder / "ct.nii.gz"))  # a real patient's CT
    assert page.input_value("#note") == "" and not page.is_visible("#rules")
    assert not any(badge.is_visible() for badge in page.locator(".synthetic").all())
    assert page.get_attribute("#samples button >> nth=0", "aria-pressed") == "false"
    assert watched.errors == []
    assert all(url.startswith((address, "blob:", "data:")) for url in watched.asked), watched.asked


def test_the_badge_stays_when_only_the_note_is_changed(watched: Watched, models: Models) -> None:
    page = watched.page
    watched.enter()
    watched.until(lambda: page.is_visible("#samples"))
    page.click("#samples button >> nth=2")
    watched.until(lambda: page.input_value("#note"))
    page.fill("#note", "Another note.")
    page.click("#start")
    watched.until(lambda: page.get_attribute("#viewer", "data-shown") == "1")
    assert page.is_visible("#target .synthetic")  # the CT still is
    assert not page.is_visible("#rules")  # but the rules' plan is another note's
    assert models.asked[0] == "Another note."


def test_an_endpoint_without_samples_works_without(watched: Watched, config: ServeConfig) -> None:
    page = watched.page

    def refuse(route: Any) -> None:
        route.fulfill(status=404, body="{}")

    page.route("**/v1/samples", refuse)
    watched.enter()
    watched.until(lambda: page.text_content("#key-state") == "accepted")
    page.fill("#note", "A note.")
    page.set_input_files("#ct", str(config.data_folder / "ct.nii.gz"))
    page.click("#start")
    watched.until(lambda: page.get_attribute("#viewer", "data-shown") == "1")
    assert not page.is_visible("#samples")
