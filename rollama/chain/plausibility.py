"""Rough looks at a CT that share nothing with the models: does the body lie as its file says?

A file may name its axes wrongly and nothing in it contradicts. Left and right cannot be told apart that way, so a
swapped side stays unseen; front and back, and an exchanged axis, show in the anatomy of a chest.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rollama.data.plan import Side
from rollama.data.volumes import Mask, Volume

BODY_HU, BONE_HU = -400, 250
FRONT_MM = 10.0
"""Bone this far in front of the body's middle: the spine then lies in front, or the patient on it."""
SLENDER = 0.8
"""A chest is wider than deep (474 x 310 mm on average); narrower than this share of its depth is another axis."""

Points = npt.NDArray[np.float64]


def side_of(mask: Mask, volume: Volume) -> Side:
    """The patient's side on which a mask lies: its centre against the middle of the body.

    Bilateral masks get the side of their larger part.
    """
    body = _points(volume, BODY_HU)
    middle = body.mean(axis=0) if body.size else (np.asarray(volume.shape) - 1) / 2
    counts = [mask.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.int64) for axis in range(3)]
    centre = np.array([(count * np.arange(count.size)).sum() / max(1, count.sum()) for count in counts])
    return Side.LEFT if float(volume.affine[0, :3] @ (centre - middle)) < 0 else Side.RIGHT  # RAS+: right is positive


def doubts(volume: Volume) -> list[str]:
    """What speaks against the orientation that the file gives, in words for a reader; usually nothing."""
    body, bone = (_points(volume, threshold) @ volume.affine[:3, :3].T for threshold in (BODY_HU, BONE_HU))
    if len(body) < 1000:
        return []
    found = []
    low, high = np.percentile(body, [2, 98], axis=0)
    width, depth = (high - low)[:2]
    if width < SLENDER * depth:
        found.append(
            f"the body is {width:.0f} mm wide and {depth:.0f} mm deep; is the orientation in the CT's file right?"
        )
    if len(bone) >= 100 and bone.mean(axis=0)[1] > body.mean(axis=0)[1] + FRONT_MM:  # RAS+: the front is positive
        found.append("the bones lie in front: is the patient prone, or the orientation in the CT's file wrong?")
    return found


def _points(volume: Volume, threshold: float) -> Points:
    """Indices of a few thousand samples above a threshold in HU: enough to say where the middle is."""
    steps = [max(1, size // 64) for size in volume.shape]
    found: Points = np.argwhere(volume.array[:: steps[0], :: steps[1], :: steps[2]] > threshold) * np.asarray(
        steps, float
    )
    return found
