"""A CESEG training step at the published size on one GPU: python -m benchmarks.full_size [--steps 8]

384 x 384 x 128 voxels, five stages of 48 to 384 channels, a frozen text encoder of SmolLM2's or LLaMA-2-7B's shape with
random weights (they cost the same as trained ones): seconds a step, the text model's share of them, peak memory. The
volumes are noise; what is measured is work, not quality.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

WARM_UP = 2
TOKENS = 45
SMOLLM2 = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
           "num_key_value_heads": 3, "vocab_size": 49152}  # fmt: skip
ENCODERS: dict[str, dict[str, Any]] = {"SmolLM2-135M": SMOLLM2, "LLaMA-2-7B": {}}


def seconds(work: Callable[[], object]) -> float:
    """Wall time of some work on the GPU."""
    import torch

    torch.cuda.synchronize()
    begun = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - begun


def run(encoder: str, steps: int, every: int, checkpointing: bool) -> dict[str, Any]:
    """Some steps of one patch; medians after the first `WARM_UP`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from rollama.presets import load_preset
    from rollama.segmentation.engine import DdpEngine
    from rollama.segmentation.method import build_method
    from rollama.segmentation.model import SegBatch, SegmentationNet
    from rollama.segmentation.noise import plan_noise
    from rollama.segmentation.text_encoder import PlanTokens, TextEncoder

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    device = torch.device("cuda", 0)
    changes = [
        f"segmentation.activation_checkpointing={str(checkpointing).lower()}", f"segmentation.prompt_every={every}",
    ]  # fmt: skip
    config = load_preset("cluster-seg", changes).segmentation
    torch.set_default_dtype(torch.bfloat16)
    with device:
        base = LlamaForCausalLM(LlamaConfig(**ENCODERS[encoder]))
    torch.set_default_dtype(torch.float32)
    network = SegmentationNet(config, TextEncoder(config, base, None)).to(device)
    engine, method = DdpEngine(network, config, 0, 1, device), build_method(config)
    text = network.text_encoder
    assert text is not None
    inside: list[float] = []
    forward = text.forward

    def timed(*given: Any, **more: Any) -> Any:
        found: list[Any] = []
        inside.append(seconds(lambda: found.append(forward(*given, **more))))
        return found[0]

    def batch(step: int) -> SegBatch:
        noise = plan_noise([TOKENS], [step], TOKENS, text.width, config.noise_alpha, config.noise_scale)
        plan = PlanTokens(torch.randint(3, 1000, (1, TOKENS), device=device), torch.tensor([TOKENS]), noise)
        return SegBatch(
            image=torch.rand(1, 1, *config.patch, device=device),
            target=(torch.rand(1, 1, *config.patch, device=device) > 0.9).float(),
            origin=torch.zeros(1, 3, device=device), plan=plan, weight=torch.ones(1, device=device),
            learn_prompts=step % every == 0, last=True, case_ids=("noise",),
        )  # fmt: skip

    def step(number: int) -> None:
        loss, _ = method.forward(engine.module, batch(number))
        engine.backward(loss, last=True)
        engine.step(1e-4)

    plain = [seconds(lambda n=n: step(n)) for n in range(steps)][WARM_UP:]  # type: ignore[misc]
    text.forward = timed  # type: ignore[method-assign]
    for number in range(steps):
        step(number)
    return {
        "encoder": encoder, "prompts learn every": every, "activation checkpointing": checkpointing,
        "step s": round(median(plain), 3), "slowest s": round(max(plain), 3),
        "text forward s": round(median(inside[WARM_UP:]), 3),
        "peak GiB": round(torch.cuda.max_memory_allocated() / 2**30, 1),
    }  # fmt: skip


def main() -> None:
    """Command line."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("a step at the published size needs a GPU; benchmarks.segmentation_training counts it instead")
    print(torch.cuda.get_device_name(), torch.__version__, flush=True)
    for encoder in ENCODERS:
        for every, checkpointing in ((1, True), (4, True), (1, False)):
            try:
                print(json.dumps(run(encoder, given.steps, every, checkpointing)), flush=True)
            except torch.cuda.OutOfMemoryError as error:
                print(encoder, every, checkpointing, "out of memory:", str(error)[:120], flush=True)


if __name__ == "__main__":
    main()
