"""Scoring of foreign predictions: known errors give known figures, and bad input is named instead of scored."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rollama.core.errors import ConfigError, DataError
from rollama.data.case import Split
from rollama.data.dataset import Dataset, open_dataset
from rollama.data.parts import Part
from rollama.evaluation.predictions import HELD_OUT, read_predictions
from rollama.evaluation.score import Scores, score_predictions, write_scores
from tests.evaluation.toy import (
    EMPTY,
    IDS,
    PLAN,
    TARGET,
    read_texts,
    refused,
    save,
    stamp,
    write_texts,
)


def run(root: Path, folder: Path, **options: Any) -> Scores:
    dataset = open_dataset(root, check_volumes=False)
    return score_predictions(dataset, read_predictions(dataset, folder, **options))


def figures(scores: Scores, task: str, split: str = "test", centre: str = "all") -> dict[str, dict[str, Any]]:
    (row,) = (
        row for row in scores.summary["tables"] if (row["task"], row["split"], row["centre"]) == (task, split, centre)
    )
    return row["metrics"]


def mean_n(value: dict[str, Any]) -> tuple[float, int]:
    return value["mean"], value["n"]


def test_held_out_is_every_split_but_training_and_validation() -> None:
    assert set(HELD_OUT) == set(Split) - {Split.TRAIN, Split.VALIDATION}


def test_the_truth_scores_full_marks_and_training_cases_are_ignored_and_counted(root: Path, oracle: Path) -> None:
    (oracle / "README.md").write_text("mine")
    (oracle / "._north-1.nii.gz").write_bytes(b"what macOS leaves behind")
    scores = run(root, oracle)
    for split, n in (("test", 3), ("external", 1)):
        seg = figures(scores, "seg", split)
        assert mean_n(seg["dice"]) == (1.0, n)
        assert mean_n(seg["wrong_side"]) == (0.0, n)
        assert mean_n(seg["missed_target"]) == (0.0, n)
        assert mean_n(seg["hd95_mm"]) == (0.0, n)
    assert mean_n(figures(scores, "seg")["false_target"]) == (0.0, 1)
    assert mean_n(figures(scores, "s")["rougeL"]) == (1.0, 4)
    assert mean_n(figures(scores, "p")["fields_all"]) == (1.0, 4)
    assert scores.summary["cases"] == {"test": 4, "external": 1}
    assert scores.summary["ignored"] == {"masks_of_other_splits": 1, "lines_of_other_splits": 1, "other_files": 1}
    assert {r.case_id for r in scores.records} == set(IDS)
    assert scores.summary["dataset"]["unchanged"] is True
    assert scores.summary["readers"] is None


def test_known_errors_give_known_figures(root: Path, oracle: Path) -> None:
    save(oracle / "north-1.nii.gz", TARGET[::-1].copy())  # the other side
    save(oracle / "north-2.nii.gz", EMPTY)  # missed
    save(oracle / "north-3.nii.gz", TARGET)  # invented
    half = TARGET.copy()
    half[4:] = 0
    save(oracle / "west-0.nii.gz", half)
    scores = run(root, oracle)
    seg = figures(scores, "seg")
    assert mean_n(seg["dice"]) == (pytest.approx((0 + 0 + 0 + 2 / 3) / 4), 4)
    assert mean_n(seg["wrong_side"]) == (0.5, 2)  # only where both drew something
    assert mean_n(seg["missed_target"]) == (pytest.approx(1 / 3), 3)
    assert mean_n(seg["false_target"]) == (1.0, 1)
    assert seg["missed_target"]["low"] > 0  # the exact interval of a rate, as for the other yes/no figures
    assert mean_n(figures(scores, "seg", centre="west")["dice"]) == (pytest.approx(2 / 3), 1)
    worst = [(case["case_id"], case["dice"]) for case in scores.summary["worst"]]
    assert worst[:3] == [("north-1", 0.0), ("north-2", 0.0), ("north-3", 0.0)]
    assert worst[3:] == [("west-0", pytest.approx(2 / 3)), ("south-0", 1.0)]


def test_parts_are_scored_by_the_share_that_is_covered(root: Path, oracle: Path) -> None:
    labels = EMPTY.copy()
    labels[2, 3:8, 2:6], labels[3:5, 3:8, 2:6], labels[5, 3:8, 2:6] = Part.L1, Part.L2, Part.BREAST
    labels[5, 3, 2:6] = Part.BOOST  # lies inside the breast: 4 of its 20 voxels
    save(root / "north" / "parts" / "north-1.nii.gz", labels)
    drawn = EMPTY.copy()
    drawn[3, 3:8, 2:6] = 1  # all of half of L2, nothing of L1
    drawn[5, 3, 2:6] = 1  # the boost only
    save(oracle / "north-1.nii.gz", drawn)
    seg = figures(run(root, oracle), "seg")
    found = {name: mean_n(seg[name]) for name in seg if name.startswith(("recall_", "included_", "levels_"))}
    assert found == {
        "levels_included": (0.5, 1),
        "recall_breast": (0.2, 1), "included_breast": (0.0, 1),
        "recall_l1": (0.0, 1), "included_l1": (0.0, 1),
        "recall_l2": (0.5, 1), "included_l2": (1.0, 1),
        "recall_boost": (1.0, 1), "included_boost": (1.0, 1),
    }  # fmt: skip
    assert seg["included_l2"]["excluded"] == 3
    assert not any(name.startswith("recall_") for name in figures(run(root, oracle), "seg", "external"))


def test_readers_stand_beside_the_masks(root: Path, oracle: Path) -> None:
    moved = np.roll(TARGET, 1, axis=0)
    save(root / "north" / "readers" / "north-1.nii.gz", (TARGET * 3 + moved * 4).astype(np.uint8))
    stamp(root)
    found = run(root, oracle)
    assert found.summary["readers"]["cases"] == 1
    assert found.summary["readers"]["without"] == 4
    row = found.summary["readers"]["tables"][0]
    assert (row["split"], row["centre"]) == ("test", "all")
    assert row["metrics"]["dice_reference"]["mean"] == pytest.approx((1 + 1 + 0.75) / 3)
    assert row["metrics"]["dice_pairs"]["mean"] == pytest.approx((1 + 0.75 + 0.75) / 3)


def test_plans_are_compared_by_field_and_those_outside_the_form_are_counted(root: Path, oracle: Path) -> None:
    lines = read_texts(oracle)
    lines["north-1"]["plan_text"] = PLAN.replace("left", "right")
    lines["north-2"]["plan_text"] = "I would treat the left breast."
    lines["west-0"]["summary"] = ""
    write_texts(oracle, list(lines.values()))
    scores = run(root, oracle)
    found = figures(scores, "p")
    assert mean_n(found["side"]) == (0.5, 4)
    assert mean_n(found["dose"]) == (0.75, 4)
    assert mean_n(found["fields_mean"]) == (pytest.approx((0.8 + 0 + 1 + 1) / 4), 4)
    assert mean_n(found["unparsed"]) == (0.25, 4)
    assert scores.summary["outside_the_form"] == 1
    assert mean_n(figures(scores, "s")["rouge1"]) == (0.75, 4)  # an empty text is given, and worth nothing


def test_tasks_that_are_left_out_are_not_scored(root: Path, oracle: Path) -> None:
    lines = read_texts(oracle)
    write_texts(
        oracle, [{"case_id": name, "summary": None, "plan_text": line["plan_text"]} for name, line in lines.items()]
    )
    assert {row["task"] for row in run(root, oracle).summary["tables"]} == {"seg", "p"}
    for path in oracle.glob("*.nii.gz"):
        path.unlink()
    texts_only = run(root, oracle)
    assert {row["task"] for row in texts_only.summary["tables"]} == {"p"}
    assert texts_only.ceiling is None
    assert texts_only.summary["worst"] == []


def test_missing_cases_are_refused_or_count_as_empty(root: Path, oracle: Path) -> None:
    (oracle / "north-1.nii.gz").unlink()
    (oracle / "north-3.nii.gz").unlink()
    lines = read_texts(oracle)
    del lines["south-0"], lines["west-0"]["plan_text"]
    write_texts(oracle, list(lines.values()))
    message = refused(root, oracle)
    assert "3 problem(s)" in message
    assert "2 of 5 held-out cases have no mask: north-1, north-3; " in message
    assert "1 of 5 held-out cases have no summary: south-0; " in message
    assert "2 of 5 held-out cases have no plan_text: south-0, west-0; " in message
    scores = run(root, oracle, allow_missing=True)
    counts = scores.summary["predictions"]
    assert counts["seg"] == {"given": 3, "missing": 2, "missing_cases": ["north-1", "north-3"]}
    assert counts["p"]["missing"] == 2
    seg = figures(scores, "seg")
    assert mean_n(seg["dice"]) == (pytest.approx(2 / 3), 3)  # north-3 has no target: an empty mask is right
    assert mean_n(seg["missed_target"]) == (pytest.approx(1 / 3), 3)
    assert mean_n(seg["missing"]) == (0.5, 4)
    assert mean_n(figures(scores, "s", "external")["rougeL"]) == (0.0, 1)
    assert scores.summary["outside_the_form"] == 0  # what was not given is missing, not badly formed


def test_splits_narrow_what_is_scored(root: Path, oracle: Path) -> None:
    (oracle / "south-0.nii.gz").unlink()
    assert run(root, oracle, splits=["test"]).summary["cases"] == {"test": 4}
    assert "1 of 1 held-out cases have no mask" not in refused(root, oracle)
    dataset = open_dataset(root)
    with pytest.raises(ConfigError, match=f"split 'train' is not held out; accepted: {', '.join(HELD_OUT)}"):
        read_predictions(dataset, oracle, ["train"])
    cut = Dataset(dataset.root, dataset.info, dataset.select(Split.TEST))
    with pytest.raises(DataError, match=r"no case in the split\(s\) external"):
        read_predictions(cut, oracle, ["external"])


def test_lines_may_hold_any_character_and_a_mark_at_the_start(root: Path, oracle: Path) -> None:
    lines = read_texts(oracle)
    lines["north-1"]["summary"] += "\u2028next line\x85"
    text = "\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines.values())
    (oracle / "text.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert figures(run(root, oracle), "s")["rouge1"]["n"] == 4
    (oracle / "text.jsonl").write_bytes(b"\xff\xfe{}")
    assert "text.jsonl: not UTF-8 text (byte 0)" in refused(root, oracle)


def test_nothing_to_score_is_refused(root: Path, tmp_path: Path, oracle: Path) -> None:
    assert "none: no such folder of predictions" in refused(root, tmp_path / "none")
    (tmp_path / "bare").mkdir()
    assert "no mask and no text of a held-out case; a mask is named 'north-1.nii.gz'" in refused(
        root, tmp_path / "bare"
    )
    shutil.copy(oracle / "north-0.nii.gz", tmp_path / "bare")  # of a training case
    assert "no mask and no text" in refused(root, tmp_path / "bare", allow_missing=True)


def test_a_changed_data_set_is_told(root: Path, oracle: Path) -> None:
    save(root / "north" / "labels" / "north-1.nii.gz", TARGET[::-1].copy())
    assert run(root, oracle).summary["dataset"]["unchanged"] is False


def test_progress_reaches_the_end_in_steps(root: Path, oracle: Path) -> None:
    dataset = open_dataset(root)
    checked: list[tuple[int, int]] = []
    predictions = read_predictions(dataset, oracle, progress=lambda done, total: checked.append((done, total)))
    assert checked == [(n, 5) for n in range(1, 6)]
    scored: list[tuple[int, int]] = []
    score_predictions(dataset, predictions, lambda done, total: scored.append((done, total)))
    assert scored == [(n, 20) for n in range(1, 21)]  # masks, readers, summaries, plans


def test_files_are_written_in_a_stable_order_and_without_texts(root: Path, oracle: Path, tmp_path: Path) -> None:
    save(root / "north" / "readers" / "north-1.nii.gz", TARGET * np.uint8(7))
    first, second = run(root, oracle), run(root, oracle)
    for name, scores in (("one", first), ("two", second)):
        write_scores(tmp_path / name, scores, "# Scores\n")
    kept = json.loads((tmp_path / "one" / "scores.json").read_text())
    assert kept["format_version"] == 1
    assert kept["dataset"]["hash"] == open_dataset(root).info.content_hash
    assert kept["dataset"]["synthetic"] is True
    assert "RESEARCH USE ONLY" in kept["notice"]
    order = [(row["task"], row["split"], row["centre"]) for row in kept["tables"]]
    assert order[:3] == [("seg", "test", centre) for centre in ("all", "north", "west")]
    assert order[3:5] == [("seg", "external", centre) for centre in ("all", "south")]
    assert [task for task, *_ in order] == ["seg"] * 5 + ["s"] * 5 + ["p"] * 5
    assert kept["tables"] == json.loads((tmp_path / "two" / "scores.json").read_text())["tables"]
    lines = [json.loads(line) for line in (tmp_path / "one" / "cases.jsonl").read_text().splitlines()]
    assert [line["case_id"] for line in lines] == IDS
    assert set(lines[0]) == {"case_id", "centre", "split", "seg", "s", "p", "readers"}
    assert lines[0]["readers"]["dice_pairs"] == 1.0
    assert lines[2]["seg"]["dice"] is None  # north-3: both empty
    for path in (tmp_path / "one").iterdir():
        assert "SECRET" not in path.read_text() and "tumour" not in path.read_text()
