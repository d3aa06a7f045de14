"""Mask metrics against MONAI, and the policy for missed structures."""

import math

import numpy as np
import pytest

from rollama.core.errors import DataError
from rollama.data.plan import Side
from rollama.evaluation.masks import body_midline, check_table, compare_masks, side_of

AFFINE = np.diag([3.0, 2.0, 5.0, 1.0])
SPACING = (3.0, 2.0, 5.0)


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=(2, 18, 20, 14))
    a, b = (gaussian_filter(field, 2) > 0.02 for field in noise)
    return a, b


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # MONAI warns about its own call
@pytest.mark.parametrize("seed", range(4))
def test_equals_monai(seed: int) -> None:
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.meandice import compute_dice

    a, b = blobs(seed)
    scores = compare_masks(a, b, AFFINE)
    reference, predicted = a[None, None].astype(np.float32), b[None, None].astype(np.float32)
    theirs = compute_hausdorff_distance(predicted, reference, include_background=True, percentile=95, spacing=SPACING)
    assert scores["hd95_mm"] == pytest.approx(float(theirs), rel=1e-5)
    import torch

    overlap = compute_dice(torch.from_numpy(predicted), torch.from_numpy(reference))
    assert scores["dice"] == pytest.approx(float(overlap), rel=1e-5)
    assert scores["iou"] == pytest.approx(scores["dice"] / (2 - scores["dice"]))


def test_distance_is_in_millimetres_along_each_axis() -> None:
    a = np.zeros((20, 20, 20), dtype=bool)
    a[5, 5, 5] = True
    for axis, size in enumerate(SPACING):
        assert compare_masks(a, np.roll(a, 4, axis), AFFINE)["hd95_mm"] == pytest.approx(4 * size)


def test_a_missed_target_gets_the_worst_score_not_none() -> None:
    a, _ = blobs(0)
    scores = compare_masks(a, np.zeros_like(a), AFFINE)
    diagonal = math.sqrt((18 * 3) ** 2 + (20 * 2) ** 2 + (14 * 5) ** 2)
    assert scores["dice"] == scores["iou"] == 0.0
    assert scores["hd95_mm"] == pytest.approx(diagonal)
    assert (scores["missed"], scores["invented"], scores["volume_ratio"]) == (1.0, 0.0, 0.0)
    assert math.isnan(scores["wrong_side"])
    assert compare_masks(np.zeros_like(a), a, AFFINE)["invented"] == 1.0


def test_both_empty_is_excluded_and_counted() -> None:
    empty = np.zeros((4, 4, 4))
    scores = compare_masks(empty, empty, AFFINE)
    assert all(math.isnan(scores[name]) for name in ("dice", "iou", "hd95_mm", "volume_ratio", "wrong_side"))
    assert scores["both_empty"] == 1.0
    assert scores["missed"] == 0.0


@pytest.mark.parametrize("flip", [1.0, -1.0])
def test_side_comes_from_patient_coordinates(flip: float) -> None:
    affine = np.diag([3.0 * flip, 2.0, 5.0, 1.0])
    mask = np.zeros((10, 4, 4))
    mask[7:9] = 1  # high index: the patient's right when x grows with the index, left when it shrinks
    mask[4] = 1  # the smaller part may cross the midline
    assert side_of(mask, affine) is (Side.RIGHT if flip > 0 else Side.LEFT)
    assert compare_masks(mask, mask[::-1], affine)["wrong_side"] == 1.0
    assert compare_masks(mask, mask, affine)["wrong_side"] == 0.0


def test_body_midline_follows_a_patient_who_lies_off_centre() -> None:
    array = np.full((40, 6, 6), -1000.0)
    array[20:31, 1:5, 1:5] = 0
    affine = AFFINE.copy()
    affine[0, 3] = -60
    assert body_midline(array, affine) == pytest.approx(25 * 3 - 60)
    with pytest.raises(DataError, match="no body"):
        body_midline(np.full((3, 3, 3), -1000.0), affine)


def test_table_check() -> None:
    values = np.array([0.0, 0.5, 0.9, 1.0])
    check_table(values.mean(), (values / (2 - values)).mean())
    with pytest.raises(ArithmeticError, match="outside"):
        check_table(0.8, 0.5)
    with pytest.raises(ArithmeticError, match="outside"):
        check_table(0.8, 0.81)


def test_other_shape_is_refused() -> None:
    with pytest.raises(DataError, match="shape"):
        compare_masks(np.zeros((2, 2, 2)), np.zeros((3, 2, 2)), AFFINE)
