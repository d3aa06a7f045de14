"""The leakage checks find an id, a file size or an image that tells the side, and find nothing in the cohort itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from rollama.cohort.leakage import Check, asymmetry, check_leakage
from rollama.data.case import Case
from rollama.data.dataset import Dataset
from rollama.data.plan import Side

SHUFFLES = 19


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollama.cohort.leakage.TREES", 5)
    monkeypatch.setattr("rollama.cohort.leakage.SHUFFLES", SHUFFLES)


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Reduce the checks to the side's from one hint, which is what takes the time."""

    def choose(hint: str) -> None:
        from rollama.cohort import leakage

        whole = leakage._check

        def check(answer: str, name: str, *rest: object) -> Check:
            if (answer, name) == ("side", hint):
                return whole(answer, name, *rest)  # type: ignore[arg-type]
            return Check(answer, name, 0, 0.0, 0.0, 0.0, 1.0, False)

        monkeypatch.setattr(leakage, "_check", check)

    return choose


def with_ids(dataset: Dataset, name: Callable[[int, Case], str]) -> Dataset:
    """The data set under other case ids, in their order, each case with a body of its own."""
    cases = [
        case.updated(case_id=name(place, case), provenance={**case.provenance, "anatomy_of": f"body-{place}"})
        for place, case in enumerate(dataset.cases)
    ]
    return replace(dataset, cases=tuple(sorted(cases, key=lambda case: case.case_id)))


def found(dataset: Dataset, hint: str) -> Check:
    (check,) = [check for check in check_leakage(dataset) if (check.answer, check.hint) == ("side", hint)]
    assert check.must_fail
    return check


def is_left(case: Case) -> bool:
    assert case.plan is not None
    return case.plan.side is Side.LEFT


def test_ids_that_go_by_side_are_found(xs: Dataset, only: Callable[[str], None]) -> None:
    only("case id and order")
    sorted_by_side = with_ids(xs, lambda place, case: f"case-{place + 500 * is_left(case):04d}")
    check = found(sorted_by_side, "case id and order")
    assert check.accuracy > 0.9
    assert check.p == pytest.approx(1 / (1 + SHUFFLES))
    assert check.shuffled < 0.7
    assert check.leaks


def test_ids_whose_parity_is_the_side_are_found(xs: Dataset, only: Callable[[str], None]) -> None:
    only("case id and order")
    check = found(with_ids(xs, lambda place, case: f"case-{2 * place + is_left(case):04d}"), "case id and order")
    assert check.accuracy > check.shuffled + 0.2
    assert check.leaks
    assert check.p == pytest.approx(1 / (1 + SHUFFLES))


def test_ids_that_tell_nothing_are_not_flagged(xs: Dataset, only: Callable[[str], None]) -> None:
    only("case id and order")
    check = found(xs, "case id and order")
    assert check.cases == len(xs.cases)
    assert check.p > 1 / (1 + SHUFFLES)
    assert not check.leaks


def test_file_sizes_that_go_by_side_are_found(xs: Dataset, only: Callable[[str], None], tmp_path: Path) -> None:
    only("size of the CT's file")
    cases = []
    for place, case in enumerate(xs.cases):
        image = tmp_path / f"{place}.nii.gz"
        image.write_bytes(case.image.read_bytes() + b"\0" * (200_000 * is_left(case)))
        cases.append(case.updated(image=image))
    check = found(replace(xs, cases=tuple(cases)), "size of the CT's file")
    assert check.p == pytest.approx(1 / (1 + SHUFFLES))
    assert check.leaks
    assert not found(xs, "size of the CT's file").leaks


def test_a_ct_that_is_brighter_on_the_treated_side_is_found(
    xs: Dataset, only: Callable[[str], None], tmp_path: Path
) -> None:
    only("CT, nothing to be seen")
    cases = []
    for place, case in enumerate(xs.cases):
        image = nibabel.load(case.image)
        hu = np.asanyarray(image.dataobj).copy()
        half = hu.shape[0] // 2
        hu[:half] += 200 * is_left(case)  # index 0 of x is the patient's leftmost voxel
        hu[half:] += 200 * (not is_left(case))
        path = tmp_path / f"{place}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(hu, image.affine), path)
        cases.append(case.updated(image=path))
    marked = found(replace(xs, cases=tuple(cases)), "CT, nothing to be seen")
    assert marked.accuracy > 0.9
    assert marked.leaks
    assert marked.p == pytest.approx(1 / (1 + SHUFFLES))
    plain = found(xs, "CT, nothing to be seen")
    assert plain.cases == sum(case.provenance["cues"] == "none" for case in xs.cases)
    assert not plain.leaks


def test_asymmetry_changes_sign_when_the_image_is_mirrored(xs: Dataset, tmp_path: Path) -> None:
    case = xs.cases[0]
    image = nibabel.load(case.image)
    path = tmp_path / "mirrored.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(image.dataobj)[::-1], image.affine), path)
    straight, mirrored = asymmetry(case), asymmetry(case.updated(image=path))
    assert straight.shape == (6 * 8 * 6,)
    assert np.abs(straight).max() > 20
    if image.shape[0] % 12 == 0:
        assert np.allclose(straight, -mirrored)
    else:
        assert np.corrcoef(straight, mirrored)[0, 1] < -0.3


def test_all_checks_are_made_and_the_known_ones_are_marked(xs: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollama.cohort.leakage.SHUFFLES", 1)
    monkeypatch.setattr("rollama.cohort.leakage.TREES", 2)
    seen: list[int] = []
    checks = check_leakage(xs, lambda done, total: seen.append(done))
    assert seen == list(range(1, len(xs.cases) + 1))
    assert len(checks) == len({(check.answer, check.hint) for check in checks}) == 10
    assert {check.answer for check in checks} == {"side", "volume", "nodes"}
    known = {(check.answer, check.hint) for check in checks if not check.must_fail}
    assert known == {("side", "CT, all patients"), ("volume", "centre"), ("nodes", "centre")}
    assert all(0 <= check.accuracy <= 1 and 0 < check.p <= 1 for check in checks)


def test_a_hint_leaks_only_far_above_chance_and_only_where_it_must_tell_nothing() -> None:
    check = Check("side", "centre", 100, accuracy=0.8, shuffled=0.5, spread=0.05, p=0.01, must_fail=True)
    assert check.leaks
    assert not replace(check, must_fail=False).leaks
    assert not replace(check, accuracy=0.55).leaks
    assert not replace(check, spread=0.2).leaks


def test_too_few_cases_are_not_judged(xs: Dataset) -> None:
    assert check_leakage(replace(xs, cases=xs.cases[:10])) == []
