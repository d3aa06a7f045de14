"""Simulated readers: the same target as three people would draw it, so that a ceiling is known.

No model can agree with a reference better than people agree among themselves and be believed. Each reader moves the
true border in and out by a smooth random field, has a habit of drawing larger or smaller, and now and then forgets a
level. The size of the errors (2 to 5 mm) is that of published contouring studies; that they are smooth and
independent is our simplification.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rollama.cohort.sdf import Grid, value_noise
from rollama.data.parts import LEVELS

READERS = 3
JITTER_MM = (2.0, 2.5, 3.0)
"""Standard deviation of each reader's border."""
HABIT_MM = 1.0
MISSED = 0.04
"""Chance that a reader leaves out one treated level."""
_STEP_MM = 32.0
_MARGIN_MM = 14.0


def draw_as_reader(
    labels: np.ndarray, grid: Grid, jitter_mm: float, rng: np.random.Generator, missed: float = MISSED
) -> np.ndarray:
    """One reader's target.

    Args:
        labels: label map of the true parts, uint8 (x, y, z).
        grid: its grid.
        jitter_mm: standard deviation of the border in mm.
        rng: the reader's generator for this case.
        missed: chance that one treated level is left out.

    Returns:
        bool (x, y, z); empty where the truth is.
    """
    from scipy import ndimage

    count = int(700 / _STEP_MM) + 2
    lattice = rng.standard_normal((count, count, count), dtype=np.float32)
    habit, forgets, which = rng.normal(0, HABIT_MM), rng.random() < missed, rng.random()
    treated = sorted({int(value) for value in np.unique(labels)} & {int(part) for part in LEVELS.values()})
    truth = labels > 0
    if forgets and len(treated) > 1:
        truth &= labels != treated[int(which * len(treated))]
    drawn = np.zeros(labels.shape, bool)
    if not truth.any():
        return drawn
    box = _box(truth, [int(np.ceil(_MARGIN_MM / step)) for step in grid.spacing])
    part = truth[box]
    outside = ndimage.distance_transform_edt(~part, sampling=grid.spacing)
    inside = ndimage.distance_transform_edt(part, sampling=grid.spacing)
    half = 0.5 * grid.voxel_mm  # distances are to voxel centres; the border lies half a voxel nearer
    distance = np.where(part, half - inside, outside - half)
    x, y, z = grid.axes()
    moved = value_noise(lattice, _STEP_MM, x[box[0]], y[:, box[1]], z[:, :, box[2]]) * (1.9 * jitter_mm) + habit
    drawn[box] = distance < moved
    return drawn


def reader_map(labels: np.ndarray, grid: Grid, generators: Sequence[np.random.Generator]) -> np.ndarray:
    """All readers in one label map: bits 1, 2 and 4 say who drew a voxel; uint8 (x, y, z)."""
    result = np.zeros(labels.shape, np.uint8)
    for number, (jitter, rng) in enumerate(zip(JITTER_MM, generators, strict=True)):
        result |= draw_as_reader(labels, grid, jitter, rng).astype(np.uint8) << np.uint8(number)
    return result


def _box(mask: np.ndarray, margins: Sequence[int]) -> tuple[slice, slice, slice]:
    found = []
    for axis, margin in enumerate(margins):
        line = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        found.append(slice(max(0, int(line[0]) - margin), min(mask.shape[axis], int(line[-1]) + margin + 1)))
    return (found[0], found[1], found[2])
