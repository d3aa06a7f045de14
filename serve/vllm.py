"""S and P under vLLM, for bases and loads that want a GPU's throughput.

vLLM brings its own batching, paged memory and kernels; what is ours is the same as in the other engine: prompts, ends,
one adapter a task, a deadline that frees the work, plans held to their grammar. It pins versions of torch and
Transformers that training does not share, so it lives in an image of its own (docs/serving.md).

NOT RUN ON A GPU yet: written against the source of vLLM 0.33, tested with a stand-in (tests/serve/test_vllm.py). Nor is
it known what memory the scoring of second looks takes there: a row of the vocabulary for every token of a prompt.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from rollama.core.errors import CheckpointError, ConfigError
from rollama.core.registry import Decoding, Task
from rollama.language.base import base_folder, base_info, load_tokenizer
from rollama.text.adapters import adapter_name
from rollama.text.checkpoint import TextArtefact, check_base
from rollama.text.export import export_adapter
from rollama.text.forms import Forms, Generation
from rollama.text.grammar import AROUND, plan_pattern
from rollama.text.looks import candidates, other_answer, settled

Result = TypeVar("Result")
ADAPTERS = 4
"""On the GPU at once: S and P of two releases."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""That vLLM has kernels for."""


@dataclass(frozen=True, eq=False)
class Held:
    """A release on the engine: its forms, and its adapters as vLLM is asked for them."""

    forms: Forms
    requests: dict[Task, Any]


