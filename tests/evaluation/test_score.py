"""Scoring of foreign predictions: known errors give known figures, and bad input is named instead of scored."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from rollama.core.errors import ConfigError, DataError
from rollama.core.files import write_json
from rollama.data.case import Split
from rollama.data.dataset import Dataset, content_hash, open_dataset, write_centre
from rollama.data.parts import Part
from rollama.evaluation import predictions as checked
from rollama.evaluation.predictions import HELD_OUT, read_predictions
from rollama.evaluation.score import Scores, score_predictions, write_scores

AFFINE = np.diag([6.0, 6.0, 6.0, 1.0])
SHAPE = (16, 12, 8)
PLAN = (
    "Side: left. Surgery: breast-conserving. Volumes: whole breast. Nodes: L1, L2. Boost: none. "
    "Prescription: 40.05 Gy in 15 fractions. Technique: VMAT."
)
NO_PLAN = (
    "Side: left. Surgery: breast-conserving. Volumes: none. Nodes: none. Boost: none. Prescription: none. "
    "Technique: none."
)
TARGET = np.zeros(SHAPE, dtype=np.uint8)
TARGET[2:6, 3:8, 2:6] = 1  # low index: patient left (RAS)
EMPTY = np.zeros_like(TARGET)
CASES = {  # id -> centre, split, whether it has a target
    "north-0": ("north", Split.TRAIN, True),
    "north-1": ("north", Split.TEST, True),
    "north-2": ("north", Split.TEST, True),
    "north-3": ("north", Split.TEST, False),
    "south-0": ("south", Split.EXTERNAL, True),
    "west-0": ("west", Split.TEST, True),
}
IDS = [name for name, (_, split, _) in CASES.items() if split is not Split.TRAIN]


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    ct = np.full(SHAPE, -1000, dtype=np.int16)
    ct[1:15, 1:11] = 20
    records: dict[str, list[tuple[Split, dict[str, Any]]]] = {}
    for name, (centre, split, has_target) in CASES.items():
        save(folder / centre / "images" / f"{name}.nii.gz", ct)
        save(folder / centre / "labels" / f"{name}.nii.gz", TARGET if has_target else EMPTY)
        record = {"case_id": name, "note": f"SECRET note {name}", "summary": f"tumour of {name}, 12 mm, left breast"}
        records.setdefault(centre, []).append((split, record | {"plan_text": PLAN if has_target else NO_PLAN}))
    for centre, items in records.items():
        write_centre(folder / centre, items)
    stamp(folder)
    return folder


def stamp(root: Path) -> None:
    """Write the root's description with the hash of what lies there now."""
    centres = ["north", "south", "west"]
    write_json(root / "dataset.json", {
        "name": "toy", "version": "1", "synthetic": True, "label": "CTV", "notice": "n", "centres": centres,
        "external_centres": ["south"], "content_hash": content_hash(root, centres),
    })  # fmt: skip


@pytest.fixture
def oracle(root: Path, tmp_path: Path) -> Path:
    """Predictions as the data set has them, of the training case too."""
    folder = tmp_path / "predictions"
    folder.mkdir()
    lines = []
    for case in open_dataset(root).cases:
        shutil.copy(case.target, folder)
        lines.append({"case_id": case.case_id, "summary": case.summary, "plan_text": case.plan_text})
    write_texts(folder, lines)
    return folder


