"""Between a CT's native grid and the model's grid, without losing a millimetre or a side (conventions: `volumes`).

Resampling is separable (a product of three small matrices, applied slice by slice), so peak memory stays at the
native volume plus one model volume, whatever the size of the CT.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rollama.core.errors import DataError
from rollama.data.case import Case
from rollama.data.organs import case_ct
from rollama.data.volumes import STEPS_OF_ONE, FloatArray, Mask, Volume, read_mask, to_canonical

HALF = 0.5 - 1e-6
"""Where a mask's interpolated value counts as inside."""


def to_model_grid(volume: Volume, spacing: float | Sequence[float]) -> Volume:
    """The CT on the model's grid: axes nearest to R, A, S and voxels of `spacing` mm.

    Linear interpolation; where the model's voxels are larger than the CT's the triangle kernel widens with them, so
    that every native voxel counts and thin structures are averaged rather than skipped (anti-aliasing). The new grid
    shares the centre of the old one and covers all of it. A CT that already has this grid is returned unchanged.

    Args:
        volume: any orientation; oblique axes stay oblique.
        spacing: mm, one number or one for each of x, y, z.

    Raises:
        DataError: a spacing that is not positive.
    """
    wanted = np.broadcast_to(np.asarray(spacing, dtype=np.float64), (3,))
    if not (wanted > 0).all():
        raise DataError(f"model spacing must be positive, found {tuple(wanted.tolist())} mm")
    canonical = to_canonical(volume)
    old = np.asarray(canonical.spacing)
    if np.abs(old / wanted - 1).max() < 1e-5:
        return canonical
    sizes = [max(1, int(np.ceil(n * a / b - 1e-4))) for n, a, b in zip(canonical.shape, old, wanted, strict=True)]
    scale = wanted / old
    start = [(n - 1) / 2 - (m - 1) / 2 * s for n, m, s in zip(canonical.shape, sizes, scale, strict=True)]
    weights = [
        _axis_weights(n, s0 + s * np.arange(m), s, clamp=True)
        for n, m, s0, s in zip(canonical.shape, sizes, start, scale, strict=True)
    ]
    array = _apply_separable(canonical.array, weights)
    step = np.eye(4)
    step[:3, :3] = np.diag(scale)
    step[:3, 3] = start
    organs = None
    if canonical.organs is not None:
        organs = np.asarray(_apply_separable(canonical.organs.astype(np.float32), weights) >= HALF, dtype=np.uint8)
    return Volume(array, canonical.affine @ step, volume.source, organs=organs)


def case_on_grid(case: Case, spacing: float | Sequence[float]) -> tuple[Volume, Volume, Volume]:
    """A case's CT as stored, the CT on the model's grid, and its target there (inside from 0.5 on).

    Raises:
        DataError: a file cannot be read, or lies on another grid than the CT.
    """
    ct = case_ct(case)
    mask = read_mask(case.target, ct).astype(np.float32)
    return ct, to_model_grid(ct, spacing), to_model_grid(Volume(mask, ct.affine, str(case.target)), spacing)


def _axis_weights(n: int, positions: npt.NDArray[np.float64], scale: float, clamp: bool) -> FloatArray:
    """Interpolation matrix (len(positions), n): triangle kernel of half-width max(1, scale) voxels.

    Positions outside the volume (more than half a voxel beyond the outer centres) give a zero row, or the edge value
    when `clamp` is set.
    """
    width = max(1.0, scale)
    if clamp:
        positions = positions.clip(-0.5, n - 0.5)
    distance = np.abs(positions[:, None] - np.arange(n)[None, :])
    weights = np.maximum(0.0, 1.0 - distance / width)
    # A sampled wide kernel has its centroid slightly off; tilt it so that linear functions of position stay exact.
    # Kernels cut by the border stay as they are (the tilt would extrapolate).
    index = np.arange(n)
    total = weights.sum(axis=1, keepdims=True)
    centroid = (weights * index).sum(axis=1, keepdims=True) / np.maximum(total, 1e-9)
    variance = (weights * (index - centroid) ** 2).sum(axis=1, keepdims=True) / np.maximum(total, 1e-9)
    whole = ((positions >= width - 1) & (positions <= n - width))[:, None] & (variance > 0)
    tilt = np.divide(positions[:, None] - centroid, variance, out=np.zeros_like(variance), where=whole)
    weights = weights * (1 + tilt * (index - centroid))
    total = weights.sum(axis=1, keepdims=True)
    inside = (positions >= -0.5 - 1e-6) & (positions <= n - 0.5 + 1e-6)
    weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    return np.asarray(weights * inside[:, None], dtype=np.float32)


