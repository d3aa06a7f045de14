"""An organ mask follows its CT onto every grid, and is refused on another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from rollama.core.errors import DataError
from rollama.data.organs import with_organs
from rollama.data.resampling import to_model_grid
from rollama.data.volumes import Volume, to_canonical

AFFINE = np.diag([-2.0, 2.0, 4.0, 1.0])  # stored from right to left


def ct() -> Volume:
    array = np.zeros((12, 10, 8), np.float32)
    array[1:5, 2:6, 2:6] = 100
    return Volume(array, AFFINE)


def test_organs_are_turned_and_resampled_with_the_ct() -> None:
    volume = replace(ct(), organs=(ct().array > 0).astype(np.uint8))
    canonical = to_canonical(volume)
    assert canonical.organs is not None
    assert np.array_equal(canonical.organs > 0, canonical.array > 0)
    fine = to_model_grid(volume, (1.0, 1.0, 2.0))
    assert fine.organs is not None
    assert fine.organs.shape == fine.shape
    assert np.array_equal(fine.organs > 0, fine.array >= 50)


def test_a_file_must_lie_on_the_ct(tmp_path: Path) -> None:
    mask = (ct().array > 0).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(mask, AFFINE), tmp_path / "organs.nii.gz")  # type: ignore[no-untyped-call]
    found = with_organs(ct(), tmp_path / "organs.nii.gz")
    assert found.organs is not None and np.array_equal(found.organs, mask)
    nibabel.save(nibabel.Nifti1Image(mask[:-1], AFFINE), tmp_path / "other.nii.gz")  # type: ignore[no-untyped-call]
    with pytest.raises(DataError, match="not on the grid"):
        with_organs(ct(), tmp_path / "other.nii.gz")
    with pytest.raises(DataError, match="organ mask of shape"):
        replace(ct(), organs=mask[:-1])
