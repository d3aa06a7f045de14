"""The budget against DeepSpeed's own estimators, hand arithmetic, and what autograd really keeps."""

from __future__ import annotations

import pytest
import torch

from rollama.presets import load_preset
from rollama.text.budget import GPUS, kept_activations, largest_block, plan_training
from rollama.text.config import TextConfig
from rollama.text.model import TextModule, build_meta, build_module
from tests.text.conftest import tiny_config
from tests.text.test_attention import CPU, TokenRow, collate

SEVEN = "meta-llama/Llama-2-7b-chat-hf"
P = 6_738_415_616
ROWS = [TokenRow(name, tuple(range(4, 4 + length)), 20) for name, length in (("a", 170), ("b", 60))]


def full(stage: int) -> TextConfig:
    values = {"zero": {"stage": stage}, "scale": {"workers": 8}, "batch": 8, "micro_batch": 1}
    return tiny_config(base=SEVEN, dtype="bfloat16", lora={"enabled": False}, activation_checkpointing=True, **values)


def test_model_states_against_deepspeeds_estimators() -> None:
    """DeepSpeed counts 2 bytes of gradient a parameter beside the float32 copy; ours is a bucket."""
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    two, three = plan_training(full(2), 64), plan_training(full(3), 64)
    _, wanted = estimate_zero2_model_states_mem_needs(P, 8, 1, False, 1.0)
    assert 0.65 < (two.weights + two.optimizer + two.gradients) / wanted < 1.0
    block = largest_block(build_meta(full(3)))
    _, wanted, _ = estimate_zero3_model_states_mem_needs(P, block, 8, 1, False, False, True, 1.0)
    assert (three.weights + three.optimizer + three.gradients) / wanted == pytest.approx(1.0, abs=0.1)
    assert two.parameters == two.trained == P and two.weights == 2 * P and two.optimizer == 12 * P // 8


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("base", ["tiny"])
def test_activations_are_what_autograd_keeps(base: str, checkpointing: bool) -> None:
    config = tiny_config(base=base, activation_checkpointing=checkpointing)
    batch = collate(ROWS, [0, 0], 190, 2, CPU)
    module, _, _ = build_module(config)
    kept = measured(module, batch)
    found = kept_activations(config, build_meta(config), batch)
    if not checkpointing:
        assert found == pytest.approx(kept, rel=0.02)
    else:
        assert kept < found < kept_activations(tiny_config(base=base), build_meta(tiny_config(base=base)), batch)


def measured(module: TextModule, batch: object) -> int:
    own = {value.untyped_storage().data_ptr() for value in [*module.parameters(), *module.buffers()]}
    seen: dict[int, int] = {}
    keep: list[torch.Tensor] = []

    def pack(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
            keep.append(value)
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        keep.append(module(batch).total)
    return sum(seen.values())


def test_lora_needs_less_and_more_workers_share() -> None:
    lora = plan_training(load_preset("cluster-7b").s, 512)
    whole = plan_training(load_preset("cluster-7b-full").s, 512)
    assert lora.trained == 39_976_960 and lora.optimizer < 2**28 < whole.optimizer
    assert lora.memory < 40 * 2**30 and whole.memory < 80 * 2**30
    alone = plan_training(tiny_config(base=SEVEN, dtype="bfloat16"), 64)
    assert alone.sent == 0 and lora.sent < whole.sent


def test_time_follows_from_parameters_and_tokens() -> None:
    """2 N a token forward, 2 N back through a frozen model; the clean pass adds 2 N: CEFTune is half as much again."""
    steps = {name: plan_training(tiny_config(base=SEVEN, dtype="bfloat16", method=name), 64) for name in
             ("plain", "neftune", "ceftune")}  # fmt: skip
    assert steps["plain"].flops == steps["neftune"].flops
    assert steps["ceftune"].flops / steps["neftune"].flops == pytest.approx(1.5, abs=0.02)
    tokens = steps["plain"].tokens
    assert steps["plain"].flops == pytest.approx(4 * P * tokens, rel=0.05)
    computing, sending = steps["plain"].seconds(GPUS["a100-80"], 1)
    assert computing == pytest.approx(steps["plain"].flops / (312e12 * 0.4)) and sending == 0
