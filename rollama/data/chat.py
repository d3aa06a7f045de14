"""From a task's text to the token ids a model reads, in the form that the base was trained on.

An instruction-tuned base answers best in its own chat form, and a form that is nearly right (a space, a newline,
another closing token) costs quality without any error. So the forms are written down here once, as their authors define
them, for training, evaluation and serving:

    plain    ### Clinical note ... ### Summary, for a base that was not tuned; closed by the end-of-text token
    llama2   [INST] ... [/INST] answer, closed by </s>            (facebookresearch/llama, generation.py)
    llama3   <|start_header_id|>user<|end_header_id|> ..., closed by <|eot_id|>      (llama-models, chat_format.py)
    chat     the chat template that the base's tokenizer carries
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rollama.core.errors import ConfigError
from rollama.core.registry import Task
from rollama.data.prompts import build_instruction, build_prompt


class Template(StrEnum):
    """How prompt and answer are written."""

    PLAIN = "plain"
    LLAMA2 = "llama2"
    LLAMA3 = "llama3"
    CHAT = "chat"


_MARK = "\x00answer\x00"


@dataclass(frozen=True)
class Form:
    """A template with a base's tokenizer.

    Attributes:
        before, after: what stands around the instruction in the prompt.
        special: whether the tokenizer adds its opening token to the prompt (else `before` has it).
        trail: what follows the answer before the closing token.
        closing: id of the token that ends an answer.
        opening: id of a token before everything, where neither the tokenizer nor `before` adds it.
    """

    tokenizer: Any
    template: Template
    before: str
    after: str
    special: bool
    trail: str
    closing: int
    opening: int | None = None

    def prompt(self, task: Task, text: str) -> list[int]:
        """Token ids up to where the answer begins."""
        first = [] if self.opening is None else [self.opening]
        return first + self.ids(self._wrapped(task, text), self.special)

    def placed_prompt(self, task: Task, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """As `prompt`, and which characters of `text` each token stands for; (0, 0) where none."""
        start = self._wrapped(task, _MARK).index(_MARK)
        ids, places = self.placed(self._wrapped(task, text), self.special)
        inside = [
            (max(a - start, 0), min(b - start, len(text))) if a < start + len(text) and b > start else (0, 0)
            for a, b in places
        ]
        return (ids, inside) if self.opening is None else ([self.opening, *ids], [(0, 0), *inside])

    def _wrapped(self, task: Task, text: str) -> str:
        body = build_prompt(task, text) if self.template is Template.PLAIN else build_instruction(task, text)
        return self.before + body + self.after

    def answer(self, text: str) -> list[int]:
        """Token ids of an answer, the closing token last."""
        return [*self.ids(text.strip() + self.trail, special=False), self.closing]

    def ids(self, text: str, special: bool) -> list[int]:
        """Token ids of a text; a closing token that the tokenizer adds by itself is taken off."""
        ids = [int(token) for token in self.tokenizer(text, add_special_tokens=special)["input_ids"]]
        if special and ids and ids[-1] == self.tokenizer.eos_token_id:
            ids.pop()
        return ids

    def placed(self, text: str, special: bool) -> tuple[list[int], list[tuple[int, int]]]:
        """As `ids`, and which characters of the text each token stands for; needs a fast tokenizer."""
        found = self.tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
        ids = [int(token) for token in found["input_ids"]]
        places = [(int(start), int(end)) for start, end in found["offset_mapping"]]
        if special and ids and ids[-1] == self.tokenizer.eos_token_id:
            return ids[:-1], places[:-1]
        return ids, places


def form_of(tokenizer: Any, template: Template) -> Form:
    """The form of a template with a tokenizer.

    Raises:
        ConfigError: the tokenizer lacks a token that the template needs, or carries no chat template.
    """
    match template:
        case Template.PLAIN:
            return Form(tokenizer, template, "", "", True, "", _end(tokenizer))
        case Template.LLAMA2:
            if tokenizer.bos_token_id is None:
                raise ConfigError("template llama2: the base's tokenizer has no opening token; accepted: plain, chat")
            opening = int(tokenizer.bos_token_id)
            return Form(tokenizer, template, "[INST] ", " [/INST]", False, " ", _end(tokenizer), opening)
        case Template.LLAMA3:
            user, assistant = (f"<|start_header_id|>{role}<|end_header_id|>\n\n" for role in ("user", "assistant"))
            closing = _token(tokenizer, "<|eot_id|>", template)
            _token(tokenizer, "<|start_header_id|>", template)
            before, after = "<|begin_of_text|>" + user, "<|eot_id|>" + assistant
            return Form(tokenizer, template, before, after, False, "", closing)
        case Template.CHAT:
            return _own(tokenizer)


def _own(tokenizer: Any) -> Form:
    """What the tokenizer's template puts around a message, found by rendering a mark."""
    if not tokenizer.chat_template:
        raise ConfigError(
            "template chat: the base's tokenizer carries no chat template; accepted: plain, llama2, llama3"
        )
    user = [{"role": "user", "content": _MARK}]
    asked = tokenizer.apply_chat_template(user, add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template([*user, {"role": "assistant", "content": _MARK}], tokenize=False)
    if asked.count(_MARK) != 1 or not whole.startswith(asked):
        raise ConfigError(
            "template chat: the tokenizer's chat template changes what it wraps; use plain, llama2 or llama3"
        )
    before, after = asked.split(_MARK)
    tail = tokenizer(whole[len(asked) :].removeprefix(_MARK), add_special_tokens=False)["input_ids"]
    closing = next((int(token) for token in tail if int(token) in tokenizer.all_special_ids), None)
    if closing is None:
        raise ConfigError("template chat: the tokenizer's chat template closes an answer with no special token")
    return Form(tokenizer, Template.CHAT, before, after, False, "", closing)


def _end(tokenizer: Any) -> int:
    if tokenizer.eos_token_id is None:
        raise ConfigError("the base's tokenizer has no end-of-text token: a model could never stop; set eos_token")
    return int(tokenizer.eos_token_id)


def _token(tokenizer: Any, token: str, template: Template) -> int:
    found = tokenizer.get_vocab().get(token)
    if found is None:
        raise ConfigError(f"template {template}: the base's tokenizer has no token {token}; accepted: plain, chat")
    return int(found)
