"""One local Ray and one small cohort for all job tests that train or evaluate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_jobs.common import start_ray
from rollama.cohort.make import make_cohort
from rollama.presets import load_preset


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Path:
    """The tiny preset's cohort, with Ray running."""
    root = tmp_path_factory.mktemp("jobs") / "cohort"
    make_cohort(root, load_preset("tiny").cohort, None)
    return root


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """Ray in this process, ended with the tests."""
    import ray

    start_ray(2)
    yield
    ray.shutdown()
