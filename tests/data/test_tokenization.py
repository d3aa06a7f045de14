from __future__ import annotations

from pathlib import Path

import pytest

from rollama.core.errors import DataError
from rollama.core.registry import Task
from rollama.data.case import Case, Split
from rollama.data.prompts import build_prompt
from rollama.data.tokenization import length_report, tokenize_cases
from rollama.language.base import load_tokenizer


def case(name: str, note: str = "A SYNTHETIC note.", summary: str = "Left breast.") -> Case:
    return Case(
        case_id=name,
        centre="a",
        split=Split.TRAIN,
        note=note,
        summary=summary,
        plan=None,
        plan_text="Left side.",
        image=Path("x"),
        target=Path("y"),
        spacing=(1, 1, 1),
    )


def test_row_is_prompt_answer_and_one_end_token() -> None:
    tokenizer = load_tokenizer("tiny")
    (row,) = tokenize_cases(tokenizer, Task.SUMMARY, [case("a")], 200)
    assert tokenizer.decode(row.ids[: row.prompt_length]) == build_prompt(Task.SUMMARY, "A SYNTHETIC note.")
    assert tokenizer.decode(row.ids[row.prompt_length : -1]) == "Left breast."
    assert row.ids[-1] == tokenizer.eos_token_id and tokenizer.eos_token_id not in row.ids[:-1]
    assert row.answer_length == len(row.ids) - row.prompt_length


def test_plan_task_reads_the_summary() -> None:
    tokenizer = load_tokenizer("tiny")
    (row,) = tokenize_cases(tokenizer, Task.PLAN, [case("a")], 200)
    assert tokenizer.decode(row.ids[:-1]) == build_prompt(Task.PLAN, "Left breast.") + "Left side."


def test_long_rows_are_refused_by_case_id_without_text() -> None:
    cases = [case("fits"), case("too-long", note="secret words " * 100)]
    with pytest.raises(DataError, match=r"too-long \(\d+\).*max_tokens") as caught:
        tokenize_cases(load_tokenizer("tiny"), Task.SUMMARY, cases, 60)
    assert "secret" not in str(caught.value) and "fits" not in str(caught.value)


def test_blank_answer_is_refused() -> None:
    with pytest.raises(DataError, match="blank"):
        tokenize_cases(load_tokenizer("tiny"), Task.SUMMARY, [case("blank", summary=" ")], 200)


def test_length_report() -> None:
    rows = tokenize_cases(load_tokenizer("tiny"), Task.SUMMARY, [case("a"), case("b", note="word " * 30)], 200)
    report = length_report(rows)
    assert report.rows == 2 and report.longest == len(rows[1].ids) and report.median == len(rows[0].ids)
    assert 0 < report.answer_share < 1
