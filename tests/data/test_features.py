"""A case's bins: fixed, the same however a CT is stored, and nothing of a text but its form."""

from __future__ import annotations

import numpy as np
import pytest

from rollama.data.features import FEATURES, SEES, ct_bins, note_bins, plan_bins, summary_bins, target_bins
from rollama.data.plan import parse_plan
from rollama.data.volumes import Volume

PLAN = (
    "Side: left. Surgery: breast-conserving. Volumes: whole breast. Nodes: L1, L2, IMN. Boost: sequential 10 Gy in "
    "5 fractions. Prescription: 40.05 Gy in 15 fractions. Technique: VMAT. Guideline: ESTRO."
)
NONE = "Side: right. Surgery: mastectomy. Volumes: none. Nodes: none. Boost: none. Prescription: none. Technique: none."


def scan(spacing: tuple[float, float, float] = (1.0, 1.0, 3.0), fat: float = -102.0, noise: float = 10.0) -> Volume:
    """A cylinder of fat, 360 mm wide, in air."""
    shape = [round(mm / step) for mm, step in zip((500, 400, 240), spacing, strict=True)]
    x, y = ((np.arange(n) - n / 2) * step for n, step in zip(shape[:2], spacing[:2], strict=True))
    inside = (x[:, None] / 180) ** 2 + (y[None] / 120) ** 2 < 1
    array = np.full(shape, -1000.0, np.float32)
    array[inside] = fat + np.random.default_rng(0).normal(0, noise, array[inside].shape)
    return Volume(array, np.diag([*spacing, 1.0]))


def test_every_number_falls_into_one_bin_and_names_are_unique() -> None:
    for feature in FEATURES.values():
        assert len(set(feature.bins)) == len(feature.bins) > 1
        if feature.edges:
            assert list(feature.edges) == sorted(feature.edges) and len(feature.bins) == len(feature.edges) + 1
            assert feature.bin(feature.edges[0]) == feature.bins[1], "an edge belongs to the bin that it begins"
            assert feature.bin(-1e9) == feature.bins[0] and feature.bin(1e9) == feature.bins[-1]
    assert {item.name for sides in SEES.values() for side in sides for item in side} == set(FEATURES)


def test_a_scanner_is_known_by_what_it_does() -> None:
    assert ct_bins(scan()) == {
        "ct_pixel_mm": "0.95..1.05", "ct_slice_mm": "2.8..3.5", "ct_field_mm": "495..525", "ct_length_mm": "200..250",
        "ct_body_mm": "340..370", "ct_fat_hu": "-105..-100", "ct_noise_hu": "9..12",
    }  # fmt: skip
    other = ct_bins(scan((1.2, 1.2, 5.0), fat=-88.0, noise=25.0))
    assert (other["ct_pixel_mm"], other["ct_slice_mm"]) == ("1.15..1.25", "4.5..5.5")
    assert (other["ct_fat_hu"], other["ct_noise_hu"]) == ("-90..-85", "21..28")


def test_bins_do_not_depend_on_how_a_ct_is_stored() -> None:
    ct = scan()
    turned = np.ascontiguousarray(np.moveaxis(ct.array, 2, 0)[:, ::-1])
    affine = np.zeros((4, 4))
    affine[0, 1], affine[1, 2], affine[2, 0], affine[3, 3] = -1.0, 1.0, 3.0, 1.0
    assert ct_bins(Volume(turned, affine)) == ct_bins(ct)


def test_a_scan_of_air_lacks_what_it_does_not_show() -> None:
    assert set(ct_bins(Volume(np.full((9, 9, 9), -1000, np.float32), np.eye(4)))) == {
        "ct_pixel_mm", "ct_slice_mm", "ct_field_mm", "ct_length_mm"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PLAN, {"plan_side": "left", "plan_levels": "3-4", "plan_imn": "yes", "plan_boost": "sequential",
                "plan_fractions": "10-19", "plan_volume": "whole breast", "plan_guideline": "ESTRO"}),
        (NONE, {"plan_side": "right", "plan_levels": "none", "plan_imn": "no", "plan_fractions": "none",
                "plan_technique": "none", "plan_volume": "none", "plan_surgery": "mastectomy"}),
    ],
)  # fmt: skip
def test_a_plan_s_bins(text: str, expected: dict[str, str]) -> None:
    found = plan_bins(parse_plan(text))
    assert expected.items() <= found.items() and found["plan_form"] == "parsed"
    for name, kind in found.items():
        assert kind in FEATURES[name].bins
    assert plan_bins(None) == {"plan_form": "free"}


def test_fractions_and_levels_at_the_ends_of_their_bins() -> None:
    plan = parse_plan(PLAN)
    for fractions, kind in ((1, "1-9"), (9, "1-9"), (10, "10-19"), (29, "20-29"), (30, "30-50"), (50, "30-50")):
        assert plan.dose is not None
        changed = plan.updated(dose=plan.dose.updated(fractions=fractions))
        assert plan_bins(changed)["plan_fractions"] == kind


def test_a_note_s_form_tells_a_letter_from_a_form_and_no_word_of_it() -> None:
    letter = note_bins(
        "Thank you for asking us to see this patient with a tumour of her left breast, which was excised."
    )
    form = note_bins("Pt: F, 63 y.\nSurgery: BCS.\nER pos / HER2 neg.\npT1, LN 0/2.\nRM: 0.5 mm.")
    assert set(letter) == set(form) == {item.name for item in SEES["s"][0]}
    assert letter["note_marks"] == "<2" and form["note_marks"] == "20..30"
    assert letter["note_line_words"] == "15..25" and form["note_line_words"] == "<4"
    assert letter["note_capitals"] == "<2" and form["note_capitals"] == "20..30"
    assert note_bins(" \n") == summary_bins("") == {}
    assert summary_bins("left pT1 N0") == {"summary_words": "<10"}


def test_an_empty_target_has_a_bin_of_its_own() -> None:
    assert target_bins(0.0) == {"target_cc": "<0.5"} and target_bins(640.0) == {"target_cc": "550..750"}
