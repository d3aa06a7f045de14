"""Parts of finished cohorts: the plan's own are its target, and every other plan's target is in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rollama.cli.cohort import make_once
from rollama.cli.train import default_dataset
from rollama.cohort.config import CohortConfig
from rollama.cohort.make import is_made, make_cohort
from rollama.cohort.regions import UNFINISHED, half_placed, write_regions
from rollama.core.errors import DataError
from rollama.core.files import read_json, write_json
from rollama.core.registry import Site
from rollama.data.case import Split
from rollama.data.dataset import open_dataset
from rollama.data.intake import check_cases
from rollama.data.parts import read_labels
from rollama.data.plan import Guideline, Level
from rollama.data.regions import regions_path, target_in
from rollama.data.volumes import read_ct, read_mask
from rollama.evaluation.answers import Answers
from rollama.presets import load_preset

SMALL = CohortConfig(train=2, validation=0, test=0, external=1, grid=(40, 32, 24), spacing=(12.5, 12.5, 12.0))


def test_the_parts_of_a_cohort(tmp_path: Path) -> None:
    root = tmp_path / "cohort"
    before = make_cohort(root, SMALL).content_hash
    steps: list[tuple[int, int]] = []
    made = write_regions(root, lambda done, total: steps.append((done, total)))
    data = open_dataset(root)
    cases = [case for case in data.select(Split.TRAIN) if case.plan is not None and case.plan.has_target]
    assert made == len(cases) and steps[-1] == (made, made)
    assert is_made(root, SMALL) and data.info.content_hash != before
    first, second = data.info.origins
    assert (first.kind, first.data, first.recipe) == ("cohort", before, data.info.generator["config_hash"])
    assert (second.kind, second.data, second.extends) == ("regions", data.info.content_hash, before)
    assert not list(root.glob("lakeside/regions/*/*external*"))  # held-out cases have none
    assert check_cases(data.cases) == {}
    answers = Answers(SMALL)
    exact = 0
    for case in cases:
        assert case.plan is not None
        ct = read_ct(case.image)
        plans = [
            case.plan.model_copy(update={"guideline": g, "levels": ls}) for g in Guideline for ls in (tuple(Level), ())
        ]
        for plan in (case.plan, *plans):
            bits = read_labels(regions_path(case, plan.guideline or Guideline.ESTRO), ct)
            assert np.array_equal(target_in(bits, plan), answers.target(case, plan)), plan
        if case.provenance["label"] == "exact":
            exact += 1
            bits = read_labels(regions_path(case, case.plan.guideline or Guideline.ESTRO), ct)
            assert np.array_equal(target_in(bits, case.plan), read_mask(case.target, ct) != 0)
    assert exact
    lost = regions_path(cases[0], Guideline.RTOG)
    content = lost.read_bytes()
    lost.unlink()
    assert write_regions(root) == 1 and lost.read_bytes() == content
    assert write_regions(root) == 0


def test_an_interrupted_drawing_leaves_the_cohort_whole_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "cohort"
    make_cohort(root, SMALL)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_regions(root, stop)
    assert is_made(root, SMALL) and (root / UNFINISHED).is_dir() and not list(root.glob("*/regions"))
    assert not half_placed(root)
    make_once(root, SMALL)  # who asks for no parts gets none
    assert not list(root.glob("*/regions"))
    moved = Path.replace

    def killed(path: Path, goal: Path) -> Path:
        if UNFINISHED in path.parts and list(root.glob("*/regions/*/*.nii.gz")):
            raise KeyboardInterrupt
        return moved(path, goal)

    steps: list[int] = []
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "replace", killed)
        write_regions(root, lambda done, total: steps.append(done))
    assert steps[0] == 3  # the first two were kept
    with pytest.raises(DataError, match="files differ"):
        is_made(root, SMALL)
    make_once(root, SMALL)  # sees that it was under way, and ends it
    assert is_made(root, SMALL) and not (root / UNFINISHED).exists() and write_regions(root) == 0


def test_who_trains_on_other_plans_gets_the_parts_with_the_cohort(tmp_path: Path) -> None:
    chosen = load_preset("tiny", ["segmentation.plan_edits=0.5", "cohort.train=1"])
    assert chosen.needs_parts and not load_preset("tiny").needs_parts
    folder = default_dataset(tmp_path, chosen)
    assert isinstance(folder, Path) and write_regions(folder) == 0 and list(folder.glob("*/regions/ESTRO/*.nii.gz"))
    assert default_dataset(tmp_path, chosen) == folder


def test_only_breast_cohorts_of_ours_have_parts(tmp_path: Path) -> None:
    root = tmp_path / "cohort"
    make_cohort(
        root,
        CohortConfig(
            site=Site.PROSTATE, train=1, validation=0, test=0, external=1, grid=SMALL.grid, spacing=SMALL.spacing
        ),
    )
    with pytest.raises(DataError, match="site prostate"):
        write_regions(root)
    record = read_json(root / "dataset.json")
    write_json(root / "dataset.json", {**record, "generator": {}})
    with pytest.raises(DataError, match="did not make this data set"):
        write_regions(root)
