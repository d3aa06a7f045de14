"""Which part of a CT a plan is about, so that the network need not run on the rest.

Half of a planning CT is no patient, and of the patient a plan concerns one side. How far targets reach from the
patient's centre is measured on the training cases, apart for plans with and without nodes and mirrored to one side;
with a generous margin it bounds the search. A mask that touches such a bound is not trusted: the caller looks again
without it (see `SegmentationModel.probability`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rollama.data.body import Body, Index, at_least
from rollama.data.plan import Plan, Side, TargetWords
from rollama.data.transforms import Prepared

LEAST_CASES = 20
"""Fewer training cases of a kind say nothing about how far its targets reach."""
NODES, NO_NODES = "with nodes", "without nodes"


@dataclass(frozen=True)
class Reach:
    """Boxes in mm from the patient's centre that hold the training targets looked at, mirrored to the left side.

    `boxes`: kind of plan -> (lowest x, y, z), (highest x, y, z).
    """

    boxes: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]

    @classmethod
    def of(cls, cases: Iterable[tuple[Plan, Prepared]], spacing: Iterable[float]) -> Reach:
        """Measure the targets of training cases."""
        step = np.asarray(tuple(spacing))
        found: dict[str, list[npt.NDArray[np.float64]]] = {NODES: [], NO_NODES: []}
        for plan, prepared in cases:
            inside = np.argwhere(prepared.target)
            if plan.has_target and inside.size:
                ends = np.stack([inside.min(0) - 0.5, inside.max(0) + 0.5]) * step + prepared.origin
                if plan.side is Side.RIGHT:
                    ends[:, 0] = -ends[::-1, 0]
                found[_kind(plan)].append(ends)
        boxes = {}
        for kind, ends in found.items():
            if len(ends) >= LEAST_CASES:
                every = np.stack(ends)
                boxes[kind] = (tuple(every[:, 0].min(0).round(1).tolist()), tuple(every[:, 1].max(0).round(1).tolist()))
        return cls(boxes)

    @classmethod
    def read(cls, values: Any) -> Reach:
        """From a manifest; artefacts of older versions have none."""
        return cls({kind: (tuple(low), tuple(high)) for kind, (low, high) in (values or {}).items()})

    def box(self, plan: TargetWords | None) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
        """(lowest, highest) mm from the patient's centre, on the plan's side; None: nothing known."""
        if plan is None or _kind(plan) not in self.boxes:
            return None
        low, high = (np.asarray(end, dtype=np.float64) for end in self.boxes[_kind(plan)])
        if plan.side is Side.RIGHT:
            low[0], high[0] = -high[0], -low[0]
        return low, high


def _kind(plan: TargetWords) -> str:
    return NODES if plan.levels else NO_NODES


def body_region(body: Body, window: Index, shape: Index) -> tuple[Index, Index]:
    """The patient's box, at least one window large where the volume is."""
    return at_least(body.low, body.high, window, shape)


def plan_region(
    body: Body,
    reach: Reach,
    plan: TargetWords | None,
    margin: float,
    spacing: Iterable[float],
    window: Index,
    shape: Index,
) -> tuple[Index, Index]:
    """The part of the patient's box in which a plan's target can lie, at least one window large.

    Args:
        body: of the volume, on the model's grid.
        reach: how far training targets reached.
        plan: None (free text): the whole patient.
        margin: mm that are added on all sides.
        spacing: mm.
        window: voxels.
        shape: of the volume.
    """
    ends = reach.box(plan)
    if ends is None:
        return body_region(body, window, shape)
    step = np.asarray(tuple(spacing))
    low = np.maximum(body.low, np.floor((ends[0] - margin) / step + body.centre)).astype(int)
    high = np.minimum(body.high, np.ceil((ends[1] + margin) / step + body.centre) + 1).astype(int)
    if (high <= low).any():  # a body of another size than any in training
        return body_region(body, window, shape)
    return at_least(low.tolist(), high.tolist(), window, shape)
