"""Overlap and distance of target masks, with misses counted instead of dropped.

Common tools return NaN for the HD95 of a missed structure and leave it out of the mean, so a model that misses more
looks better (MONAI issue 9095). The policy here:

=================  ==================  ==============================  ===============  =======================
case               Dice, IoU, surface  HD95                            volume ratio     counted as
=================  ==================  ==============================  ===============  =======================
both empty         NaN                 NaN, excluded                   NaN              `both_empty`
one of two empty   0                   the image's diagonal in mm      0, NaN           `missed` or `invented`
=================  ==================  ==============================  ===============  =======================

Distances between surfaces are defined in `surfaces`, what a mask holds of each nodal level in `levels`.
"""

from __future__ import annotations

import math

import numpy as np

from rollama.core.errors import DataError
from rollama.data.plan import Side
from rollama.evaluation import surfaces

METRICS = ("dice", "iou", *surfaces.METRICS, "volume_ratio", "missed", "invented", "both_empty", "wrong_side")
BODY_HU = -400.0
"""Voxels above this belong to the body rather than to air; only their median position is used."""


def compare_masks(
    reference: np.ndarray, predicted: np.ndarray, affine: np.ndarray, midline_x: float | None = None
) -> dict[str, float]:
    """All mask metrics of one case.

    Args:
        reference, predicted: (x, y, z), non-zero is target.
        affine: 4x4, voxel index -> patient mm (RAS+).
        midline_x: patient x of the midline in mm; the volume's centre when not given.

    Returns:
        The keys of `METRICS`. `wrong_side` is NaN when either mask is empty: such a case is a miss, not a side error.

    Raises:
        DataError: the shapes differ.
        ArithmeticError: Dice and IoU contradict each other, which is a bug.
    """
    if reference.shape != predicted.shape:
        raise DataError(f"masks: the predicted mask has shape {predicted.shape}, the reference {reference.shape}")
    a, b = reference != 0, predicted != 0
    empty_a, empty_b = not a.any(), not b.any()
    d, i = dice(a, b), iou(a, b)
    if not (empty_a and empty_b) and not math.isclose(i, d / (2 - d), abs_tol=1e-9):
        raise ArithmeticError(f"IoU {i} is not Dice/(2-Dice) of Dice {d}")
    sides = side_of(a, affine, midline_x), side_of(b, affine, midline_x)
    return {
        "dice": d,
        "iou": i,
        **surfaces.surface_metrics(a, b, voxel_size(affine), axial_axis(affine)),
        "volume_ratio": math.nan if empty_a else float(b.sum()) / float(a.sum()),
        "missed": float(empty_b and not empty_a),
        "invented": float(empty_a and not empty_b),
        "both_empty": float(empty_a and empty_b),
        "wrong_side": math.nan if None in sides else float(sides[0] != sides[1]),
    }


def voxel_size(affine: np.ndarray) -> tuple[float, float, float]:
    """Voxel size along each array axis in mm."""
    x, y, z = (float(value) for value in np.linalg.norm(affine[:3, :3], axis=0))
    return (x, y, z)


def axial_axis(affine: np.ndarray) -> int:
    """The array axis that runs most nearly along the patient."""
    return int(np.abs(affine[2, :3] / np.linalg.norm(affine[:3, :3], axis=0)).argmax())


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """2|A and B| / (|A| + |B|); NaN when both are empty."""
    a, b = a.astype(bool), b.astype(bool)
    total = int(a.sum()) + int(b.sum())
    return 2.0 * float(np.dot(a.ravel().astype(np.float64), b.ravel())) / total if total else math.nan


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """|A and B| / |A or B|, counted as sets and not derived from Dice; NaN when both are empty."""
    union = int(np.count_nonzero(np.logical_or(a, b)))
    return int(np.count_nonzero(np.logical_and(a, b))) / union if union else math.nan


def side_of(mask: np.ndarray, affine: np.ndarray, midline_x: float | None = None) -> Side | None:
    """The patient's side on which the larger part of a mask lies (RAS+: left is negative x); None when it is empty.

    Args:
        mask: (x, y, z), non-zero is target.
        affine: 4x4, voxel index -> patient mm.
        midline_x: patient x of the midline in mm; the volume's centre when not given.
    """
    indices = np.argwhere(mask)
    if not len(indices):
        return None
    if midline_x is None:
        midline_x = float(affine[0, :3] @ ((np.asarray(mask.shape) - 1) / 2) + affine[0, 3])
    x = indices @ affine[0, :3] + affine[0, 3]
    return Side.LEFT if np.count_nonzero(x < midline_x) * 2 > len(x) else Side.RIGHT


def body_midline(array: np.ndarray, affine: np.ndarray) -> float:
    """Patient x (mm) of the body's middle: the median over the voxels that are not air.

    Raises:
        DataError: the volume holds nothing but air.
    """
    indices = np.argwhere(array > BODY_HU)
    if not len(indices):
        raise DataError(f"CT: no voxel above {BODY_HU:g} HU, so it shows no body; is it in HU?")
    return float(np.median(indices @ affine[0, :3] + affine[0, 3]))


def check_table(mean_dice: float, mean_iou: float) -> None:
    """Check that a table's mean Dice and mean IoU can come from the same cases.

    Per case IoU = f(D) with f(D) = D / (2 - D), which is convex on [0, 1] and never above D. By Jensen's inequality
    the mean of f(D) is at least f(mean D), and it is at most mean D. Outside that range one column is wrong.

    Raises:
        ArithmeticError: the means contradict each other, which is a bug.
    """
    low = mean_dice / (2 - mean_dice)
    if not low - 1e-9 <= mean_iou <= mean_dice + 1e-9:
        raise ArithmeticError(f"mean IoU {mean_iou:.4f} is outside [{low:.4f}, {mean_dice:.4f}] of mean Dice")
