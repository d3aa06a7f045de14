"""Rows of token ids for fine-tuning, masked by position, never cut silently.

Two mistakes are common and quiet. Masking padding by token id hides the closing end-of-text token where pad and end
share an id, and the model never learns to stop; so a row knows its answer by position. And cutting long rows removes
answers; so a row over the limit is an error that names the cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rollama.core.errors import DataError
from rollama.core.registry import Task
from rollama.data.case import TextCase
from rollama.data.chat import Template, form_of


@dataclass(frozen=True)
class TokenRow:
    """One training row: prompt, answer and the closing end-of-text token.

    Attributes:
        ids: all tokens.
        prompt_length: tokens that belong to the prompt; `ids[prompt_length:]` is the answer with its end token.
    """

    case_id: str
    ids: tuple[int, ...]
    prompt_length: int

    @property
    def answer_length(self) -> int:
        """Tokens the loss counts, the end token included."""
        return len(self.ids) - self.prompt_length


@dataclass(frozen=True)
class LengthReport:
    """Lengths of a set of rows in tokens: median, 90th percentile, longest; and the share that is answer."""

    rows: int
    median: int
    p90: int
    longest: int
    answer_share: float


def source_and_answer(task: Task, case: TextCase) -> tuple[str, str]:
    """What S or P reads and writes for a case: note and summary, or summary and plan text."""
    return (case.note, case.summary) if task is Task.SUMMARY else (case.summary, case.plan_text)


def tokenize_cases(
    tokenizer: Any, task: Task, cases: Iterable[TextCase], max_tokens: int, template: Template = Template.PLAIN
) -> list[TokenRow]:
    """Rows of all cases, in their order.

    Raises:
        DataError: rows longer than `max_tokens` (names the cases), or an empty text or answer.
        ConfigError: the tokenizer lacks a token that the template needs.
    """
    form = form_of(tokenizer, template)
    rows, too_long, empty = [], [], []
    for case in cases:
        text, answer = source_and_answer(task, case)
        prompt = form.prompt(task, text)
        row = TokenRow(case.case_id, (*prompt, *form.answer(answer)), len(prompt))
        rows.append(row)
        if not answer.strip() or not text.strip():
            empty.append(case.case_id)
        if len(row.ids) > max_tokens:
            too_long.append(f"{case.case_id} ({len(row.ids)})")
    if empty:
        raise DataError(f"task {task}: text or answer is empty in {len(empty)} case(s): {', '.join(empty[:20])}")
    if too_long:
        raise DataError(
            f"task {task}: {len(too_long)} case(s) have more than max_tokens={max_tokens} tokens and would lose part "
            f"of their answer: {', '.join(too_long[:20])}; raise max_tokens or shorten the text"
        )
    return rows


def length_report(rows: Sequence[TokenRow]) -> LengthReport:
    """Summarise the lengths of at least one row."""
    lengths = sorted(len(row.ids) for row in rows)
    share = sum(row.answer_length for row in rows) / sum(lengths)
    last = len(lengths) - 1
    return LengthReport(len(lengths), lengths[last // 2], lengths[round(0.9 * last)], lengths[last], share)
