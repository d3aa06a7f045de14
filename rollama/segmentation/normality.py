"""Does a CT, with this plan, look like those the network was trained on?

A network outlines a breast on whatever it is sent: a head, an abdomen, a chest whose breast is gone. Nothing in the
mask tells. So two short lists of numbers are taken of each case: of the scan (how large the body is in each third of
it, how much of that is lung and bone, what lies beside it) and of the outlined target (how large, how thick, how
dense). What the plan lets expect of them is taken off; what remains is compared with its spread over the training cases
(Mahalanobis distance, covariance after Ledoit and Wolf 2004, widened by how much centres differ, because the next
hospital is another centre). The larger of the two distances counts. A text that is no plan lets nothing be expected of
the target: then the scan alone is judged.

The network's own deep features were tried as a third list and made it worse: they notice another scanner rather than
another anatomy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import nn

from rollama.data.body import body_mask
from rollama.data.plan import Level, TargetWords, Volume
from rollama.data.volumes import Volume as Ct

Vector = npt.NDArray[np.float64]
LUNG_HU, SOFT_HU, BONE_HU = -500.0, -20.0, 200.0
COARSE_MM = 4.0
THIRDS = 3
QUANTILE = 0.98
"""Share of training and validation cases within a distance of 1."""
CENTRES = 4.0
"""Weight of the variance between centres: a few centres show little of how much centres can differ."""
SIZES = {"scan": 5 * THIRDS, "target": 3}
LEAST = 8
"""Fewer cases say nothing about what is usual."""
FLOOR = 1e-3
"""Least variance, in units of the cases' own: numbers that were always the same may differ a little."""
_PLAN = 3 + len(Level)


class Example(NamedTuple):
    """A case to learn from: its numbers, its plan and its centre."""

    values: dict[str, Vector]
    plan: TargetWords | None
    centre: str


def describe(volume: Ct, probability: npt.NDArray[np.float32], threshold: float) -> dict[str, Vector]:
    """The numbers of one case, on the model's grid, as named in `SIZES`."""
    return {"scan": _scan(volume), "target": _target(volume, probability >= threshold)}


def _scan(volume: Ct) -> Vector:
    """Of each third along z: area of the body (dm^2, log), lung and bone in it, its width (dm), flesh beside it."""
    body, steps = body_mask(volume, COARSE_MM)
    hu = volume.array[:: steps[0], :: steps[1], :: steps[2]]
    x, y, z = (spacing * step / 100 for spacing, step in zip(volume.spacing, steps, strict=True))
    filled = np.stack([ndimage.binary_fill_holes(body[:, :, k]) for k in range(body.shape[2])], axis=2)
    found: list[float] = []
    for slices in np.array_split(np.arange(body.shape[2]), THIRDS):
        inside, here = filled[:, :, slices], hu[:, :, slices]
        count = max(1, int(inside.sum()))
        columns = np.flatnonzero(inside.any(axis=(1, 2)))
        found += [
            float(np.log(inside.sum() * x * y / max(1, len(slices)) + 0.01)),
            float(np.sqrt((inside & (here < LUNG_HU)).sum() / count)),
            float(np.sqrt((inside & (here > BONE_HU)).sum() / count)),
            float(np.ptp(columns) * x) if columns.size else 0.0,
            float(np.sqrt(((here > SOFT_HU) & ~inside).sum() * x * y * z)),
        ]
    return np.array(found)


def _target(volume: Ct, mask: npt.NDArray[np.bool_]) -> Vector:
    """Volume (cc, log), thickness from front to back (mm, log; of the thickest tenth of it), mean HU in hundreds."""
    if not mask.any():
        return np.zeros(3)
    thickness = mask.sum(axis=1)[mask.any(axis=1)] * volume.spacing[1]
    cc = float(mask.sum()) * volume.voxel_cc
    return np.array([np.log1p(cc), np.log(np.percentile(thickness, 90)), volume.array[mask].mean() / 100])


def plan_vector(plan: TargetWords) -> Vector:
    """What of a plan can change the numbers: side is left out, because left and right must look alike."""
    first = [float(plan.volume is Volume.BREAST), float(plan.guideline is not None)]
    return np.array([*first, *(float(level in plan.levels) for level in Level), 1.0])


class Normality(nn.Module):
    """Buffers: the mean training plan; for each list what to expect of a plan, and the inverse covariance of the rest.

    All zero: not fitted.
    """

    plan: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("plan", torch.zeros(_PLAN, dtype=torch.float64))
        for name, size in SIZES.items():
            self.register_buffer(f"{name}_expected", torch.zeros(_PLAN, size, dtype=torch.float64))
            self.register_buffer(f"{name}_precision", torch.zeros(size, size, dtype=torch.float64))

    @property
    def known(self) -> bool:
        """Whether it was fitted."""
        return bool(self.get_buffer("scan_precision").any())

    def score(self, values: dict[str, Vector], plan: TargetWords | None) -> float:
        """Distance from the training cases; 2 % of them are farther than 1. NaN when not fitted."""
        if not self.known:
            return float("nan")
        return max(self._distance(name, values[name], plan) for name in (SIZES if plan else ("scan",)))

    def fit(self, examples: Sequence[Example]) -> None:
        """Learn from training and validation cases of the centres that trained the network; from few cases, nothing."""
        from sklearn.covariance import LedoitWolf

        plans = [plan_vector(example.plan) for example in examples if example.plan is not None]
        if len(examples) < LEAST or not plans:
            return
        self.plan.copy_(torch.from_numpy(np.mean(plans, axis=0)))
        design = np.stack([self._vector(example.plan) for example in examples])
        ridge = np.diag([*np.ones(_PLAN - 1), 0.0])  # plans are few, and some of their parts always go together
        centres = np.array([example.centre for example in examples])
        for name in SIZES:
            values = np.stack([example.values[name] for example in examples])
            expected = np.linalg.solve(design.T @ design + ridge, design.T @ values)
            rest = values - design @ expected
            spread = np.where(rest.std(0) < 1e-6, 1.0, rest.std(0))
            rest /= spread
            means = np.stack([rest[centres == centre].mean(0) for centre in sorted(set(centres))])
            between = means.var(0, ddof=1) if len(means) > 1 else np.zeros(rest.shape[1])
            covariance = LedoitWolf().fit(rest).covariance_ + CENTRES * np.diag(between) + FLOOR * np.eye(rest.shape[1])
            precision = np.linalg.inv(covariance) / np.outer(spread, spread)
            self.get_buffer(f"{name}_expected").copy_(torch.from_numpy(expected))
            self.get_buffer(f"{name}_precision").copy_(torch.from_numpy(precision))
            self._widen([name], [self._distance(name, e.values[name], e.plan) for e in examples])
        self._widen([*SIZES], [self.score(e.values, e.plan) for e in examples])

    def _widen(self, names: Sequence[str], distances: Sequence[float]) -> None:
        """Scale lists so that the quantile of these distances becomes 1."""
        reach = max(float(np.quantile(distances, QUANTILE)), FLOOR)
        for name in names:
            self.get_buffer(f"{name}_precision").div_(reach**2)

    def _vector(self, plan: TargetWords | None) -> Vector:
        return self.plan.cpu().numpy() if plan is None else plan_vector(plan)

    def _distance(self, name: str, values: Vector, plan: TargetWords | None) -> float:
        expected = self.get_buffer(f"{name}_expected").cpu().numpy()
        precision = self.get_buffer(f"{name}_precision").cpu().numpy()
        rest = values - self._vector(plan) @ expected
        return float(np.sqrt(max(0.0, rest @ precision @ rest)))
