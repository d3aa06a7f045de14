"""From a text to the prompt that its task was trained on, and from tokens back to an answer.

Which engine writes the tokens in between does not matter here: the wording around a text, the tokens that end an answer
and the room in the context belong to the artefacts and their base.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rollama.core.errors import ConfigError, DataError
from rollama.core.registry import Task
from rollama.data.chat import Form, Template, form_of
from rollama.data.sides import other_side
from rollama.language.base import BaseInfo
from rollama.text.checkpoint import TextArtefact


@dataclass(frozen=True)
class Generation:
    """An answer; `finished` is False when it was cut at the token limit.

    `other`: what else a second look at the mirrored text led to, where there was one that disagreed (see `looks`).
    """

    text: str
    finished: bool
    other: str | None = field(default=None, repr=False)


class Forms:
    """Prompts, limits and ends of the tasks that a model answers."""

    def __init__(
        self,
        tasks: Mapping[Task, int],
        tokenizer: Any,
        base: BaseInfo,
        artefacts: Mapping[Task, TextArtefact],
        context: int,
        ends: int | list[int] | None,
    ) -> None:
        """Take what the base says.

        Args:
            tasks: most tokens of an answer of each task.
            tokenizer: of the base.
            base: which it is.
            artefacts: of the trained tasks; the untrained base is asked through its chat template, if it has one.
            context: tokens that the base can read.
            ends: tokens that end an answer by the base's generation settings.
        """
        self.limits, self.tokenizer, self.base, self.artefacts = dict(tasks), tokenizer, base, dict(artefacts)
        self.context = context
        self._ends = set(ends if isinstance(ends, list) else [ends] if ends is not None else [])
        self._forms = {task: self._form(task) for task in tasks}

    def prompt(self, task: Task, text: str, name: str = "text", limit: int | None = None) -> list[int]:
        """Token ids of a text in the form that its task was trained on.

        Args:
            task: S or P.
            text: a note or a summary.
            name: for messages.
            limit: most tokens of the answer; default: the task's.

        Raises:
            ConfigError: no model for this task is loaded.
            DataError: the text is empty, or leaves no room for an answer in the context.
        """
        self.require(task)
        if not text.strip():
            raise DataError(f"{name} for task {task} is empty")
        limit = limit or self.limits[task]
        ids = self._forms[task].prompt(task, text)
        if len(ids) + limit > self.context:
            raise DataError(
                f"{name} for task {task} has {len(ids)} tokens; the base's context of {self.context} tokens leaves "
                f"room for {max(0, self.context - limit)} beside an answer of {limit}: shorten it"
            )
        return ids

    def prompts(self, task: Task, text: str, name: str = "text", limit: int | None = None) -> list[list[int]]:
        """As `prompt`, and that of the mirrored text where the task's model takes a second look and a side is named.

        Raises:
            ConfigError, DataError: see `prompt`; the mirrored text may be a token longer than the text.
        """
        found = [self.prompt(task, text, name, limit)]
        if task in self.artefacts and self.artefacts[task].config.mirrored_look:
            mirrored = other_side(text)
            if mirrored != text:
                found.append(self.prompt(task, mirrored, name, limit))
        return found

    def answer(self, task: Task, text: str) -> list[int]:
        """Token ids of an answer to score, the closing token last."""
        return self._forms[task].answer(text)

    def require(self, task: Task) -> None:
        """Refuse a task without a model.

        Raises:
            ConfigError: it is one.
        """
        if task not in self.limits:
            raise ConfigError(f"no model for task {task} is loaded; loaded: {', '.join(self.limits) or 'none'}")

    def decode(self, tokens: list[int]) -> str:
        """The text of an answer's tokens."""
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return text.strip()

    def stop_tokens(self, task: Task) -> set[int]:
        """Token ids that end an answer of a task."""
        return {int(self.tokenizer.eos_token_id), self._forms[task].closing} | self._ends

    def _form(self, task: Task) -> Form:
        if task in self.artefacts:
            return form_of(self.tokenizer, self.artefacts[task].config.template)
        return form_of(self.tokenizer, Template.CHAT if self.tokenizer.chat_template else Template.PLAIN)
