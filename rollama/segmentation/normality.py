"""Does a CT, with this plan, look like those the network was trained on?

A network outlines a breast on whatever it is sent: a head, an abdomen, a chest whose breast is gone. Nothing in the
mask tells. So each training case leaves a few dozen numbers: what the deepest layer saw, how much of the scan is lung,
bone, fat, and how large and how sure the outlined target is. What a plan lets expect of them is taken off; what remains
is compared with its spread over the training cases (Mahalanobis distance, covariance after Ledoit and Wolf 2004).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from rollama.data.body import BODY_HU, find_body
from rollama.data.plan import Level, Plan, Volume
from rollama.data.volumes import Volume as Ct

Vector = npt.NDArray[np.float64]
MATERIALS = ((-2000.0, -500.0), (-150.0, -30.0), (-10.0, 90.0), (200.0, 4000.0))
"""HU of lung and air, fat, soft tissue, bone."""
THIRDS = 3
QUANTILE = 0.98
"""Share of validation cases that must not be called unusual."""
_IMAGE = 3 + len(MATERIALS) * THIRDS
_TARGET = 4
_PLAN = 3 + len(Level)


def describe(volume: Ct, probability: npt.NDArray[np.float32], threshold: float, features: Sequence[float]) -> Vector:
    """The numbers of one case, on the model's grid: `features`, then image and target."""
    body = find_body(volume)
    low, high = body.low, body.high
    inside = volume.array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    extent = [(b - a) * step for a, b, step in zip(low, high, volume.spacing, strict=True)]
    shares = []
    for part in np.array_split(inside, THIRDS, axis=2):
        filled = max(1, int((part > BODY_HU).sum()))
        shares += [((part > a) & (part < b)).sum() / filled for a, b in MATERIALS]
    mask = probability >= threshold
    litres = float(mask.sum()) * volume.voxel_cc / 1000
    target = [
        np.log1p(litres),
        float(probability.sum()) * volume.voxel_cc / 1000 - litres,
        float(probability[mask].mean()) if mask.any() else 0.0,
        float(volume.array[mask].mean()) / 100 if mask.any() else -10.0,
    ]
    return np.concatenate([np.asarray(features, dtype=np.float64), np.asarray(extent) / 100, shares, target])


def plan_vector(plan: Plan | None) -> Vector:
    """What of a plan can change the numbers: side is left out, because left and right must look alike."""
    if plan is None:
        return np.zeros(_PLAN)
    known = [1.0, float(plan.volume is Volume.BREAST), float(plan.guideline is not None)]
    return np.array([*known, *(float(level in plan.levels) for level in Level)])


class Normality(nn.Module):
    """Buffers: what to expect of each plan, the inverse covariance of the rest, and the limit (0: not fitted)."""

    expected: torch.Tensor
    precision: torch.Tensor
    limit: torch.Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        size = features + _IMAGE + _TARGET
        self.register_buffer("expected", torch.zeros(_PLAN + 1, size, dtype=torch.float64))
        self.register_buffer("precision", torch.zeros(size, size, dtype=torch.float64))
        self.register_buffer("limit", torch.zeros((), dtype=torch.float64))

    @property
    def known(self) -> bool:
        """Whether it was fitted."""
        return bool(self.limit > 0)

    def score(self, values: Vector, plan: Plan | None) -> float:
        """Distance from the training cases; about 1 for one of them. NaN when not fitted."""
        if not self.known:
            return float("nan")
        rest = values - np.append(plan_vector(plan), 1.0) @ self.expected.cpu().numpy()
        return float(np.sqrt(max(0.0, rest @ self.precision.cpu().numpy() @ rest) / len(rest)))

    def fit(self, training: Sequence[tuple[Vector, Plan | None]], held: Sequence[tuple[Vector, Plan | None]]) -> None:
        """Learn from training cases; the limit comes from held-out ones (validation)."""
        from sklearn.covariance import LedoitWolf

        values = np.stack([row for row, _ in training])
        design = np.stack([np.append(plan_vector(plan), 1.0) for _, plan in training])
        # Ridge: plans are few and some of their parts always go together.
        expected = np.linalg.solve(design.T @ design + np.eye(design.shape[1]), design.T @ values)
        rest = values - design @ expected
        spread = rest.std(0)
        spread[spread < 1e-9] = 1.0
        precision = LedoitWolf().fit(rest / spread).precision_ / np.outer(spread, spread)
        self.expected.copy_(torch.from_numpy(expected))
        self.precision.copy_(torch.from_numpy(precision))
        self.limit.fill_(1.0)
        scores = [self.score(row, plan) for row, plan in held]
        self.limit.fill_(float(np.quantile(scores, QUANTILE)) if scores else 0.0)
