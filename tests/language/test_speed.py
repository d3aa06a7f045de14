from __future__ import annotations

import pytest

from rollama.core.errors import DataError
from rollama.core.files import read_json, write_json
from rollama.language import speed
from rollama.language.speed import faster_dtype


@pytest.mark.parametrize(("bfloat16", "float32", "wanted"), [(200.0, 100.0, "bfloat16"), (60.0, 100.0, "float32")])
def test_the_faster_is_chosen_once(tmp_path, monkeypatch, bfloat16, float32, wanted):
    speeds = {"bfloat16": bfloat16, "float32": float32}
    monkeypatch.setattr(speed, "_gflops", speeds.__getitem__)
    assert faster_dtype(tmp_path / "runs" / "a.json") == wanted
    speeds[wanted] = 1.0  # a slow minute later: what was begun goes on
    assert faster_dtype(tmp_path / "runs" / "a.json") == wanted


def test_it_is_measured(tmp_path):
    assert faster_dtype(tmp_path / "a.json") in ("bfloat16", "float32")
    assert min(read_json(tmp_path / "a.json")["gflops"].values()) > 0
    write_json(tmp_path / "a.json", {"faster": "float64"})
    with pytest.raises(DataError, match="bfloat16 or float32"):
        faster_dtype(tmp_path / "a.json")
