"""Learning rate as a pure function of the step, so that resume needs no scheduler state."""

from __future__ import annotations

import math


def one_cycle(
    step: int, steps: int, peak: float, warmup: float = 0.1, floor: float = 0.02, part: tuple[int, int] = (1, 1)
) -> float:
    """Linear warm-up, then cosine decay (the one-cycle policy, arXiv 1708.07120, without the momentum cycle).

    Args:
        step: optimizer step, from 0.
        steps: length of the run.
        peak: highest learning rate.
        warmup: share of the run spent warming up.
        floor: last learning rate as a share of `peak`.
        part: (k, n): the run is the k-th of n of this length that share one schedule, such as a federation's rounds.
    """
    step, steps = step + (part[0] - 1) * steps, steps * part[1]
    ramp = max(1, round(warmup * steps))
    if step < ramp:
        return peak * (step + 1) / ramp
    progress = (step - ramp) / max(1, steps - ramp)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
