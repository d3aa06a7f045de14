"""Foreign predictions on their way in: whatever is wrong with them is named, together, and never repeated."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rollama.evaluation import predictions as checked
from tests.evaluation.toy import (
    TARGET,
    refused,
    save,
)


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
