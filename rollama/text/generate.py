"""Greedy generation with S and P on one base.

The base is the large part, so it is loaded once (`lean`) and carries one named adapter per task. Decoding is greedy:
the same text gives the same answer. Texts are decoded some at a time (`continuous`); the rows of a batch do not look at
each other, and how many tokens a pass reads changes the order of floating-point sums only, so answers do not depend on
a text's neighbours unless two tokens are equally likely within rounding (in float32 about 1e-6 of a logit).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rollama.core.errors import CheckpointError, ConfigError
from rollama.core.registry import Decoding, Task
from rollama.language.base import BaseInfo, load_base
from rollama.text.adapters import adapter_name, check_keys, read_artefacts
from rollama.text.checkpoint import TextArtefact, check_base
from rollama.text.continuous import Decoder
from rollama.text.forms import Forms, Generation
from rollama.text.grammar import PlanGrammar, Walk
from rollama.text.knockout import Span, knockout
from rollama.text.lean import Lean
from rollama.text.model import DTYPES
from rollama.text.phrases import Phrases
from rollama.training.worker import inference_device

Progress = Callable[[int, int], None]
"""Called with (finished texts, all texts)."""


class TextModel(Forms):
    """S and P (or the untrained base) ready to generate. Safe to use from several threads, one at a time inside."""

    def __init__(
        self,
        models: Mapping[Task, Lean],
        tokenizer: Any,
        base: BaseInfo,
        artefacts: Mapping[Task, TextArtefact],
        batch: int,
        limits: Mapping[Task, int],
        names: Mapping[Task, str | None],
        plan_decoding: Decoding = Decoding.FREE,
        phrases: Mapping[Task, Phrases] | None = None,
    ) -> None:
        """Take models that are loaded (`load`, `zero_shot`), one a task, possibly the same.

        Args:
            names: of each task's adapter; None: the model as it is.
            phrases: what other models on this base learned of how answers are worded.

        Raises:
            ConfigError: constrained plans are asked for and llguidance is missing, or cannot read the tokenizer.
        """
        lean = next(iter(models.values()))
        context, ends = int(lean.config.max_position_embeddings), lean.generation_config.eos_token_id
        super().__init__({task: limits[task] for task in models}, tokenizer, base, artefacts, context, ends)
        self.models, self.batch, self.names = dict(models), batch, dict(names)
        self.phrases = {task: (phrases or {}).get(task) or Phrases() for task in self.models}
        self._lock = threading.Lock()  # a model's cache and the phrases are state
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
        device = device or inference_device()
        adapted = [task for task, artefact in artefacts.items() if artefact.config.lora.enabled]
        models: dict[Task, Lean] = {}
        for task, artefact in artefacts.items():
            if task in adapted[1:]:
                models[task] = models[adapted[0]]
            else:
                lm, tokenizer, info = load_base(name, _dtype(dtype), allow_download)
                if task not in adapted:
                    check_keys(artefact, lm.load_state_dict(artefact.tensors, strict=False), lm)
                models[task] = Lean(lm, device)
            check_base(artefact, info)
            if task in adapted:
                models[task].put(str(task), artefact)
        names = {task: str(task) if task in adapted else None for task in artefacts}
        return cls._of(models, tokenizer, info, artefacts, names, plan_decoding)

    @classmethod
    def _of(
        cls, models: Mapping[Task, Lean], tokenizer: Any, base: BaseInfo, artefacts: Mapping[Task, TextArtefact],
        names: Mapping[Task, str | None], plan_decoding: Decoding, phrases: Mapping[Task, Phrases] | None = None,
    ) -> TextModel:  # fmt: skip
        batch = next(iter(artefacts.values())).config.generate_batch
        limits = {task: artefact.config.max_new_tokens for task, artefact in artefacts.items()}
        return cls(models, tokenizer, base, artefacts, batch, limits, names, plan_decoding, phrases)

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
        lean = Lean(lm, device or inference_device())
        limits, names = dict.fromkeys(Task, max_new_tokens), dict.fromkeys(Task)
        return cls(dict.fromkeys(Task, lean), tokenizer, info, {}, batch, limits, names, plan_decoding)

    def generate(
        self, task: Task, texts: Sequence[str], progress: Progress | None = None, max_new_tokens: int | None = None
    ) -> list[Generation]:
        """Answers in the order of `texts` (notes for S, summaries for P).

        Raises:
            ConfigError: no model for this task is loaded.
            DataError: a text is empty, or leaves no room for an answer in the context (names its index).
        """
        self.require(task)
        limit = max_new_tokens or self.limits[task]
        prompts = [self.prompts(task, text, f"text {index}", limit) for index, text in enumerate(texts)]
        # The shortest first, which also end first: the buffers grow with the later ones.
        order = sorted(range(len(prompts)), key=lambda index: (len(prompts[index][0]), index), reverse=True)
        answers: dict[Any, Generation] = {}
        with self._lock:
            decoder = Decoder(self, self.models[task])
            while order or decoder.rows:
                while order and len(decoder.rows) + len(decoder.waiting) < self.batch:
                    index = order.pop()
                    decoder.join(index, task, prompts[index], self, limit)
                for index, answer in decoder.step().items():
                    answers[index] = answer
                    if progress is not None:
                        progress(len(answers), len(prompts))
        return [answers[index] for index in range(len(prompts))]

    def shared_base(self) -> Lean:
        """The one model that carries the adapters of all tasks.

        Raises:
            ConfigError: a task has a model of its own.
        """
        found = {id(model): model for model in self.models.values()}
        (model, *more) = found.values()
        if more:
            raise ConfigError("wholly trained models cannot share a batch; only adapters on one base can")
        return model

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
            if names[task] not in shared.adapters:
                shared.put(names[task], artefact)
        models = dict.fromkeys(artefacts, shared)
        return TextModel._of(models, self.tokenizer, self.base, artefacts, names, self.plan_decoding, self.phrases)

    def drop(self, keep: Collection[TextModel]) -> None:
        """Take this model's adapters off the base that it shares with models of `keep`, but for those they use too."""
        shared = next(iter(self.models.values()))
        used = {name for model in keep if shared in model.models.values() for name in model.names.values()}
        if not used:
            return  # nobody else stands on this base: it goes as a whole
        for name in set(self.names.values()) - used:
            if name is not None:
                shared.drop(name)

    def knockout(
        self, task: Task, text: str, answer: str, parts: Sequence[Span], spans: Sequence[Span]
    ) -> torch.Tensor:
        """How much less likely spans of an answer are when parts of the input are hidden; see `knockout`."""
        with self._lock:
            lean, adapter = self.models[task], self.names[task]
            return knockout(lean, adapter, self._forms[task], task, text, answer, parts, spans)

    def walk(self, task: Task) -> Walk | None:
        """The beginning of an answer that is held to a form; None where a task's answers are free."""
        return self._grammar.walk() if self._grammar is not None and task is Task.PLAN else None


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise ConfigError(f"dtype: found {name!r}; accepted: {', '.join(DTYPES)}")
    return DTYPES[name]
