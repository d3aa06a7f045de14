"""Model card, bill of materials, data manifest and page: what they say, and that they carry their labels."""

import json
import re

import pytest

from rollama import RESEARCH_ONLY
from rollama.release.documents import data_manifest, model_card
from rollama.release.page import render_page
from rollama.release.sbom import make_sbom
from rollama.release.verdict import Outcome
from tests.release.desk import Place
from tests.release.tables import draw

MANIFEST = {"config": {"method": "ceseg", "encoder": "smollm2"}, "config_hash": "c" * 64, "revision": "abc",
            "encoder": {"name": "smollm2", "weights_hash": "b" * 64}}  # fmt: skip
MANIFESTS = dict.fromkeys(("s", "p", "seg"), MANIFEST)


@pytest.fixture(scope="module")
def verdict(tmp_path_factory):
    from rollama.release.promotion import promote

    place = Place(tmp_path_factory.mktemp("place"))
    promote(place.desk(), place.case("old"), place.key())
    trained = {name: ["d" * 64] for name in ("s", "p", "seg")}
    return place.case("new", draw(0.05, west=-0.05), trained_on=trained).verdict


def test_the_card_names_models_data_protocol_and_every_figure(verdict):
    card = model_card(verdict, MANIFESTS, ["a person (0123)"]).decode()
    assert RESEARCH_ONLY in card and "SYNTHETIC DATA" in card and "a person" in card
    assert "Protocol toy version 1" in card and "120 held-out cases" in card
    assert card.count("\n| seg.dice | ") == 6 and "| west | 40 |" in card and "refused: worse by more" in card


def test_the_bill_of_materials_is_cyclonedx_with_models_data_and_packages(verdict):
    hashes = dict.fromkeys(("s", "p", "seg"), 64 * "1")
    bom = json.loads(make_sbom(verdict.candidate, MANIFESTS, hashes, {"d" * 64: "training data of s"}))
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    kinds = {item["type"] for item in bom["components"]}
    assert kinds == {"library", "machine-learning-model", "data"}
    models = {item["name"]: item for item in bom["components"] if item["type"] == "machine-learning-model"}
    assert models["rollama-seg"]["hashes"] == [{"alg": "SHA-256", "content": 64 * "1"}]
    assert {"name": "rollama:digest", "value": verdict.candidate.digests["seg"]} in models["rollama-seg"]["properties"]
    assert any(item.get("purl", "").startswith("pkg:pypi/numpy@") for item in bom["components"])
    assert bom["metadata"]["component"]["properties"][0]["value"] == verdict.candidate.release


def test_the_data_manifest_lists_training_and_evaluation_by_hash(verdict):
    found = json.loads(data_manifest(verdict, MANIFESTS))
    assert found["training"]["p"]["content_hashes"] == ["d" * 64] and found["evaluation"]["hash"] == "e" * 64
    assert found["synthetic"] is True and found["notice"] == RESEARCH_ONLY


def test_the_page_is_one_file_with_verdict_labels_and_figure(verdict):
    page = render_page(verdict).decode()
    assert "Refused: this candidate may not be released." in page
    assert RESEARCH_ONLY in page and "SYNTHETIC DATA" in page
    assert page.count("data:image/png;base64,") == 1
    assert not re.search(r'(src|href)="(?!data:)', page) and "<script" not in page
    against = page[page.index("What stands against it") : page.index("Differences and margins")]
    assert against.count("<li>") == 2 and "seg.dice, west (n = 40): -0.0" in against


def test_a_first_release_has_a_page_without_a_figure(verdict):
    told = [item.updated(value=None) for item in verdict.findings if item.kind == "non-inferiority"][:1]
    first = verdict.updated(findings=told, replaces=None, outcome=Outcome.PASSED)
    page = render_page(first, ["<script>alert(1)</script>"]).decode()
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "the first release" in page and "data:image/png" not in page
