"""The training loop's engine for the segmentation network: DDP over gloo or NCCL, AdamW, whole-tensor state.

The network is small next to its activations, so data parallelism is all it needs. With one process there is no DDP
wrapper at all. Losses are shares of the global mean (see `training.loop`), so gradients must be summed over ranks,
while DDP averages: `backward` multiplies by the number of ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from rollama.core.errors import CheckpointError
from rollama.segmentation.config import SegConfig
from rollama.segmentation.model import SegBatch, SegmentationNet
from rollama.training.loop import Metrics
from rollama.training.shards import Piece

MOMENTS = ("exp_avg", "exp_avg_sq")


class _SyncLast(DistributedDataParallel):
    """DDP that exchanges gradients only in the backward pass of a step's last micro-batch."""

    def forward(self, batch: SegBatch, **options: Any) -> Any:
        self.require_backward_grad_sync = batch.last
        return super().forward(batch, **options)  # type: ignore[no-untyped-call]


class DdpEngine:
    """Implements `training.loop.Engine`."""

    module: torch.nn.Module
    sharded = False

    def __init__(
        self, network: SegmentationNet, config: SegConfig, rank: int, world: int, device: torch.device
    ) -> None:
        self.rank, self.world, self.config = rank, world, config
        self.network = network.to(device)
        self.network.train()
        self.parameters = {name: value for name, value in network.named_parameters() if value.requires_grad}
        prompts = [value for name, value in self.parameters.items() if name == PROMPTS]
        others = [value for name, value in self.parameters.items() if name != PROMPTS]
        groups: list[dict[str, Any]] = [{"params": others, "factor": 1.0, "weight_decay": config.weight_decay}]
        if prompts:
            groups.append({"params": prompts, "factor": config.prompt_lr_factor, "weight_decay": 0.0})
        self.optimizer = torch.optim.AdamW(groups, lr=config.lr)
        self.module = self.network
        self.extra: dict[str, torch.Tensor] = {}
        """What else goes into a checkpoint, the same on every rank."""
        if world > 1:
            index = [device.index] if device.type == "cuda" and device.index is not None else None
            self.module = _SyncLast(self.network, device_ids=index)

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Accumulate; the sum over ranks appears with the micro-batch whose `SegBatch.last` is set."""
        torch.autograd.backward(loss * self.world)

    def step(self, lr: float) -> None:
        """Clip the norm of all gradients together, step AdamW, clear."""
        prompts = self.parameters.get(PROMPTS)
        if prompts is not None and prompts.grad is not None and not bool(prompts.grad.any()):
            prompts.grad = None  # a step without prompt gradient leaves prompts and their moments as they are
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["factor"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def reduce(self, values: Mapping[str, torch.Tensor]) -> Metrics:
        """Sum over ranks; every rank must give the same names."""
        names = sorted(values)
        total = torch.stack([values[name].detach().double().cpu() for name in names])
        if self.world > 1:
            total = total.to(next(iter(self.parameters.values())).device)
            distributed.all_reduce(total)
        return dict(zip(names, total.tolist(), strict=True))

    def state(self) -> dict[str, torch.Tensor]:
        """Trained parameters, AdamW moments, step counts, and `extra`; the frozen encoder is no part of it."""
        result = {f"param/{name}": value.detach() for name, value in self.parameters.items()}
        result |= {f"extra/{name}": value for name, value in self.extra.items()}
        for name, value in self.parameters.items():
            moments = self.optimizer.state.get(value, {})
            result[f"step/{name}"] = torch.as_tensor(moments.get("step", 0.0), dtype=torch.float32)
            for key in MOMENTS:
                result[f"{key}/{name}"] = moments[key] if key in moments else torch.zeros_like(value)
        return result

    def pieces(self) -> Mapping[str, Piece]:
        """Never asked for: the state is small."""
        raise NotImplementedError("the segmentation network's state is saved whole")

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore what `state` gave.

        Raises:
            CheckpointError: tensors are missing or of another shape.
        """
        load_parameters(self.parameters, {k[6:]: v for k, v in state.items() if k.startswith("param/")}, "checkpoint")
        self.extra = {name[6:]: value.clone() for name, value in state.items() if name.startswith("extra/")}
        for name, value in self.parameters.items():
            if f"step/{name}" not in state:
                raise CheckpointError(f"checkpoint: no optimizer state for {name}")
            self.optimizer.state[value] = {
                "step": state[f"step/{name}"].clone().float().cpu(),
                **{key: state[f"{key}/{name}"].to(value).clone() for key in MOMENTS},
            }


PROMPTS = "text_encoder.prompts"


def load_parameters(parameters: Mapping[str, torch.Tensor], values: Mapping[str, torch.Tensor], source: str) -> None:
    """Copy `values` into a network's trained parameters.

    Raises:
        CheckpointError: names or shapes differ.
    """
    if set(parameters) != set(values):
        odd = sorted(set(parameters) ^ set(values))
        raise CheckpointError(
            f"{source}: its tensors do not fit the network of its configuration (for example {odd[0]})"
        )
    with torch.no_grad():
        for name, value in parameters.items():
            if value.shape != values[name].shape:
                raise CheckpointError(
                    f"{source}: {name} has shape {tuple(values[name].shape)}, the network {tuple(value.shape)}"
                )
            value.copy_(values[name])
