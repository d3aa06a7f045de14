"""Note and plan beside each other: which sentences support which field, by mouse, by keyboard, and when there are none.

The sentences are put into the endpoint's events on their way to the page, as `findings.evidence` holds them: code
points of the note as sent, a line end counted as one.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest

from serve.config import ServeConfig
from tests.page.conftest import Watched, contrast
from tests.serve.conftest import NO_TARGET, Models

pytestmark = [pytest.mark.page, pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.timeout(180)]
NOTE = "𝛼𝛽 Frau, 54 J. 👩🏽‍⚕️\nLinks: brusterhaltend operiert.\n\n<b>Nodes</b> L3 & L4.\nNothing else."
SENTENCES = ("Links: brusterhaltend operiert.", "<b>Nodes</b> L3 & L4.")


def pointers(*found: tuple[str, str]) -> list[dict[str, Any]]:
    """(field, sentence) as the endpoint says it."""
    places = [(field, NOTE.index(text), len(text)) for field, text in found]
    return [{"field": field, "start": start, "end": start + length} for field, start, length in places]


FOUND = pointers(("side", SENTENCES[0]), ("surgery", SENTENCES[0]), ("levels", SENTENCES[1]), ("side", "54 J."))


def say(watched: Watched, evidence: list[dict[str, Any]] | None) -> None:
    """Let the events of jobs from a note carry these sentences."""

    def change(route: Any) -> None:
        answer = route.fetch()
        lines = []
        for line in answer.text().split("\n"):
            if line.startswith("data:"):
                event = json.loads(line[5:])
                event["findings"].pop("evidence", None)
                if evidence is not None:
                    note = event["findings"].get("plan_source") == "note" and event["findings"].get("plan")
                    event["findings"]["evidence"] = evidence if note else []
                line = "data: " + json.dumps(event)
            lines.append(line)
        route.fulfill(response=answer, body="\n".join(lines))

    watched.page.route("**/events", change)
    watched.page.route("**/niivue.js", lambda route: route.fulfill(body="throw new Error('not in this test')",
                                                                   content_type="text/javascript"))  # fmt: skip


def ask(watched: Watched, config: ServeConfig, note: str = NOTE) -> None:
    page = watched.page
    watched.enter()
    watched.until(lambda: page.text_content("#key-state") == "accepted")
    page.fill("#note", note)
    page.set_input_files("#ct", str(config.data_folder / "ct.nii.gz"))
    page.click("#start")
    watched.until(lambda: page.text_content("#measures"))


def lit(watched: Watched) -> tuple[list[str], list[str]]:
    """What shines: sentences of the note, and fields of the plan."""
    page = watched.page
    fields = [str(row.get_attribute("data-field")) for row in page.locator(".field.lit").all()]
    return page.locator("mark.lit").all_text_contents(), fields


def why(watched: Watched, field: str) -> str:
    return watched.page.locator(f"[data-field={field}] .why").inner_text()


def test_fields_and_sentences_light_each_other(watched: Watched, config: ServeConfig, models: Models) -> None:
    page = watched.page
    say(watched, FOUND)
    ask(watched, config)
    assert models.asked[0].replace("\r\n", "\n") == NOTE  # what the offsets count in
    view = page.locator("#note-view")
    assert view.inner_text().split() == NOTE.split() and view.locator("b").count() == 0  # text, never HTML
    assert page.locator("mark").all_text_contents() == ["54 J.", *SENTENCES]
    assert not page.is_visible("#note") and page.is_visible("#plan-form")
    assert why(watched, "side") == "2 sentences" and why(watched, "surgery") == "1 sentence"
    for field in ("volume", "boost", "dose", "technique", "guideline"):
        assert why(watched, field) == "not found in the note"
    page.hover("[data-field=side] label")
    assert lit(watched) == (["54 J.", SENTENCES[0]], ["side"])
    page.hover("[data-field=dose] .name")
    assert lit(watched) == ([], ["dose"])
    page.hover("mark >> nth=1")
    assert lit(watched) == ([SENTENCES[0]], ["side", "surgery"])
    page.hover("h1")
    assert lit(watched) == ([], [])
    assert watched.errors == []


def test_by_keyboard_both_ways(watched: Watched, config: ServeConfig) -> None:
    page = watched.page
    say(watched, FOUND)
    ask(watched, config)
    page.mouse.move(5, 5)
    page.focus("#f-side")
    assert lit(watched) == (["54 J.", SENTENCES[0]], ["side"])
    page.keyboard.press("Tab")
    name = "() => document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(name) == "Side: 2 sentences in the note"
    page.keyboard.press("Enter")  # to the sentence itself
    assert page.evaluate("() => document.activeElement.textContent") == "54 J."
    page.keyboard.press("Tab")
    assert lit(watched) == ([SENTENCES[0]], ["side", "surgery"])
    assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert page.get_attribute("mark >> nth=1", "title") == "Supports: Side, Surgery"


def test_an_edited_field_is_the_readers(watched: Watched, config: ServeConfig) -> None:
    page = watched.page
    say(watched, FOUND)
    ask(watched, config)
    page.select_option("#f-side", "right")
    page.select_option("#f-guideline", "ESTRO")
    assert why(watched, "side") == why(watched, "guideline") == "changed by you"
    assert why(watched, "surgery") == "1 sentence"
    page.click("#again")
    watched.until(lambda: page.locator("#results button").count() == 2)
    assert why(watched, "side") == "changed by you" and page.locator("mark").count() == 3  # they are still the note's
    page.select_option("#f-side", "left")
    assert why(watched, "side") == "2 sentences"
    page.click("#edit")
    assert page.input_value("#note") == NOTE and page.evaluate("() => document.activeElement.id") == "note"
    page.click("#edit")
    assert page.is_visible("#note-view") and page.locator("mark").count() == 3
    (config.data_folder / "other.nii.gz").write_bytes((config.data_folder / "ct.nii.gz").read_bytes())
    page.set_input_files("#ct", str(config.data_folder / "other.nii.gz"))
    assert page.is_visible("#note") and page.locator("mark").count() == 0 and not page.is_visible("#edit")


@pytest.mark.parametrize("evidence", [None, []], ids=["an older endpoint", "nothing found"])
def test_without_sentences(watched: Watched, config: ServeConfig, evidence: list[dict[str, Any]] | None) -> None:
    say(watched, evidence)
    ask(watched, config)
    wanted = "not found in the note" if evidence == [] else ""
    fields = ("side", "surgery", "volume", "levels", "boost", "dose", "technique", "guideline")
    assert {why(watched, field) for field in fields} == {wanted}
    assert watched.page.locator("mark").count() == 0 and not watched.page.is_visible("#plan-hint")
    assert watched.page.locator("#note-view").inner_text().split() == NOTE.split()


def test_pointers_that_fit_nothing_are_left_out(watched: Watched, config: ServeConfig) -> None:
    length = len(NOTE)
    odd = [
        {"field": "mood", "start": 0, "end": 5}, {"field": "side", "start": 5, "end": length + 1},
        {"field": "side", "start": 9, "end": 9}, {"field": "side", "start": -4, "end": 3},
    ]  # fmt: skip
    overlapping = pointers(("side", "Links: brust"), ("surgery", "brusterhaltend operiert."))
    say(watched, [*odd, *overlapping])
    ask(watched, config)
    marks = watched.page.locator("mark")
    assert marks.all_text_contents() == ["Links: ", "brust", "erhaltend operiert."]
    assert marks.nth(1).get_attribute("title") == "Supports: Side, Surgery"
    assert watched.errors == []


def test_a_plan_without_a_target_shows_its_reasons(
    watched: Watched, config: ServeConfig, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.serve.conftest.PLAN", NO_TARGET)
    page = watched.page
    say(watched, pointers(("volume", "Nothing else.")))
    ask(watched, config)
    assert page.text_content("#message") == "The plan has no target."
    assert page.locator("#f-volume option:checked").inner_text() == "no target" and page.is_disabled("#f-volume")
    assert page.text_content("[data-field=dose] .value") == "none" and not page.is_visible("#again")
    page.locator("[data-field=volume] .why button").focus()
    assert lit(watched) == (["Nothing else."], ["volume"])


def test_marked_text_keeps_its_contrast(watched: Watched, config: ServeConfig) -> None:
    page = watched.page
    say(watched, FOUND)
    ask(watched, config)
    page.hover("mark >> nth=1")
    behind = (
        "node => { while (getComputedStyle(node).backgroundColor === 'rgba(0, 0, 0, 0)') node = node.parentElement;"
        " return getComputedStyle(node).backgroundColor; }"
    )
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        for place in (
            "mark >> nth=0",
            "mark.lit",
            ".field.lit",
            ".field.lit label",
            ".why.missing >> nth=0",
            ".synthetic",
        ):
            element = page.locator(place).first
            ink, paper = element.evaluate("node => getComputedStyle(node).color"), element.evaluate(behind)
            assert contrast(paper, ink) > 4.5, (scheme, place)
