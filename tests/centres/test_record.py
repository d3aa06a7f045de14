"""The record of what left: every kind of tampering is found, a cut tail with a head kept elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rollama.centres.federation import record
from rollama.core.chain import FIRST
from rollama.core.config import hash_json
from rollama.core.errors import DataError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    for number in range(4):
        record.append(tmp_path / "record.jsonl", "left", round=number, bytes=20)
    return tmp_path / "record.jsonl"


def test_a_whole_record_is_whole(path: Path) -> None:
    assert record.verify(path) == []
    assert [line["round"] for line in record.read(path)] == [0, 1, 2, 3]
    assert record.read(path)[0]["previous"] == FIRST


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: [lines[0], lines[1].replace('"bytes": 20', '"bytes": 21'), *lines[2:]], "line 2 was changed"),
        (lambda lines: [lines[0], *lines[2:]], "line 2 is missing"),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], "line 2 is missing"),
        (lambda lines: lines[1:], "line 1 is missing"),
        (lambda lines: [*lines, lines[-1]], "line 5 is missing: what stands there has another number"),
        (lambda lines: [*lines[:2], "{", *lines[3:]], "line 3 is not JSON"),
    ],
)
def test_tampering_is_found(path: Path, change: Callable[[list[str]], list[str]], words: str) -> None:
    path.write_text("".join(line + "\n" for line in change(path.read_text().splitlines())))
    assert any(words in problem for problem in record.verify(path))


def test_a_cut_tail_needs_a_head_kept_elsewhere(path: Path) -> None:
    head = record.read(path)[-1]["hash"]
    assert record.verify(path, head) == []
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines()[:-1]))
    assert record.verify(path) == []
    assert "lines at the end are missing" in record.verify(path, head)[0]


def test_a_word_with_a_line_separator_is_one_line(path: Path) -> None:
    record.append(path, "failed", reason="one\u2028two")
    assert record.verify(path) == [] and record.read(path)[-1]["reason"] == "one\u2028two"


def test_a_record_begun_by_an_earlier_version_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    body = {"number": 1, "time": "2026-11-01T00:00:00.000+00:00", "event": "left", "previous": "0" * 64}
    path.write_text(json.dumps({**body, "hash": hash_json(body)}) + "\n")
    record.append(path, "left", round=1)
    assert record.verify(path) == [] and record.read(path)[1]["previous"] == hash_json(body)


def test_a_damaged_record_takes_no_more_lines(path: Path) -> None:
    path.write_text(path.read_text() + "half a li")
    with pytest.raises(DataError, match="line 5 is not JSON"):
        record.append(path, "left", round=5)


@pytest.mark.parametrize(
    ("events", "cut_off"),
    [
        ([], False),
        (["started", "asked", "accepted"], True),
        (["started", "asked", "stopped"], False),
        (["started", "finished", "model"], False),
        (["started", "stopped", "started", "refused"], True),
    ],
)
def test_a_run_that_was_cut_off_is_told_from_one_that_ended(tmp_path: Path, events: list[str], cut_off: bool) -> None:
    path = tmp_path / "record.jsonl"
    for event in events:
        record.append(path, event)
    assert record.unfinished(path) == cut_off
