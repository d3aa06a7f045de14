"""What the smallest cohort holds: its cases, parts and readers, and what card and description say of it."""

from __future__ import annotations

import nibabel
import numpy as np

from rollama.cohort.config import VARIANTS, CohortConfig
from rollama.cohort.describe import describe_cohort, plan_frequencies, target_volumes
from rollama.cohort.make import cohort_digest
from rollama.core.files import hash_file
from rollama.data.case import Case, Split
from rollama.data.dataset import Dataset, content_hash
from rollama.data.parts import Part, parts_of, parts_path, read_labels, read_parts, readers_path
from rollama.data.volumes import read_ct

XS = CohortConfig(size="xs")


def test_open_dataset_accepts_it(xs: Dataset) -> None:
    assert len(xs.cases) == XS.cases == 50
    assert xs.info.synthetic
    assert xs.info.label == "CTV"
    assert "SYNTHETIC" in xs.info.notice
    assert xs.info.external_centres == ("lakeside",)
    assert xs.info.content_hash == content_hash(xs.root, xs.info.centres)
    assert xs.info.generator["config_hash"] == cohort_digest(XS)
    for case in xs.cases:
        assert case.plan is not None
        assert case.evidence
        assert (case.split in (Split.EXTERNAL, Split.COUNTERFACTUAL)) == (case.centre == "lakeside")
        assert case.provenance["synthetic"] is True
        assert bool(case.provenance["combination"]) >= (case.split is Split.COMBINATION)
    for split, count in ((Split.TRAIN, 24), (Split.COMBINATION, 4), (Split.COUNTERFACTUAL, VARIANTS)):
        assert len(xs.select(split)) == count


def test_every_case_has_readers_and_parts_of_its_plan(xs: Dataset) -> None:
    for case in xs.cases:
        ct = read_ct(case.image)
        readers = read_labels(readers_path(case), ct)
        assert readers.max() <= 7
        assert case.plan is not None
        assert bool(readers.any()) == case.plan.has_target
        found = read_parts(case, ct)
        assert set(found) <= set(parts_of(case.plan))
        if case.plan.volume is not None:
            assert found.keys() & {Part.BREAST, Part.CHEST_WALL}


def labels_of(case: Case) -> tuple[np.ndarray, np.ndarray]:
    target = np.asanyarray(nibabel.load(case.target).dataobj) > 0
    return target, read_labels(parts_path(case), read_ct(case.image)) > 0


def test_only_one_centre_s_training_contours_are_a_reader_s(xs: Dataset) -> None:
    differing = 0
    for case in xs.cases:
        target, parts = labels_of(case)
        if case.centre == "hillcrest" and case.split is Split.TRAIN:
            assert case.provenance["label"] == "one reader"
            differing += bool((target != parts).any())
        else:
            assert case.provenance["label"] == "exact"
            assert (target == parts).all(), case.case_id
    treated = [case for case in xs.select(Split.TRAIN, centre="hillcrest") if case.plan and case.plan.has_target]
    assert differing == len(treated) > 0


def test_counterfactual_cases_have_the_very_ct_of_their_external_case(xs: Dataset) -> None:
    by_name = {case.case_id: case for case in xs.cases}
    others = xs.select(Split.COUNTERFACTUAL)
    assert len(others) == VARIANTS
    for case in others:
        model = by_name[str(case.provenance["scan_of"])]
        assert model.split is Split.EXTERNAL
        assert case.image.read_bytes() == model.image.read_bytes()
        assert case.plan_text != model.plan_text
    images = [hash_file(case.image) for case in xs.cases if case.split is not Split.COUNTERFACTUAL]
    assert len(set(images)) == len(images)


def test_the_card_says_what_it_is(xs: Dataset) -> None:
    card = (xs.root / "dataset_card.md").read_text(encoding="utf-8")
    for needed in (
        "SYNTHETIC", "RESEARCH USE ONLY", xs.info.content_hash, cohort_digest(XS), "CTV", "AMAROS", "Limits",
        "Not treatment advice", "counterfactual", "combination", "readers/", "parts/", "ESTRO", "RTOG",
        "lakeside (unseen in training)", "training: one reader, 2.5 mm", "RAS+", "cohort convention",
    ):  # fmt: skip
        assert needed in card, needed
    for centre in xs.info.centres:
        assert f"| {centre}" in card
    header, *rest = (line for line in card.splitlines() if line.startswith("| centre") or line.startswith("|---|"))
    row = next(line for line in card.splitlines() if line.startswith("| northgate"))
    assert header.count("|") == rest[0].count("|") == row.count("|")


def test_description_counts(xs: Dataset) -> None:
    rows = describe_cohort(xs)
    assert len({tuple(row) for row in rows}) == 1
    assert rows[-1]["cases"] == str(XS.cases)
    assert sum(int(row["cases"]) for row in rows[:-1]) == XS.cases
    assert sum(count for _, count in plan_frequencies(xs.cases)) == XS.cases
    empty = [case.plan is not None and not case.plan.has_target for case in xs.cases]
    assert (target_volumes(xs.cases) == 0).tolist() == empty
