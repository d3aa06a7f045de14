"""One small cohort for all job tests that train or evaluate; the jobs start Ray themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollama.cohort.make import make_cohort
from rollama.presets import load_preset


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny preset's cohort."""
    root = tmp_path_factory.mktemp("jobs") / "cohort"
    make_cohort(root, load_preset("tiny").cohort, None)
    return root
