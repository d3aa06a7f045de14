"""The four answers, on notes and plans of the synthetic cohort and on made-up scans."""

from __future__ import annotations

import pytest

from rollama.data.case import Split
from rollama.data.plan import Surgery
from rollama.data.profile import ALL, Profile
from rollama.monitoring.compare import Answer, Finding, compare, overall
from tests.monitoring.cohort import cases, profiles


@pytest.fixture(scope="module")
def trained() -> dict[str, Profile]:
    """Two centres, 120 patients each."""
    return profiles(
        [case for centre in ("northgate", "riverside") for case in cases(centre, Split.TRAIN, range(120))], rounded=True
    )


def answers(findings: list[Finding], centre: str) -> dict[str, Answer]:
    return {item.feature: item.answer for item in findings if item.centre == centre}


def test_other_patients_of_a_known_centre_have_not_drifted(trained: dict[str, Profile]) -> None:
    found = compare(trained, profiles(cases("northgate", Split.TRAIN, range(120, 200))))
    assert {item.reference for item in found} == {"northgate"}
    assert Answer.DRIFT not in answers(found, "northgate").values() and overall(found) is Answer.NONE
    assert list(answers(found, "northgate").values()).count(Answer.NONE) > 10
    assert {item.role for item in found if item.feature == "summary_words"} == {"input", "output"}


def test_a_centre_that_writes_otherwise_is_noticed_by_its_notes(trained: dict[str, Profile]) -> None:
    found = compare(trained, profiles(cases("lakeside", Split.EXTERNAL, range(60))))
    assert {item.reference for item in found} == {ALL}
    told = answers(found, "lakeside")
    assert told["note_letters"] is Answer.DRIFT and told["note_sentence_words"] is Answer.DRIFT
    assert {told[name] for name in ("plan_side", "plan_imn", "plan_form")} == {Answer.NONE}
    assert overall(found) is Answer.DRIFT


def test_another_mix_of_plans_is_noticed_in_the_plans_and_not_in_the_notes(trained: dict[str, Profile]) -> None:
    removed = cases("northgate", Split.TRAIN, range(120, 400), lambda plan: plan.surgery is Surgery.MASTECTOMY)[:60]
    told = answers(compare(trained, profiles(removed)), "northgate")
    assert told["plan_surgery"] is told["plan_volume"] is Answer.DRIFT
    assert Answer.DRIFT not in {told[name] for name in told if name.startswith("note_")} | {told["plan_side"]}
    (row,) = (item for item in compare(trained, profiles(removed)) if item.feature == "plan_surgery")
    assert row.moved.startswith("mastectomy ") and row.moved.split()[3:5] == ["100", "%,"] and row.psi > 1


def test_few_cases_of_a_known_centre_say_nothing(trained: dict[str, Profile]) -> None:
    found = compare(trained, profiles(cases("northgate", Split.TRAIN, range(120, 128))))
    assert set(answers(found, "northgate").values()) == {Answer.TOO_FEW} and overall(found) is Answer.TOO_FEW


def test_a_small_change_that_many_cases_show_is_not_called_drift() -> None:
    before, after = ({"p": Profile({"c": {"plan_side": {"left": n, "right": 4000 - n}}})} for n in (2000, 2300))
    (row,) = compare(before, after)
    assert row.answer is Answer.SMALL and row.chance < 0.01 and row.distance < 0.2
    (strict,) = compare(before, after, threshold=0.03)
    assert strict.answer is Answer.DRIFT


def test_a_scanner_never_seen_needs_few_cases() -> None:
    before = {"seg": Profile({ALL: {"ct_pixel_mm": {"0.95..1.05": 200}, "ct_slice_mm": {"2.8..3.5": 200}}})}
    after = {"seg": Profile({"new": {"ct_pixel_mm": {"1.15..1.25": 5}, "ct_slice_mm": {"2.8..3.5": 5}}})}
    assert answers(compare(before, after), "new") == {"ct_pixel_mm": Answer.DRIFT, "ct_slice_mm": Answer.TOO_FEW}
    four = {"seg": Profile({"new": {"ct_pixel_mm": {"1.15..1.25": 4}}})}
    assert answers(compare(before, four), "new") == {"ct_pixel_mm": Answer.TOO_FEW}, "somebody's trials"


def test_several_centres_are_also_judged_together_and_answers_repeat(trained: dict[str, Profile]) -> None:
    two = [case for centre in ("northgate", "riverside") for case in cases(centre, Split.TRAIN, range(120, 165))]
    found = compare(trained, profiles(two))
    assert [item.centre for item in found[:1]] == ["northgate"] and found[-1].centre == ALL
    assert {item.n for item in found if item.centre == ALL} == {90}
    assert found == compare(trained, profiles(two))


def test_what_one_side_does_not_know_is_not_compared(trained: dict[str, Profile]) -> None:
    seen = profiles(cases("northgate", Split.TRAIN, range(120, 130)))
    assert compare({"seg": Profile()}, seen) == [] and compare({"p": Profile()}, seen) == []
    assert {item.model for item in compare(trained, {"p": seen["p"]})} == {"p"}