def _apply_separable(array: FloatArray, weights: Sequence[FloatArray]) -> FloatArray:
    """Apply one matrix an axis; x and y slice by slice, so that no second native-size array exists."""
    along_x, along_y, along_z = weights
    planes = np.empty((along_x.shape[0], along_y.shape[0], array.shape[2]), dtype=np.float32)
    for index in range(array.shape[2]):
        planes[:, :, index] = along_x @ np.ascontiguousarray(array[:, :, index]) @ along_y.T
    return np.asarray(planes @ along_z.T, dtype=np.float32)


def mask_to_native(mask: npt.NDArray[Any], model_volume: Volume, native_volume: Volume) -> Mask:
    """Bring a mask or probability map from the model's grid back onto the CT's own grid.

    One channel is interpolated linearly and cut at 0.5, one native slice at a time: the cost is one uint8 volume.

    Args:
        mask: bool, 0/1 or probability, on the grid of `model_volume`.
        model_volume: what `to_model_grid` made of `native_volume` (crops and pads of it are fine too).
        native_volume: the CT as read.

    Returns:
        uint8 0/1 of exactly the native shape; 0 where the model's grid does not reach.

    Raises:
        DataError: the mask is not on the model's grid, or the two grids are turned against each other.
    """
    values, weights, widths = _towards_native(mask, model_volume, native_volume)
    result: Mask = np.zeros(native_volume.shape, dtype=np.uint8)
    hot = values >= HALF
    if not hot.any():
        return result
    # A point reaches one half only if a voxel of its kernel does: what is farther from all of those cannot matter.
    inner, outer = [], []
    for axis, (weight, width) in enumerate(zip(weights, widths, strict=True)):
        along = np.flatnonzero(hot.any(axis=tuple(other for other in range(3) if other != axis)))
        margin = int(np.ceil(2 * width)) + 1
        inner.append(slice(max(0, int(along[0]) - margin), int(along[-1]) + margin + 1))
        weights[axis] = weight[:, inner[axis]]
        seen = np.flatnonzero(weights[axis].any(axis=1))
        if not seen.size:
            return result
        outer.append(slice(int(seen[0]), int(seen[-1]) + 1))
    values = values[tuple(inner)]
    along_x, along_y, along_z = (weight[part] for weight, part in zip(weights, outer, strict=True))
    for index, weight in enumerate(along_z, outer[2].start):
        result[outer[0], outer[1], index] = along_x @ (values @ weight) @ along_y.T >= HALF
    return result


def probability_to_native(
    probability: npt.NDArray[np.float32], model_volume: Volume, native_volume: Volume
) -> npt.NDArray[np.uint8]:
    """A probability map on the CT's own grid, interpolated linearly, in steps of 1 / `STEPS_OF_ONE`.

    Arguments, edges, errors and memory as in `mask_to_native`.
    """
    values, (along_x, along_y, along_z), _ = _towards_native(probability, model_volume, native_volume)
    result = np.zeros(native_volume.shape, dtype=np.uint8)
    for index, weight in enumerate(along_z):
        plane = along_x @ (values @ weight) @ along_y.T
        result[:, :, index] = np.rint(plane * STEPS_OF_ONE).clip(0, STEPS_OF_ONE)
    return result


def _towards_native(
    mask: npt.NDArray[Any], model_volume: Volume, native_volume: Volume
) -> tuple[FloatArray, list[FloatArray], list[float]]:
    """Values with their axes in the CT's order; for each of its axes an interpolation matrix and the kernel's width."""
    if mask.shape != model_volume.shape:
        raise DataError(f"mask of shape {mask.shape} is not on the model's grid {model_volume.shape}")
    transform = np.linalg.inv(model_volume.affine) @ native_volume.affine  # native index -> model index
    axes = np.abs(transform[:3, :3]).argmax(axis=0)  # the model axis that each native axis runs along
    scales = transform[axes, range(3)]
    residual = transform[:3, :3].copy()
    residual[axes, range(3)] = 0.0
    # Over a whole axis the neglected rotation must stay far below a voxel.
    if sorted(axes.tolist()) != [0, 1, 2] or np.abs(residual).max() * max(native_volume.shape) > 0.1:
        raise DataError(
            f"{native_volume.source}: the mask's grid is turned against the CT's; use that of to_model_grid"
        )
    values = np.asarray(mask, dtype=np.float32).transpose(axes)
    weights = [
        _axis_weights(
            mask.shape[axis],
            transform[axis, 3] + scale * np.arange(n, dtype=np.float64),
            abs(float(scale)),
            clamp=False,
        )
        for axis, scale, n in zip(axes, scales, native_volume.shape, strict=True)
    ]
    return values, weights, [max(1.0, abs(float(scale))) for scale in scales]
