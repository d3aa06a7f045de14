"""The training loop: micro-batches in, one optimizer step out, everything else in callbacks.

The loop knows neither Ray nor the method nor the parallelism. Three small objects meet here:

* a **method** with `forward(module, batch) -> (loss, metrics)`: loss and metrics are this micro-batch's *share of the
  global mean* (its sum divided by the count over all micro-batches and ranks), so plain sums over micro-batches and
  ranks are the global values. That makes accumulation and sharding exact for losses that are means over tokens.
* an **engine** that owns module and optimizer and knows the parallelism (DeepSpeed ZeRO, DDP);
* **callbacks** for logging, checkpoints, reports.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch

from rollama.core.errors import RollamaError
from rollama.training.shards import Piece, everyones

Metrics = dict[str, float]


class Method(Protocol):
    """A training method, such as CEFTune or CESEG."""

    def forward(self, module: torch.nn.Module, batch: Any) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Loss with gradient and detached metrics, both as shares of the global mean."""
        ...


class Engine(Protocol):
    """Module and optimizer under some parallelism."""

    module: torch.nn.Module
    rank: int
    world: int
    sharded: bool
    """Whether its state is kept in pieces (`pieces`), because no rank could hold it whole (`state`)."""

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Accumulate gradients so that they end up as the *sum* over micro-batches and ranks.

        `last` marks the step's last micro-batch.
        """
        ...

    def step(self, lr: float) -> None:
        """Clip, apply the optimizer at this learning rate, clear the gradients."""
        ...

    def reduce(self, values: Mapping[str, torch.Tensor]) -> Metrics:
        """Sum each value over all ranks (collective)."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """Trained parameters and optimizer state, whole, on rank 0; nothing elsewhere (collective)."""
        ...

    def pieces(self) -> Mapping[str, Piece]:
        """This rank's pieces of the same, where the engine is `sharded`."""
        ...

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore what `state` returned, on any number of ranks (collective)."""
        ...


class Callback(Protocol):
    """Called on every rank after each optimizer step; `step` counts finished steps from 1."""

    def after_step(self, step: int, metrics: Metrics) -> None: ...


class NotFinite(RollamaError):
    """The loss became NaN or infinite; the optimizer was not stepped, so the last checkpoint is good."""


def run(
    engine: Engine,
    method: Method,
    batches: Callable[[int], Iterable[Any]],
    lr: Callable[[int], float],
    steps: int,
    first: int = 0,
    callbacks: Sequence[Callback] = (),
    stop: Callable[[], bool] = lambda: False,
) -> int:
    """Train from step `first` (0 for a new run) up to `steps`; returns the finished steps.

    Args:
        batches: this rank's micro-batches of a step; every rank must yield the same number of them.
        lr: learning rate of a step.
        callbacks: called in order after each step.
        stop: asked before each step whether training ends early; every rank must answer alike.

    Raises:
        NotFinite: the global loss of a step is NaN or infinite.
    """
    for step in range(first, steps):
        if stop():
            return step
        started = time.perf_counter()
        totals: dict[str, torch.Tensor] = {}
        micro = list(batches(step))
        bad: list[str] = []
        for index, batch in enumerate(micro):
            loss, metrics = method.forward(engine.module, batch)
            if not math.isfinite(loss.detach()):
                bad += getattr(batch, "case_ids", ())
            engine.backward(loss, last=index == len(micro) - 1)
            for name, value in {"loss": loss.detach(), **metrics}.items():
                totals[name] = totals.get(name, torch.zeros((), device=value.device)) + value.float()
        reduced = engine.reduce(totals)
        if not math.isfinite(reduced["loss"]):
            names = [name for found in everyones(bad) for name in found]  # all ranks are here: the loss is global
            raise NotFinite(
                f"step {step + 1}: loss is {reduced['loss']}, from {', '.join(names) or 'no single case'}; "
                "lower the learning rate or check the data; the same command goes on from the last checkpoint"
            )
        rate = lr(step)
        engine.step(rate)
        reduced |= {"lr": rate, "seconds": time.perf_counter() - started}
        for callback in callbacks:
            callback.after_step(step + 1, reduced)
    return max(first, steps)


@contextlib.contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every sub-module's own mode again after."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
