"""The counterfactual scores of models that are known to obey, to ignore and to half obey their plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from rollama.core.errors import DataError
from rollama.data.case import Case, Split
from rollama.data.plan import Dose, Guideline, Level, Plan, Side, Surgery, Technique, Volume, parse_plan, render_plan
from rollama.data.volumes import Volume as Ct
from rollama.evaluation.answers import Answers
from rollama.evaluation.cache import MaskCache
from rollama.evaluation.counterfactual import ALL_EDITS, METRICS, TASK, draw_edits, edit_scores, evaluate_counterfactual
from rollama.evaluation.edits import MATTERS
from rollama.evaluation.report import headline_rows
from rollama.evaluation.run import Record
from rollama.evaluation.tables import make_tables
from rollama.segmentation.readable import read_target

SHAPE, SPACING = (40, 10, 10), (6.0, 6.0, 6.0)


def draw(plan: Plan) -> np.ndarray:
    """A toy anatomy: breast or wall at one place of each side, every level a slab of its own."""
    mask = np.zeros(SHAPE, bool)
    if plan.volume is not None:
        mask[2 : 8 if plan.guideline is Guideline.RTOG else 7, 2 : 5 if plan.volume is Volume.BREAST else 6, 2:8] = True
    for number, level in enumerate(Level):
        if level in plan.levels:
            mask[8 + 2 * number : 10 + 2 * number, 2:8, 2:8] = True
    return mask if plan.side is Side.LEFT else mask[::-1]


class Truth(Answers):
    def __init__(self) -> None: ...

    def know(self, case: Case, truth: np.ndarray) -> bool:
        return True

    def target(self, case: Case, plan: Plan) -> np.ndarray:
        return draw(plan)


class Model:
    """Draws what `see` makes of the plan; free text other than its own rewordings is refused like an empty one."""

    def __init__(self, see: Callable[[Plan], Plan], reads_all: bool = True) -> None:
        self.see, self.reads_all = see, reads_all

    def predict(self, volume: Ct, plan_text: str, progress: Any = None) -> np.ndarray:
        try:
            plan = parse_plan(plan_text)
        except DataError:
            read_target(plan_text)
            plan = PLAN if self.reads_all else PLAN.mirrored()
        return draw(self.see(plan)).astype(np.uint8)


PLAN = Plan(
    side=Side.LEFT, surgery=Surgery.CONSERVING, volume=Volume.BREAST, levels=(Level.L3,), guideline=Guideline.ESTRO,
    dose=Dose(gy=40.05, fractions=15), technique=Technique.VMAT,
)  # fmt: skip
OTHER = PLAN.model_copy(update={"levels": tuple(Level)})


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    array = np.full(SHAPE, -1000, np.float32)
    array[1:39, 1:9] = 40
    image = nibabel.Nifti1Image(array, np.diag([*SPACING, 1]))  # type: ignore[no-untyped-call]
    nibabel.save(image, tmp_path / "ct.nii.gz")
    for number, plan in enumerate((PLAN, OTHER)):
        truth = nibabel.Nifti1Image(draw(plan).astype(np.uint8), image.affine)  # type: ignore[no-untyped-call]
        nibabel.save(truth, tmp_path / f"{number}.nii.gz")
    return [
        Case(
            case_id=f"c{number}", centre="a", split=Split.TEST, note="n", summary="s", plan=plan,
            plan_text=render_plan(plan), image=tmp_path / "ct.nii.gz", target=tmp_path / f"{number}.nii.gz",
            spacing=SPACING,
        )
        for number, plan in enumerate((PLAN, OTHER))
    ]  # fmt: skip


def run(model: Model, cases: list[Case], answers: Answers | None) -> dict[str, Record]:
    records = evaluate_counterfactual(
        model, cases[:1] if answers is None else cases, MaskCache(None, "m", "d"), answers
    )
    assert {record.task for record in records} == {TASK} and {tuple(r.metrics) for r in records} == {METRICS}
    return {record.source: record for record in records if record.case_id == "c0"}


def test_a_model_that_obeys(cases: list[Case]) -> None:
    found = run(Model(lambda plan: plan), cases, Truth())
    names = "other side, one level more, one level less, breast to chest wall, other guideline, no target, other dose"
    assert set(found) >= {*names.split(", "), "another patient's plan", "blank", "nonsense", "reworded 2"}
    assert {name: record.metrics["success"] for name, record in found.items()} == dict.fromkeys(found, 1.0)
    assert {r.metrics["leakage_strict"] for r in found.values() if r.metrics["leakage_strict"] >= 0} == {0.0}
    assert found["other side"].metrics["edited_dice"] == 1.0


def test_a_model_that_ignores_its_plan(cases: list[Case]) -> None:
    found = run(Model(lambda _: PLAN, reads_all=True), cases, Truth())
    for name in ("other side", "one level more", "one level less", "no target", "another patient's plan"):
        assert found[name].metrics["success"] == 0.0, name
    assert found["other dose"].metrics["success"] == 1.0 and found["other side"].metrics["leakage"] == 0.0


def test_a_model_that_moves_what_was_not_edited(cases: list[Case]) -> None:
    """It draws the wall wherever there is no L3: the edit of the level is followed, and leaks."""
    found = run(Model(lambda p: p if Level.L3 in p.levels else p.model_copy(update={"volume": None})), cases, Truth())
    less = found["one level less"].metrics
    assert less["success"] == 1.0 and less["leakage"] > 0.5 and less["leakage_strict"] >= less["leakage"]


def test_other_words_for_the_same_plan_must_not_change_the_mask(cases: list[Case]) -> None:
    found = run(Model(lambda plan: plan, reads_all=False), cases, Truth())
    assert found["reworded 1"].metrics["success"] == 0.0 and found["reworded 1"].metrics["leakage"] == 2.0
    assert found["other technique"].metrics["success"] == 1.0


def test_without_answers_only_what_needs_none_is_scored(cases: list[Case]) -> None:
    found = run(Model(lambda plan: plan), cases, None)
    assert "other side" not in found and "one level more" not in found
    assert found["no target"].metrics["success"] == found["blank"].metrics["success"] == 1.0


def test_a_refused_edit_counts_against_the_model_and_a_full_disk_is_no_refusal(
    cases: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Shy(Model):
        def predict(self, volume: Ct, plan_text: str, progress: Any = None) -> np.ndarray:
            if "right" in plan_text:
                raise DataError("no")
            return super().predict(volume, plan_text)

    records = evaluate_counterfactual(Shy(lambda plan: plan), cases, MaskCache(None, "m", "d"), Truth())
    other = [record.metrics for record in records if record.source == "other side"]
    assert [found["success"] for found in other] == [0.0, 0.0]
    (row,) = [row for row in make_tables(records) if row["source"] == ALL_EDITS and row["centre"] == "all"]
    assert row["metrics"]["success"]["mean"] < 1

    def full(*_: object) -> None:
        raise DataError("the disk is full")

    monkeypatch.setattr(MaskCache, "add", full)
    with pytest.raises(DataError, match="disk is full"):
        run(Model(lambda plan: plan), cases, Truth())


def test_six_millimetres_are_forgiven() -> None:
    truth, wanted = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    truth[0:10], wanted[0:12] = True, True
    after = wanted.copy()
    after[12:14] = True  # one voxel within 6 mm of the region, one beyond
    scores = edit_scores(truth, after, truth, wanted, SPACING)
    assert scores["success"] == 1.0
    assert scores["leakage"] == pytest.approx(0.1) and scores["leakage_strict"] == pytest.approx(0.2)
    for spacing in ((6.25, 6.25, 6.0), (12.5, 12.5, 12.5)):  # one voxel, however large it is
        assert edit_scores(truth, after, truth, wanted, spacing)["leakage"] == pytest.approx(0.1)
    finer = edit_scores(truth, after, truth, wanted, (3.0, 3.0, 3.0))
    assert finer["leakage"] == 0 and finer["leakage_strict"] == pytest.approx(0.2)
    same = edit_scores(truth, truth, truth, truth, SPACING)
    assert np.isnan(same["success"]) and same["leakage"] == 0


def test_tables_pool_the_edits_of_a_patient_to_one_value(cases: list[Case]) -> None:
    model = Model(lambda p: p if p.side is Side.LEFT else PLAN)  # follows every edit but the other side
    records = evaluate_counterfactual(model, cases, MaskCache(None, "m", "d"), Truth())
    tables = make_tables(records)
    (row,) = [row for row in tables if row["source"] == ALL_EDITS and row["centre"] == "all"]
    shares = []
    for case in cases:
        mine = [r.metrics for r in records if r.case_id == case.case_id and r.source in MATTERS]
        shares.append(np.mean([m["success"] for m in mine]))
        assert len(mine) >= 4 and [m["success"] for m in mine].count(0.0) == 1
    assert row["n"] == 2 and row["metrics"]["success"]["mean"] == pytest.approx(np.mean(shares))
    assert ALL_EDITS in {row["Input"] for row in headline_rows({"tables": tables})}
    (sides,) = [row for row in tables if row["source"] == "other side" and row["centre"] == "all"]
    assert sides["metrics"]["success"]["mean"] == 0.0


def test_a_picture_shows_each_edit_that_matters_and_whether_it_was_followed(cases: list[Case]) -> None:
    model = Model(lambda p: p if p.side is Side.LEFT else PLAN)
    figure = draw_edits(model, cases[0], MaskCache(None, "m", "d"), Truth(), synthetic=True)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles[0] == "own plan"
    assert "other side: not followed" in titles and "one level less: followed" in titles
    assert "SYNTHETIC" in str(figure.get_suptitle())
    without = draw_edits(model, cases[0], MaskCache(None, "m", "d"), None, synthetic=False)
    assert [axes.get_title() for axes in without.axes if axes.get_title()] == ["own plan", "no target: followed"]
