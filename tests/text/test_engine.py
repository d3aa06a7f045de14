"""The DeepSpeed engine on one process: accumulation, exact resume, whole state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from rollama.core.errors import CheckpointError
from rollama.core.registry import Task
from rollama.data.case import Case
from rollama.data.tokenization import tokenize_cases
from rollama.text.batch import TextBatches
from rollama.text.config import TextConfig
from rollama.text.engine import STEP, DeepSpeedEngine, deepspeed_config
from rollama.text.method import build_method
from rollama.text.model import build_module
from rollama.training.loop import Metrics, run
from rollama.training.sampler import BatchOrder
from rollama.training.shards import ShardedState, save_shards
from tests.text.conftest import tiny_config

CPU = torch.device("cpu")


class Losses:
    def __init__(self) -> None:
        self.values: dict[int, float] = {}

    def after_step(self, step: int, metrics: Metrics) -> None:
        self.values[step] = metrics["loss"]


def train(
    config: TextConfig,
    cases: list[Case],
    first: int = 0,
    last: int = 4,
    state: Mapping[str, torch.Tensor] | None = None,
    pieces: Path | None = None,
) -> tuple[dict[int, float], dict[str, torch.Tensor]]:
    module, tokenizer, _ = build_module(config)
    rows = tokenize_cases(tokenizer, Task.PLAN, cases, 200)
    batches = TextBatches(rows, BatchOrder(len(rows), config.batch, config.seed), config.micro_batch, 0, 1, CPU)
    engine = DeepSpeedEngine(module, config, CPU)
    if state is not None:
        engine.load_state(state)
    losses = Losses()
    run(engine, build_method(config), batches.step, lambda step: 0.02 / (step + 1), last, first, [losses])
    result = engine.state()
    if pieces:
        save_shards(pieces, engine.pieces(), {"kind": "checkpoint"}, 0)
    engine.close()
    return losses.values, result


STAGES = [(0, "float32"), *((stage, dtype) for dtype in ("float32", "bfloat16") for stage in (1, 2, 3))]


@pytest.mark.parametrize(("stage", "dtype"), STAGES)
def test_resume_equals_the_straight_run_to_the_bit(cases: list[Case], stage: int, dtype: str) -> None:
    config = tiny_config(dtype=dtype, zero={"stage": stage}, clip=0.5)
    straight, end = train(config, cases)
    half, middle = train(config, cases, last=2)
    rest, again = train(config, cases, first=2, state=middle)
    assert {**half, **rest} == straight
    assert straight[4] < straight[1]
    assert end.keys() == again.keys() and all(torch.equal(end[name], again[name]) for name in end)
    assert middle[STEP].item() == 2 and end[STEP].item() == 4
    assert all(value.dtype == torch.float32 and value.numel() > 0 for value in end.values())


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_optimizer_in_cpu_memory_changes_nothing(cases: list[Case], stage: int) -> None:
    """Offloading takes another path through DeepSpeed (gradients are copied to flat buffers of their own)."""
    zero = {"stage": stage, "offload_optimizer": True}
    beside, _ = train(tiny_config(zero={"stage": stage}, micro_batch=2), cases)
    straight, end = train(tiny_config(zero=zero, micro_batch=2), cases)
    half, middle = train(tiny_config(zero=zero, micro_batch=2), cases, last=2)
    rest, again = train(tiny_config(zero=zero, micro_batch=2), cases, first=2, state=middle)
    assert straight == pytest.approx(beside, abs=1e-5)
    assert {**half, **rest} == straight and all(torch.equal(end[name], again[name]) for name in end)


@pytest.mark.parametrize("stage", [2, 3])
def test_accumulation_changes_nothing(cases: list[Case], stage: int) -> None:
    whole, end = train(tiny_config(zero={"stage": stage}, micro_batch=8), cases)
    parts, other = train(tiny_config(zero={"stage": stage}, micro_batch=2), cases)
    assert parts == pytest.approx(whole, abs=1e-5)
    moment = next(name for name in end if name.startswith("exp_avg/") and "lora_B" in name)
    assert torch.allclose(end[moment], other[moment], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("stage", [2, 3])
def test_full_fine_tuning(cases: list[Case], stage: int) -> None:
    config = tiny_config(zero={"stage": stage}, lora={"enabled": False}, activation_checkpointing=True)
    straight, _ = train(config, cases)
    half, middle = train(config, cases, last=2)
    rest, _ = train(config, cases, first=2, state=middle)
    assert {**half, **rest} == straight and straight[4] < straight[1]


def test_full_fine_tuning_under_zero_3_goes_on_from_its_pieces_to_the_bit(cases: list[Case], tmp_path: Path) -> None:
    config = tiny_config(zero={"stage": 3}, lora={"enabled": False})
    straight, end = train(config, cases)
    half, middle = train(config, cases, last=2, pieces=tmp_path / "middle")
    state = ShardedState(tmp_path / "middle")
    assert set(state) == set(middle) and all(torch.equal(state[name], middle[name]) for name in middle)
    rest, again = train(config, cases, first=2, state=state)
    assert {**half, **rest} == straight and all(torch.equal(end[name], again[name]) for name in end)


def test_gradient_is_the_sum_of_the_shares(cases: list[Case]) -> None:
    """AdamW's first moment after one step is (1 - beta1) times the gradient; compare with plain autograd."""
    config = tiny_config(clip=0.0, micro_batch=2)
    _, state = train(config, cases, last=1)
    module, tokenizer, _ = build_module(config)
    rows = tokenize_cases(tokenizer, Task.PLAN, cases, 200)
    batches = TextBatches(rows, BatchOrder(len(rows), config.batch, config.seed), 8, 0, 1, CPU)
    loss, _ = build_method(config).forward(module, next(iter(batches.step(0))))
    loss.backward()
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None
            assert torch.allclose(state[f"exp_avg/{name}"], 0.1 * parameter.grad, rtol=1e-3, atol=1e-7), name


def test_state_of_another_model_is_refused(cases: list[Case]) -> None:
    _, state = train(tiny_config(), cases, last=1)
    state.pop(next(name for name in state if name.startswith("param/")))
    with pytest.raises(CheckpointError, match="missing"):
        train(tiny_config(), cases, first=1, state=state)


def test_deepspeed_config() -> None:
    config = tiny_config(dtype="bfloat16", zero={"offload_optimizer": True})
    values: dict[str, Any] = deepspeed_config(config, True, 1000)
    assert values["bf16"] == {"enabled": True} and values["communication_data_type"] == "fp32"
    assert values["zero_optimization"]["stage"] == 2 and values["zero_optimization"]["overlap_comm"]
    assert values["zero_optimization"]["offload_optimizer"]["device"] == "cpu"
    assert values["zero_optimization"]["reduce_bucket_size"] == 1000
