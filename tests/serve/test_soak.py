"""The soak for five minutes, one kill of the whole server included: what the endpoint promises is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.soak import Sizes
from benchmarks.soak_clients import Books

ROOT = Path(__file__).resolve().parents[2]


def test_a_call_is_excused_only_while_there_is_no_server() -> None:
    books = Books(kills=[[10.0, 20.0], [30.0, float("inf")]])
    assert books.disturbed(5, 10) and books.disturbed(12, 13) and books.disturbed(19, 25) and books.disturbed(50, 51)
    assert not books.disturbed(5, 9) and not books.disturbed(21, 29)


def test_a_job_that_ends_otherwise_than_it_may_is_unexplained() -> None:
    books = Books()
    for name, may in (("a", ("done",)), ("b", ("done",)), ("c", ("failed 422",))):
        books.accepted(name, "upload", may)
    books.ended("a", {"state": "done", "error": None, "attempt": 2})
    books.ended("b", {"state": "failed", "error": {"status": 500, "detail": "interrupted"}, "attempt": 3})
    books.ended("c", {"state": "failed", "error": {"status": 422, "detail": "too long"}, "attempt": 1})
    assert books.unexplained == ["job of upload: failed 500 interrupted"]
    assert (books.jobs["a"].ended, books.jobs["a"].attempt) == ("done", 2)


def test_the_rise_of_memory_leaves_out_the_warm_up() -> None:
    moments = list(np.arange(0.0, 300.0, 2.0))
    flat = Sizes(moments=moments, pss=[min(900.0, 10 * at) for at in moments])
    assert flat.rise(flat.pss) == pytest.approx((0.0, 198 / 60))
    leaking = Sizes(moments=moments, pss=[900 + at for at in moments])
    assert leaking.rise(leaking.pss)[0] == pytest.approx(198)
    assert np.isnan(Sizes(moments=[1.0], pss=[1.0]).rise([1.0])[0])


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_promises_are_kept_with_a_kill(tmp_path: Path) -> None:
    begun = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "--minutes", "5", "--kills", "server", "--out", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (tmp_path / "soak.json").is_file(), done.stderr[-3000:]
    found = json.loads((tmp_path / "soak.json").read_text())
    assert all(promise["kept"] for promise in found["promises"].values()), (tmp_path / "soak.md").read_text()
    assert done.returncode == 0
    assert [kill["kind"] for kill in found["kills"]] == ["server"]
    judged = {judgement for _, judgement, _, _ in found["calls"]}
    assert "expected" in judged and judged <= {"expected", "disturbed", "busy", "as it may"}
    assert sum(count for name, count in found["jobs"].items() if "done" in name) > 0
    assert found["stored_jobs"] >= sum(found["jobs"].values())
    assert (tmp_path / "soak.json").stat().st_mtime >= begun
