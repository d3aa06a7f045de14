"""The vLLM engine against a stand-in for vLLM (a mock: vLLM needs a GPU), whose tokens come from our own decoder.

What is real: prompts, exported adapters as PEFT reads them, limits, ends, releases, deadlines. What is not: vLLM. The
names and arguments that the stand-in accepts are those of vLLM 0.33.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from rollama.core.errors import CheckpointError, ConfigError, DataError
from rollama.core.registry import Decoding, EngineName, Task
from rollama.data.plan import parse_plan
from rollama.text.adapters import read_artefacts
from rollama.text.checkpoint import TextArtefact
from rollama.text.continuous import Decoder
from rollama.text.forms import Forms
from rollama.text.generate import TextModel
from serve.engine import check_engine
from serve.release import Release
from serve.text import TextDeployment
from serve.vllm import VllmEngine, _together
from tests.chain.tiny import make_models

FOLDERS = {Task.SUMMARY: "s", Task.PLAN: "p"}
TEXTS = ["Left breast.", "A long note about the right breast, pT2 N1. " * 3]


@dataclass
class SamplingParams:
    temperature: float = 1.0
    max_tokens: int = 16
    stop_token_ids: list[int] = field(default_factory=list)
    detokenize: bool = True
    output_kind: str = "cumulative"
    structured_outputs: Any = None
    prompt_logprobs: int | None = None


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str = ""


class StandIn:
    """Decodes with the model whose adapter files it is given."""

    made: ClassVar[list[StandIn]] = []

    def __init__(self, arguments: Any) -> None:
        self.arguments, self.loras, self.aborted, self.errored = arguments, dict[int, LoRARequest](), 0, False
        self.seen: list[SamplingParams] = []
        self.slow = asyncio.Event()
        self.slow.set()
        StandIn.made.append(self)

    async def add_lora(self, request: LoRARequest) -> bool:
        config = json.loads((Path(request.lora_path) / "adapter_config.json").read_text())
        assert config["peft_type"] == "LORA" and config["r"] <= self.arguments.max_lora_rank
        assert (Path(request.lora_path) / "adapter_model.safetensors").is_file()
        assert request.lora_int_id not in self.loras
        self.loras[request.lora_int_id] = request
        return True

    async def remove_lora(self, number: int) -> bool:
        return self.loras.pop(number, None) is not None

    async def generate(
        self, prompt: dict[str, Any], sampling_params: SamplingParams, request_id: str, *, lora_request: LoRARequest
    ) -> AsyncIterator[Any]:
        assert self.loras[lora_request.lora_int_id] is lora_request and request_id
        self.seen.append(sampling_params)
        try:
            await self.slow.wait()
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        artefact, how = BY_NAME[lora_request.lora_name], Decoding.FREE
        if sampling_params.structured_outputs is not None:
            how = Decoding.CONSTRAINED
        model = TextModel.load({artefact.task: artefact.folder}, plan_decoding=how)
        model.stop_tokens = lambda task: set(sampling_params.stop_token_ids)  # type: ignore[method-assign]
        decoder = Decoder(model)
        decoder.join(0, artefact.task, [prompt["prompt_token_ids"]], model, sampling_params.max_tokens)
        (row,) = decoder.waiting
        while not (ended := decoder.step()):
            pass
        tokens = [*row.written, min(row.stop)] if ended[0].finished else row.written
        reason = "stop" if ended[0].finished else "length"
        scores = None
        if sampling_params.prompt_logprobs is not None:
            scores = expected(model, artefact.task, prompt["prompt_token_ids"])
        yield SimpleNamespace(outputs=[SimpleNamespace(token_ids=tokens, finish_reason=reason)], prompt_logprobs=scores)

    def shutdown(self, timeout: float | None = None) -> None:
        self.errored = True


def expected(model: TextModel, task: Task, prompt: list[int]) -> list[Any]:
    """vLLM's prompt_logprobs: nothing for the first token, then a dictionary with the token that stands there."""
    lean = model.models[task]
    with torch.inference_mode():
        slots = lean.slots()
        slots.add()
        logits = lean.logits(lean.states([prompt[:-1]], slots, [model.names[task]])).log_softmax(-1)
    found = [float(row[token]) for row, token in zip(logits, prompt[1:], strict=True)]
    return [None, *({token: SimpleNamespace(logprob=x)} for token, x in zip(prompt[1:], found, strict=True))]


