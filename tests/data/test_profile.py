"""Counts of what a model was trained on: right, rounded so that no patient is told, refused when of another version."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from rollama.core.errors import DataError
from rollama.data.case import Case, Split, TextCase
from rollama.data.plan import parse_plan
from rollama.data.profile import ALL, CELL, Profile, parse_profile, profile_in, profile_of

PLAN = (
    "Side: left. Surgery: breast-conserving. Volumes: whole breast. Nodes: none. Boost: none. "
    "Prescription: 40.05 Gy in 15 fractions. Technique: VMAT."
)


def text_case(
    number: int, centre: str = "north", note: str = "SECRET note of a patient", side: str = "left"
) -> TextCase:
    text = PLAN.replace("left", side)
    return TextCase(
        case_id=f"{centre}-{number}", centre=centre, split=Split.TRAIN, note=note, summary="short SECRET",
        plan_text=text, plan=parse_plan(text),
    )  # fmt: skip


def test_counts_by_centre_and_of_all() -> None:
    cases = [text_case(n, side="left" if n < 7 else "right") for n in range(10)] + [text_case(0, "south")]
    profile = profile_of(cases, "p")
    assert profile.counts("north", "plan_side") == [7, 3] and profile.counts(ALL, "plan_side") == [8, 3]
    assert sum(profile.counts("north", "summary_words")) == 10
    assert not any(profile.counts("north", "note_words")), "P does not read notes"
    assert not any(profile_of(cases, "s").counts("north", "plan_side"))


def test_what_leaves_is_rounded_and_holds_no_text() -> None:
    cases = [text_case(n, side="left" if n < 11 else "right") for n in range(13)] + [text_case(0, "tiny")]
    told = profile_of(cases, "p").as_dict()
    assert told["centres"]["north"]["plan_side"] == {"left": 10}, "two patients are told as none"
    assert "tiny" not in told["centres"], "a centre of one patient is told only in the sum"
    for features in told["centres"].values():
        assert all(count % CELL == 0 and count for bins in features.values() for count in bins.values())
    assert "SECRET" not in str(told)
    assert parse_profile(told, "x").as_dict() == told


def test_no_case_more_or_less_can_be_seen_in_a_cell() -> None:
    """Every count that is told stands for at least three true ones."""
    told = {n: Profile({"c": {"plan_side": {"left": n}}}).as_dict()["centres"].get("c", {}) for n in range(43)}
    for value in {str(item) for item in told.values()}:
        assert sum(str(item) == value for item in told.values()) >= 3


def test_a_ct_and_its_target_are_counted(tmp_path: Path) -> None:
    cases = []
    for n in range(3):
        mask = np.zeros((60, 50, 20), np.uint8)
        ct = np.full(mask.shape, -1000, np.int16)
        ct[5:-5, 5:-5] = 30
        mask[:40, :40, :10] = 1  # 40 x 40 x 10 voxels of 5 x 5 x 5 mm: 2000 cc
        for name, array in (("ct", ct), ("mask", mask)):
            nibabel.save(nibabel.Nifti1Image(array, np.diag([5.0, 5.0, 5.0, 1.0])), tmp_path / f"{name}{n}.nii.gz")
        cases.append(
            Case(
                **dict(text_case(n)), image=tmp_path / f"ct{n}.nii.gz", target=tmp_path / f"mask{n}.nii.gz",
                spacing=(5.0, 5.0, 5.0),
            )
        )  # fmt: skip
    profile = profile_of(cases, "seg")
    assert profile.centres["north"]["target_cc"] == {">=2000": 3}
    assert profile.centres["north"]["ct_slice_mm"] == {"4.5..5.5": 3}
    some = profile_of(cases, "seg", most_cts=2)
    assert some.centres["north"]["ct_slice_mm"] == {"4.5..5.5": 2} and some.counts("north", "plan_side") == [3, 0]


def test_reference_is_a_centre_s_own_past_or_all() -> None:
    profile = profile_of([text_case(n) for n in range(10)], "p")
    assert profile.reference("north", "plan_side") == ("north", [10, 0])
    assert profile.reference("elsewhere", "plan_side") == (ALL, [10, 0])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "no table of counts"),
        ({"version": 0, "centres": {}}, "bins of version 0, this rollama counts in version 1"),
        ({"version": 1, "centres": {"a": {"plan_side": {"up": 5}}}}, "no bin 'up' of 'plan_side'"),
        ({"version": 1, "centres": {"a": {"age": {"50": 5}}}}, "no bin '50' of 'age'"),
        ({"version": 1, "centres": {"a": {"plan_side": {"left": -5}}}}, "whole numbers"),
    ],
)
def test_what_is_no_profile_is_refused(values: object, said: str) -> None:
    with pytest.raises(DataError, match=f"m.json: .*{said}"):
        parse_profile(values, "m.json")


def test_a_model_from_before_there_were_profiles_has_none() -> None:
    assert profile_in({"kind": "segmentation"}, "m.json") is None