class VllmEngine:
    """A vLLM engine with the adapters of some releases. For one event loop."""

    def __init__(self, engine: Any, base: str, context: int, ends: Any, rank: int, plan_decoding: Decoding) -> None:
        """Take a running engine; see `start`."""
        self.engine, self.base, self.context, self.ends, self.rank = engine, base, context, ends, rank
        self.plan_decoding = plan_decoding
        self.folder = Path(tempfile.mkdtemp(prefix="rollama-adapters-"))
        self.numbers = count(1)
        self.running: dict[int, int] = {}
        self.unwanted: list[Held] = []
        self.retired = False

    @classmethod
    async def start(
        cls, artefacts: Mapping[Task, TextArtefact], plan_decoding: Decoding = Decoding.FREE
    ) -> tuple[VllmEngine, Held]:
        """Load a base with its first release. Takes minutes for a large base.

        Raises:
            ConfigError: wholly trained models; the base is not here.
            CheckpointError: the adapters were trained on another base.
        """
        if not all(artefact.config.lora.enabled for artefact in artefacts.values()):
            raise ConfigError(
                "text_engine: vllm serves adapters on one base, not wholly trained models; choose 'batch'"
            )
        os.environ.update(VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1")
        from transformers import AutoConfig, GenerationConfig
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        base = next(iter(artefacts.values())).config.base
        folder = base_folder(base)
        context = int(AutoConfig.from_pretrained(folder).max_position_embeddings)
        ends = None
        if (folder / "generation_config.json").is_file():
            ends = GenerationConfig.from_pretrained(folder).eos_token_id
        needed = max(artefact.config.lora.r for artefact in artefacts.values())
        rank = next((rank for rank in RANKS if rank >= needed), None)
        if rank is None:
            raise ConfigError(
                f"text_engine: vllm has no kernel for adapters of rank {needed}; accepted: up to {RANKS[-1]}"
            )
        arguments = AsyncEngineArgs(
            model=str(folder), tokenizer=str(folder), dtype="bfloat16", max_model_len=context, enable_lora=True,
            max_loras=ADAPTERS, max_lora_rank=rank,
            enable_log_requests=False,  # clinical text
            enable_prefix_caching=False,  # nothing of a patient stays behind
            disable_log_stats=True,
        )  # fmt: skip
        engine = await asyncio.to_thread(AsyncLLM.from_engine_args, arguments)
        made = cls(engine, base, context, ends, rank, plan_decoding)
        return made, await made._held(artefacts)

    @property
    def alive(self) -> bool:
        """Whether vLLM's own process still answers."""
        return not self.engine.errored

    async def generate(self, task: Task, text: str, deadline: float, model: Held) -> Generation:
        """See `TextEngine`; when whoever asked leaves, vLLM stops writing."""
        self.running[id(model)] = self.running.get(id(model), 0) + 1
        try:
            async with asyncio.timeout(deadline - time.time()):
                prompts = model.forms.prompts(task, text)
                own, *more = await _together(*(self._written(task, prompt, model) for prompt in prompts))
                other = other_answer(own, more[0]) if more else None
                if other is None:
                    return own
                asked = zip(prompts, candidates(own.text, other), strict=True)
                scores = await _together(*(self._scored(task, prompt, some, model) for prompt, some in asked))
                return settled(own, other, scores)
        finally:
            self.running[id(model)] -= 1
            await self._clear()

    async def _written(self, task: Task, prompt: list[int], model: Held) -> Generation:
        from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

        forms = model.forms
        stop = forms.stop_tokens(task)
        held = None
        if task is Task.PLAN and self.plan_decoding is Decoding.CONSTRAINED:
            held = StructuredOutputsParams(regex=AROUND + plan_pattern() + AROUND)
        how = SamplingParams(
            temperature=0.0, max_tokens=forms.limits[task], stop_token_ids=sorted(stop), detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY, structured_outputs=held,
        )  # fmt: skip
        found = (await self._output(prompt, how, model.requests[task])).outputs[0]
        tokens = list(found.token_ids)
        ended = found.finish_reason == "stop"
        return Generation(forms.decode(tokens[:-1] if tokens and tokens[-1] in stop else tokens), ended)

    async def _scored(self, task: Task, prompt: list[int], answers: Sequence[str], model: Held) -> list[float]:
        """Log-likelihood of answers to a prompt: vLLM reads each behind the prompt and says what it expected."""
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        how = SamplingParams(
            temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
        )
        scores = []
        for answer in answers:
            ids = model.forms.answer(task, answer)
            found = await self._output([*prompt, *ids], how, model.requests[task])
            places = found.prompt_logprobs[len(prompt) :]
            scores.append(sum(place[token].logprob for place, token in zip(places, ids, strict=True)))
        return scores

    async def _output(self, prompt: list[int], how: Any, lora: Any) -> Any:
        outputs = self.engine.generate({"prompt_token_ids": prompt}, how, uuid4().hex, lora_request=lora)
        return [output async for output in outputs][-1]

    async def adopt(self, artefacts: Mapping[Task, TextArtefact]) -> Held | None:
        """See `TextEngine`."""
        try:
            return await self._held(artefacts)
        except (ConfigError, CheckpointError):
            return None

    async def forget(self, model: Held) -> None:
        """See `TextEngine`."""
        self.unwanted.append(model)
        await self._clear()

    def retire(self) -> None:
        """End now if nobody waits, else after the last answer."""
        self.retired = True
        if not any(self.running.values()):
            self._end()

    async def _held(self, artefacts: Mapping[Task, TextArtefact]) -> Held:
        from vllm.lora.request import LoRARequest

        info = await asyncio.to_thread(base_info, self.base)
        for artefact in artefacts.values():
            check_base(artefact, info)
            if not artefact.config.lora.enabled or artefact.config.lora.r > self.rank:
                raise ConfigError(f"{artefact.folder}: is no adapter of rank {self.rank} or below")
        limits = {task: artefact.config.max_new_tokens for task, artefact in artefacts.items()}
        tokenizer = await asyncio.to_thread(load_tokenizer, self.base)
        forms = Forms(limits, tokenizer, info, artefacts, self.context, self.ends)
        requests = {}
        for task, artefact in artefacts.items():
            number = next(self.numbers)
            folder = self.folder / str(number)
            await asyncio.to_thread(export_adapter, artefact.folder, folder)
            requests[task] = LoRARequest(adapter_name(task, artefact), number, str(folder))
            if not await self.engine.add_lora(requests[task]):
                raise CheckpointError(f"{artefact.folder}: vLLM does not take this adapter")
        return Held(forms, requests)

    async def _clear(self) -> None:
        for model in [model for model in self.unwanted if not self.running.get(id(model))]:
            self.unwanted.remove(model)
            for request in model.requests.values():
                await self.engine.remove_lora(request.lora_int_id)
                await asyncio.to_thread(shutil.rmtree, request.lora_path, ignore_errors=True)
        if self.retired and not any(self.running.values()):
            self._end()

    def _end(self) -> None:
        self.engine.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)


async def _together(*work: Coroutine[Any, Any, Result]) -> list[Result]:
    """The results in order; when one fails, the others end before its error is raised, and nothing runs on unseen."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as found:
        raise found.exceptions[0] from None
    return [task.result() for task in tasks]