BY_NAME: dict[str, TextArtefact] = {}


@pytest.fixture(autouse=True)
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {
        "vllm": {},
        "vllm.engine": {},
        "vllm.engine.arg_utils": {"AsyncEngineArgs": SimpleNamespace},
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.async_llm": {"AsyncLLM": SimpleNamespace(from_engine_args=StandIn)},
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": LoRARequest},
        "vllm.sampling_params": {
            "SamplingParams": SamplingParams,
            "RequestOutputKind": SimpleNamespace(FINAL_ONLY="final"),
            "StructuredOutputsParams": SimpleNamespace,
        },
    }
    for name, values in made.items():
        module = ModuleType(name)
        module.__dict__.update(values)
        monkeypatch.setitem(sys.modules, name, module)
    StandIn.made.clear()
    BY_NAME.clear()


def known(made: Path) -> dict[Task, TextArtefact]:
    from rollama.text.adapters import adapter_name

    artefacts = read_artefacts({task: made / name for task, name in FOLDERS.items()})
    BY_NAME.update({adapter_name(task, artefact): artefact for task, artefact in artefacts.items()})
    return artefacts


def test_releases_answer_as_in_the_other_engine_and_go(tmp_path: Path) -> None:
    first, second = make_models(tmp_path / "one"), make_models(tmp_path / "two", first_seed=10)
    third = make_models(tmp_path / "three", first_seed=20)
    wanted = {made: TextModel.load({task: made / name for task, name in FOLDERS.items()}) for made in (first, second)}
    for made in (first, second, third):
        known(made)

    async def run() -> None:
        deployment = TextDeployment(1, engine=EngineName.VLLM)
        releases = {made: Release.of_folder(made) for made in (first, second, third)}
        end = time.time() + 60
        for made in (first, second):
            await deployment.reconfigure(releases[made].model_dump())
            asked = [(task, text) for task in Task for text in TEXTS]
            found = await asyncio.gather(*(deployment.generate(*one, end, releases[made]) for one in asked))
            assert found == [wanted[made].generate(task, [text])[0] for task, text in asked]
        (engine,) = StandIn.made
        assert len(engine.loras) == 4 and len({id(held[0]) for held in deployment.releases.held.values()}) == 1
        assert {how.temperature for how in engine.seen} == {0.0} and not any(how.detokenize for how in engine.seen)
        folders = [Path(lora.lora_path) for lora in engine.loras.values()]
        await deployment.reconfigure(releases[third].model_dump())
        await deployment.ready(releases[third])
        assert len(engine.loras) == 4, "the first release's adapters are gone"
        assert [folder.is_dir() for folder in folders] == [False, False, True, True]
        deployment.check_health()
        engine.errored = True
        with pytest.raises(RuntimeError, match="ended"):
            deployment.check_health()

    asyncio.run(run())
    (engine,) = StandIn.made
    arguments = engine.arguments
    assert arguments.enable_lora and not arguments.enable_log_requests and not arguments.enable_prefix_caching
    assert arguments.max_lora_rank == 16 and arguments.max_model_len == 2048


def test_a_deadline_or_a_client_that_leaves_frees_the_work(tmp_path: Path) -> None:
    artefacts = known(make_models(tmp_path))

    async def run() -> None:
        from serve.vllm import VllmEngine

        engine, held = await VllmEngine.start(artefacts)
        engine.engine.slow.clear()
        with pytest.raises(TimeoutError):
            await engine.generate(Task.PLAN, TEXTS[0], time.time() + 0.05, held)
        leaves = asyncio.create_task(engine.generate(Task.PLAN, TEXTS[0], time.time() + 60, held))
        await asyncio.sleep(0.05)
        await engine.forget(held)
        assert len(engine.engine.loras) == 2, "somebody's text is being written with them"
        engine.retire()
        assert engine.alive
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        assert engine.engine.aborted == 2 and engine.engine.loras == {} and not engine.alive
        assert not engine.folder.exists()
        with pytest.raises(DataError, match="is empty"):
            await engine.generate(Task.PLAN, " ", time.time() + 60, held)

    asyncio.run(run())


