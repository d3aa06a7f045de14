"""Shared fixtures: a quiet environment without network, and single-process training."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["DS_ACCELERATOR"] = "cpu"
os.environ["MLFLOW_TRACKING_URI"] = ""  # no SQLite file a training; the tracking tests name their place


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a text file below the test's folder and return its path."""

    def _write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return _write


@pytest.fixture(autouse=True, scope="module")
def _ray_ends_with_the_module() -> Iterator[None]:
    """Workers inherit the environment of the test that started Ray; another module must not get them."""
    yield
    if ray := sys.modules.get("ray"):
        ray.shutdown()