def write_texts(folder: Path, lines: list[Any]) -> None:
    (folder / "text.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def read_texts(folder: Path) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "text.jsonl").read_text().splitlines()]
    return {line["case_id"]: line for line in lines}


def run(root: Path, folder: Path, **options: Any) -> Scores:
    dataset = open_dataset(root, check_volumes=False)
    return score_predictions(dataset, read_predictions(dataset, folder, **options))


def refused(root: Path, folder: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_predictions(open_dataset(root, check_volumes=False), folder, **options)
    return str(caught.value)


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


def bad_grid(folder: Path) -> None:
    save(folder / "north-1.nii.gz", TARGET, np.diag([6.0, 6.0, 5.0, 1.0]))


def flipped_grid(folder: Path) -> None:
    save(folder / "north-1.nii.gz", TARGET, np.diag([-6.0, 6.0, 6.0, 1.0]))


def bad_shape(folder: Path) -> None:
    save(folder / "north-1.nii.gz", TARGET[:, :, :-1].copy())


def bad_values(folder: Path) -> None:
    save(folder / "north-1.nii.gz", TARGET * np.uint8(255))


def probabilities(folder: Path) -> None:
    save(folder / "north-1.nii.gz", TARGET * np.float32(0.5))


def not_a_number(folder: Path) -> None:
    save(folder / "north-1.nii.gz", np.where(TARGET, np.nan, 0).astype(np.float32))


def damaged(folder: Path) -> None:
    (folder / "north-1.nii.gz").write_bytes(b"no image")


def cut_off(folder: Path) -> None:
    path = folder / "north-1.nii.gz"
    path.write_bytes(path.read_bytes()[:-40])


def unknown(folder: Path) -> None:
    for number in range(12):
        save(folder / f"nobody-{number:02}.nii.gz", TARGET)


def doubled(folder: Path) -> None:
    save(folder / "north-1.nii", TARGET)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (bad_grid, "north-1.nii.gz: affine differs from the CT's; resample it"),
        (flipped_grid, "north-1.nii.gz: affine differs from the CT's"),
        (bad_shape, "north-1.nii.gz: shape (16, 12, 7) differs from the CT's (16, 12, 8)"),
        (bad_values, "north-1.nii.gz: values must be 0 and 1, found [255]"),
        (probabilities, "north-1.nii.gz: values must be 0 and 1, found [0.5]"),
        (not_a_number, "north-1.nii.gz: values must be 0 and 1, found [nan]"),
        (damaged, "north-1.nii.gz: not a readable NIfTI file"),
        (cut_off, "north-1.nii.gz: not a readable NIfTI file"),
        (unknown, "12 file(s) named after no case of the data set: nobody-00.nii.gz, "),
        (unknown, "nobody-09.nii.gz and 2 more; a mask is named after its case, such as 'north-0.nii.gz'"),
        (doubled, "case north-1 has two masks, north-1.nii and north-1.nii.gz; keep one"),
    ],
)
def test_bad_masks_are_named(root: Path, oracle: Path, spoil: Callable[[Path], None], words: str) -> None:
    spoil(oracle)
    message = refused(root, oracle)
    assert "1 problem(s)" in message
    assert words in message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"case_id": "north-1", "summary": "SECRET', "line(s) 7: not valid JSON"),
        ("[" * 100_000, "line(s) 7: not valid JSON"),
        ('["SECRET"]', "line(s) 7: not a JSON object"),
        ('{"summary": "SECRET"}', "line(s) 7: no case_id of letters"),
        ('{"case_id": "SECRET name", "summary": "x"}', "line(s) 7: no case_id of letters"),
        ('{"case_id": 7, "summary": "SECRET"}', "line(s) 7: no case_id of letters"),
        ('{"case_id": "north-1", "SECRET": "x"}', "line(s) 7: a key other than case_id, summary and plan_text"),
        ('{"case_id": "north-1", "summary": ["SECRET"]}', "line(s) 7: a summary or plan_text that is no text"),
        ('{"case_id": "north-1", "summary": "SECRET"}', "line(s) 7: the case has a line already"),
        ('{"case_id": "nobody-1", "summary": "SECRET"}', "1 line(s) with a case_id that the data set does not have: "
                                                       "nobody-1; an id looks like 'north-0'"),
    ],
)  # fmt: skip
def test_bad_lines_are_named_and_never_repeated(root: Path, oracle: Path, line: str, words: str) -> None:
    with (oracle / "text.jsonl").open("a") as stream:
        stream.write(line + "\n\n")
    message = refused(root, oracle)
    assert "1 problem(s)" in message
    assert f"text.jsonl: {words}" in message
    assert "SECRET" not in message


def test_lines_may_hold_any_character_and_a_mark_at_the_start(root: Path, oracle: Path) -> None:
    lines = read_texts(oracle)
    lines["north-1"]["summary"] += "\u2028next line\x85"
    text = "\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines.values())
    (oracle / "text.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert figures(run(root, oracle), "s")["rouge1"]["n"] == 4
    (oracle / "text.jsonl").write_bytes(b"\xff\xfe{}")
    assert "text.jsonl: not UTF-8 text (byte 0)" in refused(root, oracle)


def test_everything_that_is_wrong_comes_in_one_error_of_limited_length(
    root: Path, oracle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown(oracle)
    save(oracle / "north-1.nii.gz", TARGET, np.eye(4))
    save(oracle / "north-2.nii.gz", TARGET * np.uint8(2))
    (oracle / "west-0.nii.gz").unlink()
    (oracle / "text.jsonl").write_text("x\ny\n")
    message = refused(root, oracle)
    assert "5 problem(s)" in message
    for words in ("nobody-00", "affine differs", "found [2]", "west-0", "line(s) 1, 2: not valid JSON"):
        assert words in message
    monkeypatch.setattr(checked, "PROBLEMS", 3)
    short = refused(root, oracle).splitlines()
    assert len(short) == 1 + 3
    assert short[-1] == "  and 3 more"


def test_a_damaged_reference_is_named_before_anything_is_scored(root: Path, oracle: Path) -> None:
    (root / "north" / "images" / "north-2.nii.gz").write_bytes(b"no image")
    assert "data set, case north-2: north-2.nii.gz or its label is not a readable NIfTI file" in refused(root, oracle)


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
