"""Making a cohort on Ray: the same bytes as in one process, errors that say what happened, nothing left behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import ray

from ray_jobs.make_cohort import run_on_ray
from rollama.cohort.config import CohortConfig
from rollama.cohort.make import make_cohort
from rollama.cohort.scan import Item
from rollama.core.errors import ClusterError, DataError
from rollama.data.case import Split

pytestmark = pytest.mark.slow
TINY = CohortConfig(size="xs", train=2, validation=0, test=1, external=2, combination=0)


def test_it_gives_the_same_bytes_as_one_process(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    made = make_cohort(tmp_path / "ray", TINY, lambda done, total: seen.append((done, total)), run_on_ray)
    assert made.content_hash == make_cohort(tmp_path / "here", TINY).content_hash
    assert seen == [(number + 1, TINY.cases) for number in range(TINY.cases)]
    assert not ray.is_initialized()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "ray"]


class Full:
    """Work that meets a full disk."""

    def __call__(self, item: Item) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


class Bad:
    """Work that meets a case that cannot be."""

    def __call__(self, item: Item) -> None:
        raise DataError(f"{item.name}: impossible geometry")


ITEMS = [Item("northgate", Split.TRAIN, index) for index in range(6)]


def test_errors_of_workers_are_those_of_one_process() -> None:
    with pytest.raises(OSError, match="No space left") as full:
        list(run_on_ray(Full(), ITEMS))
    assert full.value.errno == errno.ENOSPC
    with pytest.raises(DataError, match=r"^northgate-train-000\d: impossible geometry$"):
        list(run_on_ray(Bad(), ITEMS))
    assert not ray.is_initialized()


class Dies:
    """Work that ends its process."""

    def __call__(self, item: Item) -> None:
        os._exit(3)


def test_a_worker_that_dies_is_one_sentence() -> None:
    with pytest.raises(ClusterError, match="what is finished is kept"):
        list(run_on_ray(Dies(), ITEMS[:1], workers=1))
    assert not ray.is_initialized()


def test_nothing_to_do_starts_no_ray() -> None:
    assert list(run_on_ray(Bad(), [])) == []
    assert not ray.is_initialized()
