"""Surface distances against three other implementations on the same masks."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rollama.evaluation.masks import axial_axis
from rollama.evaluation.surfaces import METRICS, TOLERANCES_MM, added_path_length, crop, hausdorff, surface_metrics
from tests.evaluation.test_masks import SPACING, blobs


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # theirs imports SciPy the old way
@pytest.mark.parametrize("seed", range(4))
def test_surface_dice_equals_deepminds(seed: int) -> None:
    from surface_distance import compute_surface_dice_at_tolerance, compute_surface_distances

    a, b = blobs(seed)
    found = surface_metrics(a, b, SPACING)
    theirs = compute_surface_distances(a, b, SPACING)
    for mm in TOLERANCES_MM:
        wanted = compute_surface_dice_at_tolerance(theirs, mm)
        assert found[f"surface_dice_{mm}mm"] == pytest.approx(float(wanted), abs=1e-5)
    assert 0 < found["surface_dice_2mm"] < found["surface_dice_3mm"] < found["surface_dice_5mm"] < 1


@pytest.mark.parametrize("seed", range(2))
def test_plastimatch(seed: int, tmp_path: Path) -> None:
    """Equal Dice and Hausdorff distance. Its 95 % distance is the *mean* of the two directions, ours their maximum."""
    import nibabel
    import plastimatch

    masks = blobs(seed)
    for name, mask in zip("ab", masks, strict=True):
        image = nibabel.Nifti1Image(mask.astype(np.uint8), np.diag([*SPACING, 1.0]))  # type: ignore[no-untyped-call]
        nibabel.save(image, tmp_path / f"{name}.nii.gz")
    binary = Path(plastimatch.__file__).parent / "bin" / "plastimatch"
    done = subprocess.run(
        [str(binary), "dice", "--all", str(tmp_path / "a.nii.gz"), str(tmp_path / "b.nii.gz")],
        capture_output=True, text=True, check=True, env={"PATH": str(Path(sys.executable).parent)},
    )  # fmt: skip
    theirs = {name.strip(): float(value) for name, value in re.findall(r"^(.+?)(?: =|:) +([\d.]+)$", done.stdout, re.M)}
    a, b = masks
    assert theirs["DICE"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), abs=1e-5)
    assert theirs["Hausdorff distance (boundary)"] == pytest.approx(hausdorff(*crop(a, b), SPACING, 100)[0], rel=1e-5)
    ways = sorted(_directed(a, b))
    assert theirs["Percent (0.95) Hausdorff distance (boundary)"] == pytest.approx(sum(ways) / 2, abs=0.2)
    assert surface_metrics(a, b, SPACING)["hd95_mm"] == pytest.approx(ways[1])


def _directed(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """The two directed 95th percentiles by comparing every surface voxel with every other."""
    from scipy.ndimage import binary_erosion
    from scipy.spatial.distance import cdist

    one, two = (np.argwhere(mask & ~binary_erosion(mask)) * SPACING for mask in (a, b))
    table = cdist(one, two)
    return float(np.percentile(table.min(1), 95)), float(np.percentile(table.min(0), 95))


def test_pooled_is_the_percentile_of_both_directions_together() -> None:
    a, b = np.zeros((30, 9, 9), bool), np.zeros((30, 9, 9), bool)
    a[2:6, 3:6, 3:6] = True
    b[2:6, 3:6, 3:6] = True
    b[20, 4, 4] = True  # one far voxel: more than 5 % of neither, and it moves only the plain Hausdorff distance
    directed, pooled = hausdorff(a, b, (1.0, 1.0, 1.0), 98)
    assert directed > 0 and pooled == 0
    assert hausdorff(a, b, (1.0, 1.0, 1.0), 100) == (15.0, 15.0)


def test_empty_masks() -> None:
    a, _ = blobs(0)
    empty = np.zeros_like(a)
    assert all(math.isnan(value) for value in surface_metrics(empty, empty, SPACING).values())
    missed, invented = surface_metrics(a, empty, SPACING), surface_metrics(empty, a, SPACING)
    diagonal = math.sqrt((18 * 3) ** 2 + (20 * 2) ** 2 + (14 * 5) ** 2)
    for found in (missed, invented):
        assert tuple(found) == METRICS
        assert found["hd95_mm"] == found["hd95_pooled_mm"] == pytest.approx(diagonal)
        assert found["surface_dice_5mm"] == 0
    assert missed["added_path_mm"] == added_path_length(a, empty, SPACING) > 0
    assert math.isnan(invented["added_path_mm"])


def test_added_path_is_the_contour_that_is_not_shared() -> None:
    a = np.zeros((12, 12, 4), bool)
    a[2:8, 2:8, 1:3] = True  # a contour of 20 pixels in each of two slices
    assert added_path_length(a, np.zeros_like(a), (2.0, 2.0, 5.0)) == 2 * 20 * 2.0
    assert added_path_length(a, a, (2.0, 2.0, 5.0)) == 0
    half = a.copy()
    half[:, :, 2] = False
    assert added_path_length(a, half, (2.0, 2.0, 5.0)) == 20 * 2.0
    turned = np.moveaxis(a, 2, 0)
    affine = np.array([[0, 2.0, 0, 0], [0, 0, 2.0, 0], [5.0, 0, 0, 0], [0, 0, 0, 1]])
    assert axial_axis(affine) == 0
    assert added_path_length(turned, np.moveaxis(half, 2, 0), (5.0, 2.0, 2.0), 0) == 20 * 2.0