def test_constrained_plans(tmp_path: Path) -> None:
    made = make_models(tmp_path)
    artefacts = known(made)

    async def run() -> Any:
        from serve.vllm import VllmEngine

        engine, held = await VllmEngine.start(artefacts, Decoding.CONSTRAINED)
        held.forms.limits[Task.PLAN] = 160
        found = await engine.generate(Task.PLAN, TEXTS[0], time.time() + 60, held)
        summary = await engine.generate(Task.SUMMARY, TEXTS[0], time.time() + 60, held)
        assert [how.structured_outputs is None for how in engine.engine.seen] == [False, True]
        engine.retire()
        return found, summary

    found, summary = asyncio.run(run())
    assert found.finished and parse_plan(found.text)
    (alone,) = TextModel.load({Task.SUMMARY: made / "s"}).generate(Task.SUMMARY, TEXTS[:1])
    assert summary == alone


def test_what_it_cannot_serve_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from serve.vllm import VllmEngine

    artefacts = known(make_models(tmp_path))
    plan = artefacts[Task.PLAN]

    def changed(**lora: Any) -> dict[Task, TextArtefact]:
        return {Task.PLAN: replace(plan, config=plan.config.updated(lora={**plan.config.lora.model_dump(), **lora}))}

    with pytest.raises(ConfigError, match="not wholly trained"):
        asyncio.run(VllmEngine.start(changed(enabled=False)))
    with pytest.raises(ConfigError, match="rank 1024"):
        asyncio.run(VllmEngine.start(changed(r=1024)))
    stranger = {Task.PLAN: replace(plan, base={**plan.base, "weights_hash": "0"})}
    with pytest.raises(CheckpointError):
        asyncio.run(VllmEngine.start(stranger))

    async def adopt() -> list[Any]:
        engine, _ = await VllmEngine.start(artefacts)
        found = [await engine.adopt(some) for some in (stranger, changed(r=32), changed(enabled=False))]
        engine.retire()
        return found

    assert asyncio.run(adopt()) == [None] * 3
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="vllm is not installed"):
        check_engine(EngineName.VLLM)
    check_engine(EngineName.BATCH)


def test_when_one_of_two_fails_the_other_is_ended_too() -> None:
    ended = []

    async def fails() -> list[float]:
        await asyncio.sleep(0.01)
        raise DataError("too long")

    async def lasts() -> list[float]:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)
        return []

    with pytest.raises(DataError, match="too long"):
        asyncio.run(_together(lasts(), fails()))
    assert ended == [True]


def test_a_second_look_answers_as_in_the_other_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_models(tmp_path / "one", mirrored_look=True)
    artefacts = known(made)
    ends = set(range(0, 600, 3))  # the tiny model's answers are cut at the limit; so both looks have an ending
    monkeypatch.setattr(Forms, "stop_tokens", lambda self, task: ends)
    model = TextModel.load({task: made / name for task, name in FOLDERS.items()})
    texts = [f"{text} {number}" for text in TEXTS for number in range(4)]
    wanted = model.generate(Task.SUMMARY, texts)
    assert any(answer.other is not None for answer in wanted)  # else this shows nothing

    async def run() -> None:
        engine, held = await VllmEngine.start(artefacts)
        found = [await engine.generate(Task.SUMMARY, text, time.time() + 60, held) for text in texts]
        assert found == wanted
        assert any(how.prompt_logprobs == 0 for how in StandIn.made[0].seen)
        engine.retire()

    asyncio.run(run())
