"""What is checked at a site before anything leaves it.

The site compares with its own copy of the start model, not with what the coordinator sent: names and shapes are those
of the model it agreed to train. The order matters: a training that ran away is refused before clipping would make it
look harmless.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

import numpy as np

from rollama.centres.federation.config import CountsPolicy, Policy
from rollama.centres.federation.weights import Tensors, distance, size
from rollama.core.errors import RollamaError


class Withheld(RollamaError):
    """The site's policy does not let this leave."""


def check_forms(
    tensors: Mapping[str, np.ndarray], agreed: Mapping[str, np.ndarray], what: str, error: type[RollamaError] = Withheld
) -> None:
    """Refuse other names, shapes or types than agreed, and values that are not finite; `what` begins the message."""
    if odd := sorted(set(tensors) ^ set(agreed)):
        missing = [name for name in odd if name in agreed]
        raise error(f"{what}: {'lacks' if missing else 'holds'} tensor {(missing or odd)[0]} ({len(odd)} differ)")
    for name, value in tensors.items():
        if value.shape != agreed[name].shape:
            raise error(f"{what}: {name} has shape {value.shape}, agreed is {agreed[name].shape}")
        if value.dtype != agreed[name].dtype:
            raise error(f"{what}: {name} is of type {value.dtype}, agreed is {agreed[name].dtype}")
        if not np.isfinite(value).all():
            raise error(f"{what}: {name} holds NaN or infinite values")


def outgoing(
    trained: Tensors, received: Mapping[str, np.ndarray], agreed: Mapping[str, np.ndarray], cases: int, policy: Policy
) -> tuple[Tensors, dict[str, float]]:
    """What may leave: (tensors, norms for the record).

    Args:
        trained: the site's weights after its training.
        received: the weights that it began with.
        agreed: the start model's moving tensors.
        cases: how many cases it was trained on.
        policy: the site's.

    Raises:
        Withheld: names the rule and the figure.
    """
    check_forms(trained, agreed, "the trained model")
    for name in trained:
        if not any(fnmatchcase(name, pattern) for pattern in policy.tensors):
            raise Withheld(f"policy.tensors: {name} may not leave; allowed: {', '.join(policy.tensors)}")
    if cases < policy.min_cases:
        raise Withheld(f"policy.min_cases: trained on {cases} cases, at least {policy.min_cases} are needed")
    norm, weights = distance(trained, received), size(received)
    if norm > policy.max_relative * weights:
        raise Withheld(
            f"policy.max_relative: the update has norm {norm:.3g}, more than {policy.max_relative} of the weights' "
            f"{weights:.3g}; the training did not go well"
        )
    scale = min(1.0, policy.max_norm / norm) if norm else 1.0
    if scale < 1:
        trained = {
            name: (received[name] + scale * (value - received[name])).astype(value.dtype)
            for name, value in trained.items()
        }
    return trained, {"norm": norm, "norm_sent": norm * scale, "norm_weights": weights}


def count_said(cases: int, policy: Policy) -> int:
    """The number of cases that the coordinator is told; 1 where it may not know."""
    return cases if policy.counts is CountsPolicy.CASES else 1
