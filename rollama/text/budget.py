"""What a training run will need, before anything starts: parameters, memory a GPU, communication, time.

An out-of-memory error after an hour in a queue is the usual way to learn that a preset does not fit. Weights and
optimizer state follow from the configuration; activations are counted, not guessed: one forward pass of the very
module that will be trained runs on fake tensors (shapes without values), and what autograd keeps for the backward pass
is added up. Time is the weak part: it assumes a share of the GPU's peak, `EFFICIENCY`, and says so.

Bytes of a parameter under DeepSpeed with bfloat16: weight 2; if it is trained, also gradient 4 (accumulated in
float32), master copy 4, Adam's moments 8. ZeRO divides by the number of workers: stage 1 master copy and moments, stage
2 also gradients, stage 3 also weights (arXiv 1910.02054). Gradients pass through a bucket on their way.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from rollama.core.registry import Consistency, TextMethod
from rollama.data.tokenization import TokenRow
from rollama.text.batch import TextBatch, collate, documents_at_once
from rollama.text.config import TextConfig
from rollama.text.model import TextModule, build_meta, trained_parameters

EFFICIENCY = 0.4
"""Share of a GPU's peak that training reaches; 0.3 to 0.5 is common for 7B models, an assumption here."""
RESERVE = 1.5 * 2**30
"""CUDA context, workspaces and fragmentation; an assumption."""


@dataclass(frozen=True)
class Gpu:
    """Memory (GiB), dense bfloat16 peak (TFLOP/s) and bandwidth to other GPUs of the machine (GB/s, one direction)."""

    name: str
    memory_gib: float
    tflops: float
    link_gbs: float


GPUS = {
    "a100-40": Gpu("NVIDIA A100 40 GB SXM", 40, 312, 300),
    "a100-80": Gpu("NVIDIA A100 80 GB SXM", 80, 312, 300),
    "h100": Gpu("NVIDIA H100 80 GB SXM", 80, 989, 450),
    "h200": Gpu("NVIDIA H200 141 GB SXM", 141, 989, 450),
    "l40s": Gpu("NVIDIA L40S 48 GB", 48, 362, 32),
    "a6000": Gpu("NVIDIA RTX A6000 48 GB", 48, 155, 32),
}
"""Figures of the makers' data sheets."""


@dataclass(frozen=True)
class Budget:
    """Needs of a run; bytes are per worker.

    Attributes:
        parameters, trained: values in the model, and those that are trained.
        tokens: of an optimizer step, all workers.
        weights, optimizer, gradients, activations, head: parts of the memory.
        sent: bytes that a worker sends in an optimizer step.
        flops: of an optimizer step, all workers.
    """

    parameters: int
    trained: int
    tokens: int
    weights: int
    optimizer: int
    gradients: int
    activations: int
    head: int
    sent: int
    flops: float

    @property
    def memory(self) -> int:
        """All parts, without what CUDA itself takes (`RESERVE`)."""
        return self.weights + self.optimizer + self.gradients + self.activations + self.head

    def seconds(self, gpu: Gpu, workers: int) -> tuple[float, float]:
        """(computing, communicating) of an optimizer step, if nothing overlaps."""
        return self.flops / workers / (gpu.tflops * 1e12 * EFFICIENCY), self.sent / (gpu.link_gbs * 1e9)


def plan_training(config: TextConfig, length: int, answer_share: float = 0.3) -> Budget:
    """The budget of a configuration when every text has `length` tokens, `answer_share` of them answer.

    Raises:
        ConfigError: the base is neither here nor a known architecture.
    """
    module = build_meta(config)
    world, stage = config.scale.workers, config.zero.stage
    every = {name: parameter.numel() for name, parameter in module.named_parameters()}
    trained = sum(parameter.numel() for parameter in trained_parameters(module).values())
    width = 2 if config.dtype == "bfloat16" else 4
    texts = documents_at_once(config.micro_batch, config.batch, world)
    rounds = config.batch // (texts * world)
    answer = max(1, round(answer_share * length))
    batch = collate(
        [TokenRow(f"row-{index}", (1,) * length, length - answer) for index in range(texts)],
        [0] * texts,
        texts * answer,
        texts,
        torch.device("cpu"),
        config.packing,
    )

    def shared(size: int, from_stage: int) -> int:
        return size // world if stage >= from_stage else size

    master = 4 * trained if width == 2 else 0
    state = 0 if config.zero.offload_optimizer else shared(master + 8 * trained, 1)
    gradients = shared(4 * trained, 2) + (width + 4) * min(config.zero.bucket, trained)
    weights = shared(width * sum(every.values()), 3)
    if stage == 3:  # two blocks are whole at a time: the one that computes and the one that is fetched ahead
        weights += 2 * width * largest_block(module)
    vocabulary, hidden = module.lm.config.vocab_size, module.lm.config.hidden_size
    copies = 3 if config.method is TextMethod.CEFTUNE and config.consistency is Consistency.KL else 2
    head = copies * 4 * min(config.loss_chunk, texts * answer) * vocabulary
    head += 0 if config.lora.enabled else 2 * vocabulary * hidden
    return Budget(
        parameters=sum(every.values()),
        trained=trained,
        tokens=config.batch * length,
        weights=weights,
        optimizer=state,
        gradients=gradients,
        activations=kept_activations(config, module, batch),
        head=head,
        sent=_sent(config, sum(every.values()), trained, rounds, width),
        flops=_flops(config, module, length, answer),
    )


