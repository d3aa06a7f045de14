"""The evaluation with models whose scores are known: an oracle, a flipped one, a plan-blind one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from rollama.core.errors import DataError
from rollama.core.registry import Task
from rollama.data.case import Case, Split
from rollama.data.dataset import DatasetInfo
from rollama.data.plan import parse_plan
from rollama.data.sides import other_side
from rollama.data.volumes import Volume
from rollama.evaluation.cache import MaskCache, TextCache
from rollama.evaluation.report import Example, headline_markdown, headline_rows, plan_differences, write_report
from rollama.evaluation.run import (
    evaluate_baselines,
    evaluate_segmentation,
    evaluate_side_swap,
    evaluate_text,
    generated_plans,
)
from rollama.evaluation.tables import make_tables, write_evaluation

PLAN = (
    "Side: {}. Surgery: breast-conserving. Volumes: whole breast. Nodes: none. Boost: none. "
    "Prescription: 40.05 Gy in 15 fractions. Technique: VMAT."
)
AFFINE = np.diag([6.0, 6.0, 6.0, 1.0])
SHAPE = (16, 12, 8)


def target(side: str) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[2 : 6 if side == "left" else 5, 3:8, 2:6] = 1  # low index: patient left (RAS)
    return mask if side == "left" else mask[::-1]


@dataclass(frozen=True)
class Answer:
    text: str
    finished: bool = True
    other: str | None = None


@dataclass
class Oracle:
    """Answers as the dataset does."""

    cases: Sequence[Case]
    calls: list[int] = field(default_factory=list)

    def generate(self, task: Task, texts: Sequence[str], progress: Any = None) -> list[Answer]:
        self.calls.append(len(texts))
        pairs = (
            {c.note: c.summary for c in self.cases}
            if task is Task.SUMMARY
            else {c.summary: c.plan_text for c in self.cases}
        )
        return [Answer(pairs[text]) for text in texts]


@dataclass
class Follower:
    """Draws the side that the plan names, the other one (`flip`) or always the left one (`blind`)."""

    flip: bool = False
    blind: bool = False
    calls: int = 0

    def predict(self, volume: Volume, plan_text: str, progress: Any = None) -> np.ndarray:
        self.calls += 1
        left = self.blind or (parse_plan(plan_text).side == "left") != self.flip
        return target("left" if left else "right")


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    made = []
    for number in range(8):
        side = "left" if number % 2 else "right"
        name, image = f"c{number}", np.full(SHAPE, -1000, dtype=np.float32)
        image[1:15, 1:11] = 0
        for kind, array in (("ct", image), ("gt", target(side))):
            nibabel.save(nibabel.Nifti1Image(array, AFFINE), tmp_path / f"{name}-{kind}.nii.gz")
        made.append(
            Case(
                case_id=name, centre="ab"[number // 4], split=Split.TEST, note=f"SECRET{number} {side} note of patient",
                summary=f"{side} tumour {number}", plan=parse_plan(PLAN.format(side)), plan_text=PLAN.format(side),
                image=tmp_path / f"{name}-ct.nii.gz", target=tmp_path / f"{name}-gt.nii.gz", spacing=(6, 6, 6),
            )
        )  # fmt: skip
    return made


def info(synthetic: bool) -> DatasetInfo:
    return DatasetInfo(
        name="toy", version="1", synthetic=synthetic, label="CTV", notice="n", centres=("a", "b"), content_hash="d"
    )


def means(records: Any, metric: str) -> float:
    return float(np.mean([record.metrics[metric] for record in records]))


def test_oracle_scores_one_everywhere_and_baselines_less(cases: list[Case]) -> None:
    records = evaluate_text(Oracle(cases), cases, lambda task: TextCache(None, "m", "d", task))
    assert len(records) == 24
    assert means(records, "rougeL") == 1.0
    assert means([r for r in records if r.task == "p"], "fields_all") == 1.0
    assert generated_plans(records) == {case.case_id: case.plan_text for case in cases}
    baseline = evaluate_baselines(cases, cases[:1])
    assert means([r for r in baseline if r.system == "most frequent"], "side") == 0.5


def test_interrupted_text_evaluation_resumes(cases: list[Case], tmp_path: Path) -> None:
    def cache(task: str, model: str = "m") -> TextCache:
        return TextCache(tmp_path, model, "d", task)

    first = evaluate_text(Oracle(cases[:5]), cases[:5], cache, chain=False)
    path = next(tmp_path.glob("text-s-*.jsonl"))
    path.write_text(path.read_text()[:-20])  # killed while writing the fifth line
    oracle = Oracle(cases)
    second = evaluate_text(oracle, cases, cache, chain=False)
    assert oracle.calls == [4, 3]
    assert [r for r in second if r.case_id < "c5"] == first
    again = Oracle(cases)
    evaluate_text(again, cases, cache, chain=False)
    assert again.calls == []
    evaluate_text(again, cases, lambda task: cache(task, "other weights"), chain=False)
    assert again.calls == [8, 8]


@dataclass
class Mistaken(Oracle):
    """S takes the other side, and a second look says so in every other case."""

    def generate(self, task: Task, texts: Sequence[str], progress: Any = None) -> list[Answer]:
        self.calls.append(len(texts))
        if task is Task.PLAN:
            return [Answer(PLAN.format(text.split()[0])) for text in texts]
        truth = {case.note: case.summary for case in self.cases}
        wrong = [other_side(truth[note]) for note in texts]
        return [
            Answer(text, True, truth[note] if number % 2 else None)
            for number, (note, text) in enumerate(zip(texts, wrong, strict=True))
        ]


def test_a_wrong_side_that_a_second_look_doubts_is_flagged_also_from_the_cache(
    cases: list[Case], tmp_path: Path
) -> None:
    def cache(task: str) -> TextCache:
        return TextCache(tmp_path, "m", "d", task)

    model = Mistaken(cases)
    first = evaluate_text(model, cases, cache)
    chained = [r.metrics["side_unflagged"] for r in first if r.task == "p" and r.source == "generated"]
    assert chained == [1.0, 0.0] * 4
    calls = list(model.calls)
    assert evaluate_text(model, cases, cache) == first and model.calls == calls
    corrected = [case.model_copy(update={"note": f"{case.note} The side in the referral is wrong."}) for case in cases]
    again = evaluate_text(Mistaken(corrected), corrected, lambda task: TextCache(None, "m", "d", task))
    assert all(r.metrics["side_unflagged"] == 0.0 for r in again if r.task == "p" and r.source == "generated")


def test_segmentation_oracle_flipped_and_blind(cases: list[Case], tmp_path: Path) -> None:
    plans = {case.case_id: case.plan_text for case in cases}
    none = MaskCache(None, "m", "d")
    good = evaluate_segmentation(Follower(), cases, plans, none)
    assert means(good, "dice") == means(good, "iou") == 1.0
    assert means(good, "wrong_side") == means(good, "hd95_mm") == 0.0
    flipped = evaluate_segmentation(Follower(flip=True), cases, plans, none)
    assert means(flipped, "wrong_side") == 1.0
    assert means(evaluate_side_swap(Follower(), cases, none), "moved_across") == 1.0
    assert means(evaluate_side_swap(Follower(flip=True), cases, none), "followed_plan") == 0.0
    assert means(evaluate_side_swap(Follower(blind=True), cases, none), "moved_across") == 0.0


def test_a_generated_plan_that_cannot_be_read_is_a_miss_and_a_reference_plan_an_error(cases: list[Case]) -> None:
    class Strict(Follower):
        def predict(self, volume: Volume, plan_text: str, progress: Any = None) -> np.ndarray:
            if not plan_text:
                raise DataError("plan text of 0 tokens")
            return super().predict(volume, plan_text)

    plans = {case.case_id: case.plan_text for case in cases} | {cases[0].case_id: ""}
    none = MaskCache(None, "m", "d")
    found = evaluate_segmentation(Strict(), cases, plans, none, source="generated")
    assert [record.metrics["refused"] for record in found] == [1.0] + [0.0] * (len(cases) - 1)
    assert found[0].metrics["dice"] == 0.0
    assert found[0].metrics["missed"] == 1.0
    with pytest.raises(DataError, match="0 tokens"):
        evaluate_segmentation(Strict(), cases, plans, none)


def test_masks_are_predicted_once(cases: list[Case], tmp_path: Path) -> None:
    cache, plans = MaskCache(tmp_path, "m", "d"), {case.case_id: case.plan_text for case in cases}
    model = Follower()
    first = evaluate_segmentation(model, cases, plans, cache)
    next(tmp_path.glob("masks-*/c0-*.npz")).write_bytes(b"cut")
    assert evaluate_segmentation(model, cases, plans, cache) == first
    assert model.calls == 9


def test_texts_are_written_for_synthetic_data_only(cases: list[Case], tmp_path: Path) -> None:
    records = evaluate_text(Oracle(cases), cases, lambda task: TextCache(None, "m", "d", task))
    write_evaluation(tmp_path / "real", records, info(synthetic=False), {"s": "h"})
    for path in (tmp_path / "real").rglob("*"):
        assert "tumour" not in path.read_text()
        assert "SECRET" not in path.read_text()
    write_evaluation(tmp_path / "toy", records, info(synthetic=True), {"s": "h"})
    assert "tumour" in (tmp_path / "toy" / "predictions.jsonl").read_text()
    assert json.loads((tmp_path / "toy" / "evaluation.json").read_text())["dataset"]["synthetic"] is True


def test_tables_have_each_centre_and_the_pool(cases: list[Case]) -> None:
    rows = make_tables(evaluate_baselines(cases, cases))
    found = {row["centre"]: row["n"] for row in rows if row["system"] == "lead words"}
    assert found == {"all": 8, "a": 4, "b": 4}


def test_the_table_says_how_plans_were_decoded(cases: list[Case], tmp_path: Path) -> None:
    records = evaluate_baselines(cases, cases)
    said = {
        how: headline_markdown(write_evaluation(tmp_path / how, records, info(synthetic=True), {}, plan_decoding=how))
        for how in ("free", "constrained")
    }
    assert "held to the plan's form" in said["constrained"] and "held to" not in said["free"]


def test_plan_differences_name_the_field() -> None:
    rows = plan_differences(PLAN.format("left"), PLAN.format("right"))
    assert [row for row in rows if not row[2]] == [("Side: left.", "Side: right.", False)]
    assert ("Prescription: 40.05 Gy in 15 fractions.",) * 2 + (True,) in rows


def test_report_stands_alone_and_escapes_texts(cases: list[Case], tmp_path: Path) -> None:
    plans = {case.case_id: case.plan_text for case in cases}
    records = evaluate_text(Oracle(cases), cases, lambda task: TextCache(None, "m", "d", task))
    records += evaluate_baselines(cases, cases[:2])
    records += evaluate_segmentation(Follower(), cases, plans, MaskCache(None, "m", "d"))
    records += evaluate_segmentation(Follower(blind=True), cases, plans, MaskCache(None, "m", "d"), "vision-only")
    records += evaluate_side_swap(Follower(), cases, MaskCache(None, "m", "d"))
    evaluation = write_evaluation(tmp_path, records, info(synthetic=True), {"s": "h"})
    log = tmp_path / "metrics.jsonl"
    log.write_text(
        "".join(
            json.dumps({"step": n, "loss": 3 / n, "ce": 2 / n, "consistency": 0.1 / n}) + "\n" for n in range(1, 20)
        )
    )
    volume = Volume(np.full(SHAPE, 20, dtype=np.float32), AFFINE)
    example = Example(
        "c0", "a", "test", volume, target("left"), target("right"), "<script>alert(1)</script>", "true summary",
        "made <b>up</b>", PLAN.format("left"), "free text", {"Dice": "0.00"},
    )  # fmt: skip
    html = write_report(tmp_path, evaluation, {"S": log}, [example], {"command": "rollama demo"}).read_text()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "RESEARCH USE ONLY" in html
    assert "Synthetic data" in html
    assert html.count("data:image/png;base64,") == 2
    assert "http" not in html.replace("data:image", "")[:20000]
    assert len(headline_rows(evaluation)) == 22  # 3 for S, 4 of each 2 for P, 5 metrics of 2 systems, 1 side swap
