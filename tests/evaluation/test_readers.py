"""The reader ceiling on masks whose Dice can be counted by hand."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from rollama.core.errors import DataError
from rollama.data.case import Case, Split
from rollama.evaluation.readers import METRICS, reader_ceiling

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
SHAPE = (20, 12, 8)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), affine), path)


def slab(*slices: int) -> np.ndarray:
    """A mask of whole planes along x; all planes have the same size, so Dice is a matter of counting planes."""
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[list(slices), 3:9, 2:6] = 1
    return mask


def case(folder: Path, name: str, target: np.ndarray, drawn: list[np.ndarray] | None, centre: str = "a") -> Case:
    ct = np.full(SHAPE, -1000)
    ct[2:18, 2:10] = 20
    save(folder / centre / "images" / f"{name}.nii.gz", ct)
    save(folder / centre / "labels" / f"{name}.nii.gz", target)
    if drawn is not None:
        labels = sum(bit * mask for bit, mask in zip((1, 2, 4), drawn, strict=True))
        save(folder / centre / "readers" / f"{name}.nii.gz", labels)
    return Case(
        case_id=name, centre=centre, split=Split.TEST, note="n", summary="s", plan=None, plan_text="free",
        image=folder / centre / "images" / f"{name}.nii.gz", target=folder / centre / "labels" / f"{name}.nii.gz",
        spacing=(2, 2, 2),
    )  # fmt: skip


def test_each_reader_and_each_pair_is_compared(tmp_path: Path) -> None:
    only = case(tmp_path, "c1", slab(4, 5), [slab(4, 5), slab(5, 6), slab(4, 5, 6, 7)])
    (record,) = reader_ceiling([only]).records
    assert tuple(record.metrics) == METRICS
    assert record.metrics["dice_reader1"] == 1.0
    assert record.metrics["dice_reader2"] == 0.5
    assert record.metrics["dice_reader3"] == pytest.approx(4 / 6)
    assert record.metrics["dice_reference"] == pytest.approx((1 + 0.5 + 4 / 6) / 3)
    assert record.metrics["dice_pairs"] == pytest.approx((0.5 + 4 / 6 + 4 / 6) / 3)
    assert record.metrics["hd95_reference_mm"] == pytest.approx((0 + 2 + 4) / 3)  # one plane is 2 mm


def test_a_case_counts_once_and_cases_without_readers_are_left_out(tmp_path: Path) -> None:
    same, far = slab(4, 5), slab(10)
    cases = [
        case(tmp_path, "c1", same, [same, same, same]),
        case(tmp_path, "c2", same, [far, far, far], centre="b"),
        case(tmp_path, "c3", same, None),
    ]
    steps: list[tuple[int, int]] = []
    ceiling = reader_ceiling(cases, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert ceiling.without == 1
    rows = {row["centre"]: row["metrics"] for row in ceiling.tables}
    assert rows["all"]["dice_reference"]["mean"] == 0.5
    assert rows["all"]["dice_reference"]["n"] == 2
    assert rows["all"]["dice_pairs"]["mean"] == 1.0  # they agree with each other, if not with the reference
    assert {centre: row["dice_reference"]["mean"] for centre, row in rows.items()} == {"all": 0.5, "a": 1.0, "b": 0.0}


def test_the_mean_over_cases_has_an_interval(tmp_path: Path) -> None:
    cases = [case(tmp_path, f"c{n}", slab(4, 5), [slab(4, 5), slab(5, 6), slab(5 + n)]) for n in range(4)]
    (pooled, _) = reader_ceiling(cases).tables
    found = pooled["metrics"]["dice_reference"]
    assert found["low"] < found["mean"] < found["high"]


def test_a_reader_who_drew_nothing_scores_zero_and_no_target_at_all_is_left_out(tmp_path: Path) -> None:
    nothing, same = slab(), slab(4, 5)
    cases = [
        case(tmp_path, "c1", same, [nothing, same, same]),
        case(tmp_path, "c2", nothing, [nothing, nothing, nothing]),
    ]
    ceiling = reader_ceiling(cases)
    assert ceiling.records[0].metrics["dice_reader1"] == 0.0
    assert ceiling.records[0].metrics["dice_pairs"] == pytest.approx(1 / 3)
    pooled = ceiling.tables[0]["metrics"]["dice_reference"]
    assert (pooled["n"], pooled["excluded"]) == (1, 1)
    assert pooled["mean"] == pytest.approx(2 / 3)


def test_no_readers_anywhere(tmp_path: Path) -> None:
    ceiling = reader_ceiling([case(tmp_path, "c1", slab(4), None)])
    assert (ceiling.records, ceiling.tables, ceiling.without) == ((), [], 1)


def test_a_damaged_reader_file_is_named(tmp_path: Path) -> None:
    bad = case(tmp_path, "c1", slab(4), [slab(4), slab(4), slab(4)])
    save(tmp_path / "a" / "readers" / "c1.nii.gz", 8 * slab(4))
    with pytest.raises(DataError, match=r"readers/c1\.nii\.gz: value 8 names no reader; accepted: 0 to 7"):
        reader_ceiling([bad])
    save(tmp_path / "a" / "readers" / "c1.nii.gz", slab(4), np.eye(4))
    with pytest.raises(DataError, match=r"readers/c1\.nii\.gz: .*affine differs"):
        reader_ceiling([bad])
