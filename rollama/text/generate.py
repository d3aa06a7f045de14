"""Greedy generation with S and P on one base.

The base is the large part, so it is loaded once and carries one named adapter per task. Texts are sorted by length,
padded on the left in batches, and rows that have finished are taken out of the batch, so that one long answer does not
make the others wait. Decoding is greedy: the same text gives the same answer. The rows of a batch do not look at each
other; padding changes the order of floating-point sums only, so answers do not depend on a text's neighbours unless
two tokens are equally likely within rounding (in float32 about 1e-6 of a logit).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rollama.core.errors import CheckpointError, ConfigError, DataError
from rollama.core.registry import Decoding, Task
from rollama.data.chat import Form, Template, form_of
from rollama.language.base import BaseInfo, load_base
from rollama.text.adapters import adapter_name, check_keys, put_adapter, read_artefacts
from rollama.text.checkpoint import TextArtefact, check_base
from rollama.text.grammar import PlanGrammar, Walk, constrain
from rollama.text.knockout import Span, knockout
from rollama.text.model import DTYPES
from rollama.training.worker import inference_device

Progress = Callable[[int, int], None]
"""Called with (finished texts, all texts)."""


@dataclass(frozen=True)
class Generation:
    """An answer; `finished` is False when it was cut at the token limit."""

    text: str
    finished: bool


class TextModel:
    """S and P (or the untrained base) ready to generate. Safe to use from several threads, one at a time inside."""

    def __init__(
        self,
        models: Mapping[Task, Any],
        tokenizer: Any,
        base: BaseInfo,
        artefacts: Mapping[Task, TextArtefact],
        batch: int,
        limits: Mapping[Task, int],
        names: Mapping[Task, str] | None = None,
        plan_decoding: Decoding = Decoding.FREE,
    ) -> None:
        """Take models that are loaded (`load`, `zero_shot`), one a task, possibly the same.

        `names`: of each task's adapter, by default the task's.

        Raises:
            ConfigError: constrained plans are asked for and llguidance is missing, or cannot read the tokenizer.
        """
        self.names = {task: str(task) for task in models} | dict(names or {})
        self.models, self.tokenizer, self.base, self.artefacts = dict(models), tokenizer, base, dict(artefacts)
        self.batch, self.limits = batch, dict(limits)
        self._forms = {task: self._form(task) for task in self.models}
        self._lock = threading.Lock()  # the active adapter is state of the shared model
        self.plan_decoding = plan_decoding
        self._grammar: PlanGrammar | None = None
        if plan_decoding is Decoding.CONSTRAINED and Task.PLAN in self.models:
            width = int(self.models[Task.PLAN].config.vocab_size)
            self._grammar = PlanGrammar(tokenizer, self.stop_tokens(Task.PLAN), width)

    @classmethod
    def load(
        cls,
        folders: Mapping[Task, Path],
        dtype: str = "float32",
        device: torch.device | None = None,
        base: str | None = None,
        allow_download: bool = False,
        plan_decoding: Decoding = Decoding.FREE,
    ) -> TextModel:
        """Load trained models that share a base.

        Args:
            folders: artefact folder of each task that is needed.
            dtype: `float32` (reproducible text) or `bfloat16`.
            device: where to generate; default: see `inference_device`.
            base: name or folder of the base where it differs from the name in the artefact; its hash must not.
            plan_decoding: whether P is held to the plan's text form.

        Raises:
            CheckpointError: damaged, of another task, or trained on another base or tokenizer.
            ConfigError: the base is not here; constrained plans without llguidance.
        """
        artefacts = read_artefacts(folders)
        name = base or next(iter(artefacts.values())).config.base
        lm, tokenizer, info = load_base(name, _dtype(dtype), allow_download)
        for artefact in artefacts.values():
            check_base(artefact, info)
        models: dict[Task, Any] = {}
        shared: Any = None
        for task, artefact in artefacts.items():
            if artefact.config.lora.enabled:
                shared = put_adapter(lm if shared is None else shared, str(task), artefact, shared is not None)
            else:
                whole, _, _ = load_base(name, _dtype(dtype), allow_download)
                check_keys(artefact, whole.load_state_dict(artefact.tensors, strict=False), whole)
                models[task] = whole
        models |= {task: shared for task, artefact in artefacts.items() if artefact.config.lora.enabled}
        for model in models.values():
            model.eval().to(device or inference_device())
        return cls._of(models, tokenizer, info, artefacts, {}, plan_decoding)

    @classmethod
    def _of(
        cls, models: Mapping[Task, Any], tokenizer: Any, base: BaseInfo, artefacts: Mapping[Task, TextArtefact],
        names: Mapping[Task, str], plan_decoding: Decoding,
    ) -> TextModel:  # fmt: skip
        batch = next(iter(artefacts.values())).config.generate_batch
        limits = {task: artefact.config.max_new_tokens for task, artefact in artefacts.items()}
        return cls(models, tokenizer, base, artefacts, batch, limits, names, plan_decoding)

    @classmethod
    def zero_shot(
        cls,
        base: str,
        dtype: str = "float32",
        device: torch.device | None = None,
        allow_download: bool = False,
        batch: int = 16,
        max_new_tokens: int = 256,
        plan_decoding: Decoding = Decoding.FREE,
    ) -> TextModel:
        """The untrained base, asked through its chat template."""
        lm, tokenizer, info = load_base(base, _dtype(dtype), allow_download)
        lm.to(device or inference_device())
        limits = dict.fromkeys(Task, max_new_tokens)
        return cls(dict.fromkeys(Task, lm), tokenizer, info, {}, batch, limits, plan_decoding=plan_decoding)

    def generate(
        self, task: Task, texts: Sequence[str], progress: Progress | None = None, max_new_tokens: int | None = None
    ) -> list[Generation]:
        """Answers in the order of `texts` (notes for S, summaries for P).

        Raises:
            ConfigError: no model for this task is loaded.
            DataError: a text is empty, or leaves no room for an answer in the context (names its index).
        """
        if task not in self.models:
            raise ConfigError(f"no model for task {task} is loaded; loaded: {', '.join(self.models) or 'none'}")
        limit = max_new_tokens or self.limits[task]
        prompts = [self.prompt(task, text, f"text {index}", limit) for index, text in enumerate(texts)]
        order = sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), index))
        answers: dict[int, Generation] = {}
        with self._lock, torch.inference_mode():
            model = self._activate(task)
            for first in range(0, len(order), self.batch):
                chosen = order[first : first + self.batch]

                def done(row: int, ids: list[int], finished: bool, chosen: list[int] = chosen) -> None:
                    text = self.tokenizer.decode(ids, skip_special_tokens=True).strip()
                    answers[chosen[row]] = Generation(text, finished)
                    if progress is not None:
                        progress(len(answers), len(prompts))

                walks = [self.walk(task) for _ in chosen]
                greedy(model, [prompts[index] for index in chosen], limit, self.stop_tokens(task), done, walks)
        return [answers[index] for index in range(len(prompts))]

    def shared_base(self) -> Any:
        """The one model that carries the adapters of all tasks.

        Raises:
            ConfigError: a task has a model of its own.
        """
        found = {id(model): model for model in self.models.values()}
        (model, *more) = found.values()
        if more or not hasattr(model, "get_base_model"):
            raise ConfigError("wholly trained models cannot share a batch; only adapters on one base can")
        return model

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
        if task not in self.models:
            raise ConfigError(f"no model for task {task} is loaded; loaded: {', '.join(self.models) or 'none'}")
        if not text.strip():
            raise DataError(f"{name} for task {task} is empty")
        limit = limit or self.limits[task]
        ids = self._forms[task].prompt(task, text)
        context = int(self.models[task].config.max_position_embeddings)
        if len(ids) + limit > context:
            raise DataError(
                f"{name} for task {task} has {len(ids)} tokens; the base's context of {context} tokens leaves "
                f"room for {max(0, context - limit)} beside an answer of {limit}: shorten it"
            )
        return ids

    def _form(self, task: Task) -> Form:
        """As the task was trained; the untrained base is asked through its chat template, if it has one."""
        if task in self.artefacts:
            return form_of(self.tokenizer, self.artefacts[task].config.template)
        return form_of(self.tokenizer, Template.CHAT if self.tokenizer.chat_template else Template.PLAIN)

    def _activate(self, task: Task) -> Any:
        model = self.models[task]
        if not hasattr(model, "get_base_model"):
            return model  # untrained or wholly trained: no adapter
        model.set_adapter(self.names[task])
        return model.get_base_model()

    def beside(self, artefacts: Mapping[Task, TextArtefact]) -> TextModel | None:
        """Further models on the same base, so that two releases need one; None when they do not all stand on it.

        Neither may generate while this works, and later the two not at the same time.

        Args:
            artefacts: see `read_artefacts`.

        Raises:
            CheckpointError: an adapter does not fit the base.
        """
        try:
            shared = self.shared_base()
            for artefact in artefacts.values():
                check_base(artefact, self.base)
        except (ConfigError, CheckpointError):  # whole models, or of another base: to be loaded by themselves
            return None
        if not all(artefact.config.lora.enabled for artefact in artefacts.values()):
            return None
        names = {task: adapter_name(task, artefact) for task, artefact in artefacts.items()}
        for task, artefact in artefacts.items():
            if names[task] not in shared.peft_config:
                put_adapter(shared, names[task], artefact, more=True)
        shared.eval()
        models = dict.fromkeys(artefacts, shared)
        return TextModel._of(models, self.tokenizer, self.base, artefacts, names, self.plan_decoding)

    def drop(self, keep: Collection[TextModel]) -> None:
        """Take this model's adapters off the base that it shares with models of `keep`, but for those they use too."""
        shared = next(iter(self.models.values()))
        used = {name for model in keep if shared in model.models.values() for name in model.names.values()}
        if not used:
            return  # nobody else stands on this base: it goes as a whole
        shared.set_adapter(min(used))  # PEFT keeps the active one
        for name in set(self.names.values()) - used:
            shared.delete_adapter(name)

    def knockout(
        self, task: Task, text: str, answer: str, parts: Sequence[Span], spans: Sequence[Span]
    ) -> torch.Tensor:
        """How much less likely spans of an answer are when parts of the input are hidden; see `knockout`."""
        with self._lock:
            return knockout(self._activate(task), self._forms[task], task, text, answer, parts, spans)

    def walk(self, task: Task) -> Walk | None:
        """The beginning of an answer that is held to a form; None where a task's answers are free."""
        return self._grammar.walk() if self._grammar is not None and task is Task.PLAN else None

    def stop_tokens(self, task: Task) -> set[int]:
        """Token ids that end an answer of a task."""
        stop = {int(self.tokenizer.eos_token_id), self._forms[task].closing}
        configured = next(iter(self.models.values())).generation_config.eos_token_id
        return stop | set(
            configured if isinstance(configured, list) else [configured] if configured is not None else []
        )


