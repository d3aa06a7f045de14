"""Where the patient is in a CT: the origin of the network's coordinates, and the box that is worth looking at.

A planning CT is half air, couch and table. Coordinates relative to the patient's centre mean the same in every scan,
and training crops and inference windows are kept to the patient. Training and inference must agree on both to the
voxel, so both ask here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rollama.data.volumes import Volume

BODY_HU = -180.0
"""Between a couch's foam or shell and fat."""
COARSE_MM = 2.0
"""The body is looked for in every n-th voxel, so that those looked at are at most this far apart."""
MARGIN_MM = 20.0

Index = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Body:
    """`centre` (3,): see `patient_centre`. `low`, `high`: the box of voxels around the body, `high` not included."""

    centre: npt.NDArray[np.float64]
    low: Index
    high: Index


def body_mask(volume: Volume, apart_mm: float = COARSE_MM) -> tuple[npt.NDArray[np.bool_], Index]:
    """(mask of every n-th voxel along each axis, those n): the largest connected part above `BODY_HU`."""
    x, y, z = (max(1, int(apart_mm / spacing)) for spacing in volume.spacing)
    labels, count = ndimage.label(ndimage.binary_opening(volume.array[::x, ::y, ::z] > BODY_HU))
    largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:])) if count else 1
    return labels == largest, (x, y, z)


def find_body(volume: Volume) -> Body:
    """The body on a canonical (RAS) grid: the largest connected part above `BODY_HU`.

    The box has a margin of 20 mm in plane; along z it is the whole scan. Without a body it is the whole volume.
    """
    shape = np.asarray(volume.shape)
    centre = (shape - 1) / 2
    low, high = np.zeros(3, int), shape.copy()
    body, steps = body_mask(volume)
    if not body.any():
        return Body(centre, _index(low), _index(high))
    for axis in (0, 1):
        share = np.cumsum(body.sum(axis=tuple(other for other in range(3) if other != axis)))
        first, last = np.interp((0.05 * share[-1], 0.95 * share[-1]), share, np.arange(len(share)))
        centre[axis] = steps[axis] * ((first + last) / 2 + 0.5)  # a share is reached at its voxel's far edge
        inside = np.flatnonzero(np.diff(share, prepend=0))
        margin = steps[axis] + MARGIN_MM / volume.spacing[axis]
        low[axis] = max(0, int(steps[axis] * inside[0] - margin))
        high[axis] = min(shape[axis], int(steps[axis] * inside[-1] + margin) + 1)
    return Body(centre, _index(low), _index(high))


def patient_centre(volume: Volume) -> npt.NDArray[np.float64]:
    """Voxel index (3,) of the patient's centre on a canonical (RAS) grid.

    In plane it is midway between the 5th and 95th percentiles of the body's voxels, which neither a couch, an arm nor
    the size of the breasts moves by much; along z it is the middle of the scan. Without a body it is the middle.
    """
    return find_body(volume).centre


def at_least(
    low: Sequence[int], high: Sequence[int], least: Sequence[int], shape: Sequence[int]
) -> tuple[Index, Index]:
    """A box grown around its middle to `least` voxels an axis, as far as the volume reaches, and moved into it."""
    starts, stops = [], []
    for a, b, wanted, size in zip(low, high, least, shape, strict=True):
        length = min(size, max(b - a, wanted))
        start = min(max(0, (a + b - length) // 2), size - length)
        starts.append(start)
        stops.append(start + length)
    return _index(starts), _index(stops)


def _index(values: Sequence[int] | npt.NDArray[np.int64]) -> Index:
    x, y, z = (int(value) for value in values)
    return x, y, z
