"""Many texts of both tasks in one decoding batch, each joining when it comes and leaving when it has ended.

An endpoint is asked for summaries and plans at any moment. One after the other, everybody waits for everybody; in
fixed batches, a request waits for the longest answer of the batch before it. Here every step reads the weights once
for all rows, whatever their task; new prompts are read when they come and join them. A step writes one token of each
row, or several where the row's next tokens could be guessed (`phrases`) and the model agrees.

Rows do not look at each other and are not padded, so an answer depends on its neighbours and on the guesses only
through the order of floating-point sums (see `generate`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from rollama.core.registry import Task
from rollama.text.forms import Generation
from rollama.text.grammar import Walk, constrain
from rollama.text.lean import Lean
from rollama.text.looks import candidates, log_likelihoods, other_answer, settled
from rollama.text.phrases import Phrases

if TYPE_CHECKING:
    from rollama.text.generate import TextModel

TOKENS_A_STEP = {"cpu": 32}
"""Written and guessed tokens of all rows, by kind of device: so many cost little more than one."""
OTHER_DEVICES = 256
MOST_GUESSED = 8
"""Tokens of one row in one step."""


@dataclass(eq=False)
class _Asked:
    """A text, and the answers to its looks so far (see `looks`)."""

    key: Hashable
    task: Task
    prompts: Sequence[list[int]] = field(repr=False)
    model: TextModel
    answers: dict[int, Generation] = field(default_factory=dict, repr=False)


@dataclass(eq=False)
class _Row:
    asked: _Asked
    look: int
    adapter: str | None
    prompt: list[int] = field(repr=False)
    limit: int
    stop: set[int]
    phrases: Phrases = field(repr=False)
    decode: Callable[[list[int]], str]
    walk: Walk | None = None
    written: list[int] = field(default_factory=list, repr=False)

    @property
    def size(self) -> int:
        return len(self.prompt) + self.limit

    @property
    def last(self) -> int:
        return self.written[-1] if self.written else self.prompt[-1]

    def take(self, token: int) -> bool | None:
        """Write a token; True when the answer has ended with it, False when it was cut, None when it goes on."""
        if token in self.stop:
            self.phrases.learn([*self.written, token])
            return True
        self.written.append(token)
        if self.walk is not None:
            self.walk.step(token)
        if len(self.written) < self.limit:
            return None
        self.phrases.learn(self.written)
        return False


class Decoder:
    """The running batch. Not thread-safe: one thread adds, removes and steps."""

    def __init__(self, model: TextModel, lean: Lean | None = None) -> None:
        """Decode with models whose adapters lie on one base.

        Args:
            model: whose prompts, limits and adapters are used where nothing else is said.
            lean: the base; default: the one that all tasks of `model` share.

        Raises:
            ConfigError: the tasks' models are wholly trained ones; they cannot share a batch.
        """
        self.model = model
        self.lean = lean or model.shared_base()
        self.most = TOKENS_A_STEP.get(self.lean.device.type, OTHER_DEVICES)
        self.waiting: list[_Row] = []
        self.rows: list[_Row] = []
        self.slots = self.lean.slots()

    def size(self, more: Sequence[int] = ()) -> int:
        """Rows times the longest that a row may become, which memory follows; with further rows of so many tokens."""
        sizes = [row.size for row in (*self.rows, *self.waiting)] + [*more]
        return len(sizes) * max(sizes, default=0)

    def cost(self, task: Task, text: str, model: TextModel | None = None) -> list[int]:
        """Tokens of each row that a text would need, its answer included; `model`: see `add`.

        Raises:
            DataError: the text is empty or longer than the context.
        """
        model = model or self.model
        return [len(prompt) + model.limits[task] for prompt in model.prompts(task, text)]

    def add(self, key: Hashable, task: Task, text: str, model: TextModel | None = None) -> None:
        """Let a text join at the next step; `key` names it in what `step` returns.

        Args:
            key: its name.
            task: S or P.
            text: a note or a summary.
            model: another release whose adapters lie on the same base; default: that of the decoder.

        Raises:
            ConfigError: no model for this task.
            DataError: the text is empty or longer than the context.
        """
        model = model or self.model
        self.join(key, task, model.prompts(task, text), model, model.limits[task])

    def join(self, key: Hashable, task: Task, prompts: Sequence[list[int]], model: TextModel, limit: int) -> None:
        """Let a text join at the next step by its `Forms.prompts`, the text as it is first."""
        asked = _Asked(key, task, prompts, model)
        for look, prompt in enumerate(prompts):
            row = _Row(
                asked, look, model.names[task], prompt, limit, model.stop_tokens(task), model.phrases[task],
                model.decode, model.walk(task),
            )  # fmt: skip
            self.waiting.append(row)

    def remove(self, key: Hashable) -> None:
        """Forget a text, wherever it is."""
        self.waiting = [row for row in self.waiting if row.asked.key != key]
        with torch.inference_mode():
            self._keep([place for place, row in enumerate(self.rows) if row.asked.key != key])

    def step(self) -> dict[Any, Generation]:
        """At least one token for every row; the answers that ended with it."""
        with torch.inference_mode():
            while self.waiting:
                self._read(self.waiting[0])
                self.rows.append(self.waiting.pop(0))
            return self._write() if self.rows else {}

    def _read(self, row: _Row) -> None:
        """Read a prompt but its last token, which the common step reads. Alone: a prompt keeps a processor busy."""
        place = self.slots.add()
        if row.prompt[:-1]:
            self.lean.states([row.prompt[:-1]], self.slots, [row.adapter], first=place)

    def _write(self) -> dict[Any, Generation]:
        room = min(MOST_GUESSED, self.most // len(self.rows) - 1)
        guesses = [row.phrases.guess(row.written, min(room, row.limit - len(row.written) - 1)) for row in self.rows]
        starts = list(self.slots.lengths)
        tokens = [[row.last, *guessed] for row, guessed in zip(self.rows, guesses, strict=True)]
        states = self.lean.states(tokens, self.slots, [row.adapter for row in self.rows])
        logits = self.lean.logits(states)
        likely, first = logits.argmax(-1).tolist(), 0
        ended: list[_Asked] = []
        keep = []
        for place, (row, guessed) in enumerate(zip(self.rows, guesses, strict=True)):
            for turn, guess in enumerate([*guessed, None]):
                token = likely[first + turn]
                if row.walk is not None:
                    token = int(constrain(logits[first + turn, None], [row.walk]).argmax())
                self.slots.lengths[place] = starts[place] + turn + 1  # what was guessed beyond is taken back
                end = row.take(token)
                if end is not None or token != guess:
                    break
            first += len(guessed) + 1
            if end is None:
                keep.append(place)
            else:
                row.asked.answers[row.look] = Generation(row.decode(row.written), end)
                if len(row.asked.answers) == len(row.asked.prompts):
                    ended.append(row.asked)
        self._keep(keep)
        return {asked.key: self._answer(asked) for asked in ended}

    def _answer(self, asked: _Asked) -> Generation:
        """The answer to a text all of whose looks have ended; scored when their rows are gone, to spare memory."""
        own = asked.answers[0]
        other = other_answer(own, asked.answers[1]) if len(asked.prompts) > 1 else None
        if other is None:
            return own
        model, task = asked.model, asked.task
        scores = [
            log_likelihoods(self.lean, model.names[task], prompt, [model.answer(task, text) for text in answers])
            for prompt, answers in zip(asked.prompts, candidates(own.text, other), strict=True)
        ]
        return settled(own, other, scores)

    def _keep(self, places: list[int]) -> None:
        if len(places) < len(self.rows):
            self.rows = [self.rows[place] for place in places]
            self.slots.keep(places)