def greedy(
    causal: Any,
    prompts: Sequence[list[int]],
    limit: int,
    stop: set[int],
    done: Callable[[int, list[int], bool], None],
    walks: Sequence[Walk | None] | None = None,
) -> None:
    """Greedy continuation of prompts of any lengths, together.

    Args:
        causal: a Transformers causal LM in evaluation mode.
        prompts: token ids of each row.
        limit: most new tokens.
        stop: token ids that end an answer.
        done: called once a row with (row, new token ids without the stop token, whether it ended by itself).
        walks: what holds each row to a form, if anything.
    """
    from transformers import DynamicCache

    device = causal.device
    width = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), width, dtype=torch.long, device=device)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt, device=device)
        mask[row, width - len(prompt) :] = 1
    position = (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=causal.config)
    rows = list(range(len(prompts)))  # row i of the tensors is this row of the caller
    walks = walks or [None] * len(prompts)
    written: list[list[int]] = [[] for _ in prompts]
    for _ in range(limit):
        states = causal.model(
            input_ids=ids, attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True
        ).last_hidden_state[:, -1]
        following = constrain(causal.lm_head(states), [walks[row] for row in rows]).argmax(-1)
        keep = []
        for place, token in enumerate(following.tolist()):
            if token in stop:
                done(rows[place], written[rows[place]], True)
            else:
                written[rows[place]].append(token)
                keep.append(place)
                if (walk := walks[rows[place]]) is not None:
                    walk.step(token)
        if not keep:
            return
        ids, position = following.unsqueeze(1), position[:, -1:] + 1
        if len(keep) < len(rows):
            index = torch.tensor(keep, device=device)
            ids, position, mask = ids[index], position[index], mask[index]
            cache.batch_select_indices(index)
            rows = [rows[place] for place in keep]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
    for row in rows:
        done(row, written[row], False)


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise ConfigError(f"dtype: found {name!r}; accepted: {', '.join(DTYPES)}")
    return DTYPES[name]
