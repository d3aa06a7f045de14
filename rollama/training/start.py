"""Where a training begins: at the seed, or at the weights of a trained model; and how far it may go from there.

A model that began at another one is another model, so the parent's digest is part of the configuration (`init`) and
with it of the run's identity; where the parent lies is not. FedProx (arXiv 1812.06127) adds mu/2 * ||w - w0||^2 to
the loss, w0 being the weights at the beginning. It is taken once per optimizer step: every micro-batch adds its
share, and the shares of a step sum to one, as those of the loss do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from rollama.core.errors import CheckpointError, ConfigError
from rollama.training.artefact import artefact_hash
from rollama.training.loop import Method


def start_folder(init: str, folder: Path | None) -> Path | None:
    """The artefact to start from, checked against the digest in the configuration; None: start from the seed.

    Raises:
        ConfigError: the configuration names a start and none was given, or the other way round.
        CheckpointError: the artefact is another one.
    """
    if not init and folder is None:
        return None
    if folder is None:
        raise ConfigError(f"init: the configuration starts from weights {init[:12]}; give their artefact with --init")
    if not init:
        raise ConfigError(f"init: {folder} was given to start from, but the configuration names no weights (key init)")
    found = artefact_hash(folder)
    if found != init:
        raise CheckpointError(f"{folder}: holds weights {found[:12]}, the configuration starts from {init[:12]}")
    return folder


class Proximal:
    """A method with FedProx's term added; implements `training.loop.Method`.

    Create it when the parameters have their first values and before a checkpoint is loaded into them.
    """

    def __init__(
        self, method: Method, mu: float, parameters: Mapping[str, torch.nn.Parameter], share: Callable[[Any], Any]
    ) -> None:
        """`share` gives a batch's share of its optimizer step; the shares of all micro-batches and ranks sum to 1."""
        self.method, self.mu, self.share = method, mu, share
        self.pairs = [(parameter, parameter.detach().clone()) for parameter in parameters.values()]

    def forward(self, module: torch.nn.Module, batch: Any) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Loss and metrics of the method, and `proximal`: the term that was added."""
        loss, metrics = self.method.forward(module, batch)
        distances = []
        for index, (parameter, first) in enumerate(self.pairs):
            if first.device != parameter.device:
                first = first.to(parameter.device)
                self.pairs[index] = (parameter, first)
            distances.append((parameter.float() - first.float()).square().sum())
        term = 0.5 * self.mu * self.share(batch) * torch.stack(distances).sum()
        return loss + term, {**metrics, "proximal": term.detach()}
