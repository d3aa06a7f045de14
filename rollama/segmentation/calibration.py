"""Make a probability mean what it says: of the voxels called 0.7, seven in ten are target.

Networks trained with Dice are far too sure of themselves. Two numbers, fitted on validation cases, scale and move
their logits (Platt scaling). Masks are decided on the uncalibrated probability, so none changes by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
LIMIT = 16.0
BINS = 15
NEAR_MM = 20.0
"""Voxels farther from the predicted target say nothing about calibration; there are too many of them."""


@dataclass(frozen=True)
class Calibration:
    """Probability = sigmoid(`scale` * logit + `offset`), of logits within +-16 (what a float32 probability can say)."""

    scale: float = 1.0
    offset: float = 0.0

    @classmethod
    def read(cls, values: Any) -> Calibration:
        """From a manifest; artefacts of older versions have none."""
        return cls(**values) if values else cls()

    def as_dict(self) -> dict[str, float]:
        """For a manifest."""
        return asdict(self)

    def __call__(self, logits: Array) -> Array:
        """Probabilities of logits."""
        values = self.scale * np.clip(logits, -LIMIT, LIMIT) + self.offset
        return np.asarray(1.0 / (1.0 + np.exp(-values)), dtype=np.float32)


def logit(probability: Array) -> Array:
    """The inverse of the sigmoid, within +-16: beyond, float32 knows no probability below 1."""
    p = np.clip(probability.astype(np.float64), 1e-8, 1 - 1e-8)
    return np.asarray(np.clip(np.log(p / (1 - p)), -LIMIT, LIMIT), dtype=np.float32)


def fit(cases: Iterable[tuple[Array, npt.NDArray[Any]]]) -> Calibration:
    """The two numbers that make the likelihood of validation cases largest.

    Args:
        cases: uncalibrated probabilities and targets of each one's voxels that count (see `near_target`).

    Returns:
        No change when there is nothing to fit: no voxels, or all alike.
    """
    from scipy.optimize import minimize

    chosen = list(cases)
    x = np.concatenate([logit(p) for p, _ in chosen]).astype(np.float64) if chosen else np.zeros(0)
    y = np.concatenate([t for _, t in chosen]).astype(np.float64) if chosen else np.zeros(0)
    if not 0 < y.sum() < len(y):
        return Calibration()

    def loss(values: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        z = values[0] * x + values[1]
        error = 1 / (1 + np.exp(-z)) - y
        return float((np.logaddexp(0, z) - y * z).mean()), np.array([(error * x).mean(), error.mean()])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=((1e-2, 10.0), (-5.0, 5.0)))
    return Calibration(round(float(found.x[0]), 5), round(float(found.x[1]), 5))


def calibration_error(probability: Array, truth: npt.NDArray[Any]) -> float:
    """Expected calibration error: mean over voxels of |share of target - mean probability| of the voxel's bin.

    15 equal bins. Give it the voxels near the target: the millions of others would make any model look perfect. NaN
    without voxels.
    """
    if not probability.size:
        return float("nan")
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    difference = np.bincount(place, truth, BINS) - np.bincount(place, probability, BINS)
    return float(np.abs(difference).sum() / probability.size)


def near_target(
    probability: Array, truth: npt.NDArray[Any], spacing: Sequence[float], threshold: float
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """(n,), (n,): probability and truth of the voxels at most 20 mm (along each axis) from the predicted target.

    The truth has no say in the choice: missed target far away is left out as well, or all that is improbable and
    counts would be target. None, when nothing reaches the threshold.
    """
    from scipy.ndimage import maximum_filter

    size = [2 * int(NEAR_MM / step) + 1 for step in spacing]
    inside = maximum_filter((probability >= threshold).astype(np.uint8), size=size) > 0
    return probability[inside], truth[inside] > 0