def kept_activations(config: TextConfig, module: TextModule, batch: TextBatch) -> int:
    """Bytes that autograd keeps between forward and backward pass, counted in a pass on fake tensors.

    With activation checkpointing, one block is computed again at a time and is added.
    """
    kept = _saved_in(module, batch)
    if not config.activation_checkpointing:
        return kept
    blocks = module.lm.config.num_hidden_layers
    plain = build_meta(config.model_copy(update={"activation_checkpointing": False}))
    return int(kept + _saved_in(plain, batch) // blocks)


def _saved_in(module: TextModule, batch: TextBatch) -> int:
    from torch._subclasses.fake_tensor import FakeTensorMode

    seen: dict[int, int] = {}
    keep: list[torch.Tensor] = []  # a freed storage's address could be taken by another
    with FakeTensorMode(allow_non_fake_inputs=True):
        values = {
            name: torch.empty(value.shape, dtype=value.dtype, requires_grad=value.requires_grad)
            for name, value in [*module.named_parameters(), *module.named_buffers()]
        }
        own = {value.untyped_storage()._cdata for value in values.values()}

        def pack(value: torch.Tensor) -> torch.Tensor:
            storage = value.untyped_storage()
            if storage._cdata not in own and storage._cdata not in seen:
                seen[storage._cdata] = storage.nbytes()
                keep.append(value)
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            result = torch.func.functional_call(module.train(), values, (batch,), tie_weights=True)
        keep.append(result.total)
    return sum(seen.values())


def largest_block(module: TextModule) -> int:
    """Parameters of the largest transformer block."""
    layers: nn.ModuleList = module._causal().model.layers
    return max(sum(parameter.numel() for parameter in layer.parameters()) for layer in layers)


def _forward_passes(config: TextConfig) -> int:
    """Of a micro-batch: the noisy one, CEFTune's clean one, and the one that checkpointing computes again."""
    return 1 + (config.method is TextMethod.CEFTUNE) + config.activation_checkpointing


def _sent(config: TextConfig, parameters: int, trained: int, rounds: int, width: int) -> int:
    world, stage = config.scale.workers, config.zero.stage
    if world == 1:
        return 0
    share = (world - 1) / world
    # Gradients travel in float32. DeepSpeed all-reduces them (twice the volume), from stage 2 on in every round.
    reduced = 4 * trained * share * (1 if stage == 3 else 2)
    if stage < 3:
        return int(reduced * (rounds if stage == 2 else 1) + (width * trained * share if stage else 0))
    forward = _forward_passes(config)
    # Every forward pass gathers all weights, the backward pass gathers them again; recomputing happens within it.
    gathers = forward + 1 - (1 if config.activation_checkpointing else 0)
    return int(reduced * rounds + width * parameters * share * gathers * rounds)


def _flops(config: TextConfig, module: TextModule, length: int, answer: int) -> float:
    """2 a parameter and token forward, as much for the gradient of activations and again for that of weights."""
    head = module.head.weight.numel()
    body = sum(parameter.numel() for parameter in module.parameters()) - head
    if module.lm.config.tie_word_embeddings is False:
        body -= head  # the input embedding is looked up, not multiplied
    model = module.lm.config
    attention = 2 * model.num_hidden_layers * model.hidden_size * length  # causal: half of 4 * T * H a token and layer
    forward = _forward_passes(config)
    backward = 1 if config.lora.enabled else 2
    heads = 2 if config.method is TextMethod.CEFTUNE and config.consistency is not Consistency.HIDDEN else 1
    tokens = config.batch * length
    body_flops = (2 * body * (forward + backward) + attention * (forward + 2)) * tokens
    return float(body_flops + 2 * head * (heads + 1) * config.batch * answer)
