"""Folders, a key and a CT for the endpoint's tests."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from serve.config import ServeConfig

KEY = "test-key-of-the-endpoint"


@pytest.fixture
def api_key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ROLLAMA_API_KEY", KEY)
    return KEY


@pytest.fixture
def config(tmp_path: Path) -> ServeConfig:
    """`data/ct.nii.gz` is a cylinder of tissue in air; `secret.nii.gz` lies outside the data folder."""
    (tmp_path / "data").mkdir()
    x, y, _ = np.meshgrid(np.linspace(-1, 1, 30), np.linspace(-1, 1, 24), np.arange(12), indexing="ij")
    array = np.where(x**2 + y**2 < 0.8, 30, -1000).astype(np.int16)
    affine = np.diag([6.0, 6.0, 6.0, 1.0])
    affine[0, 3] = -87.0
    for path in (tmp_path / "data" / "ct.nii.gz", tmp_path / "secret.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return ServeConfig(models=tmp_path / "models", data_folder=tmp_path / "data", results_folder=tmp_path / "results")
