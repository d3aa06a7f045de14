"""Masks as polygons and back: the geometry of RTSTRUCT contours, in pixel indices of one slice.

A structure set holds outlines, a model learns from voxels, and whoever moves between the two wants the same voxels
afterwards. Outlines are drawn at level 0.5 of the binary plane, halfway between the centres of pixels in and out;
filling by the centres (even-odd rule) then gives back exactly the mask, islands of one pixel and borders included.

Holes. DICOM PS3.3 C.8.8.6.3 wants an inner outline of a CLOSED_PLANAR region joined to the outer one by a channel of
no width (a keyhole). Planning systems differ in what they make of a separate inner outline: some subtract it, some
fill it. A keyhole is one polygon and reads the same by the even-odd rule, by winding number and as a union of
outlines, so that is what is written. The channel runs between two rows of pixel centres and so touches none of them.
Reading takes both: all outlines of a slice are combined by exclusive or.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
BoolMask = npt.NDArray[np.bool_]


def outline(plane: BoolMask) -> list[Points]:
    """Draw the outlines of a binary plane.

    Args:
        plane: bool (rows, columns).

    Returns:
        One polygon for each connected region, float64 (points, 2) as (column, row) of pixel centres, not closed (the
        last point differs from the first), holes as keyholes; at least 4 points each. Empty for an empty plane.
    """
    from contourpy import FillType, contour_generator

    padded = np.pad(plane.astype(np.float64), 1)  # so that what touches the border is closed
    generator: Any = contour_generator(z=padded, name="serial", fill_type=FillType.OuterOffset)
    polygons = []
    for points, offsets in zip(*generator.filled(0.5, 2.0), strict=True):
        rings = [points[first : last - 1] - 1.0 for first, last in pairwise(offsets.tolist())]
        polygons.append(_without_straight(_keyhole(rings[0], rings[1:])))
    return polygons


def _keyhole(ring: Points, holes: list[Points]) -> Points:
    """Join each hole to the ring by a channel that runs from its top left point along the row border to the left.

    Whatever the channel meets first is the outer ring or a hole that reaches higher, or as high and further left: in
    this order of the holes it has been joined already.
    """
    starts = [np.lexsort((hole[:, 0], hole[:, 1]))[0] for hole in holes]
    rolled = [np.roll(hole, -start, axis=0) for hole, start in zip(holes, starts, strict=True)]
    for hole in sorted(rolled, key=lambda points: (points[0, 1], points[0, 0])):
        x, y = hole[0]
        after = np.roll(ring, -1, axis=0)
        at_point = ring[:, 1] == y
        across = (ring[:, 0] == after[:, 0]) & ((ring[:, 1] - y) * (after[:, 1] - y) < 0)  # vertical edges only
        reached = np.where((at_point | across) & (ring[:, 0] < x), ring[:, 0], -np.inf)
        index = int(reached.argmax())
        meeting = np.array([[ring[index, 0], y]])
        ring = np.concatenate([ring[: index + 1], meeting, hole, hole[:1], meeting, ring[index + 1 :]])
    return ring


def _without_straight(ring: Points) -> Points:
    """Leave out points in the middle of a straight line (coordinates are halves, so the test is exact), and doubles."""
    ring = ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    straight = (before[:, 0] * after[:, 1] == before[:, 1] * after[:, 0]) & ((before * after).sum(axis=1) > 0)
    return np.asarray(ring[~straight])


def fill(polygons: Iterable[Points], shape: tuple[int, int]) -> BoolMask:
    """Fill polygons by the even-odd rule at pixel centres; several polygons are combined by exclusive or.

    Args:
        polygons: float (points, 2), in index coordinates of the two axes of `shape`; may reach beyond them.
        shape: size of the plane.

    Returns:
        bool of `shape`. A centre on an edge belongs to the side of larger indices.
    """
    size, rows = shape
    toggles = np.zeros((size + 1, rows), dtype=bool)
    for points in polygons:
        start, end = points, np.roll(points, -1, axis=0)
        # One direction for every edge: the two banks of a channel then give the same crossings, which cancel.
        upward = (start[:, 1] <= end[:, 1])[:, None]
        low, high = np.where(upward, start, end), np.where(upward, end, start)
        first, last = (np.clip(np.ceil(side[:, 1]), 0, rows).astype(int) for side in (low, high))
        counts = last - first
        edge = np.repeat(np.arange(len(points)), counts)
        row = first[edge] + np.arange(edge.size) - np.repeat(np.cumsum(counts) - counts, counts)
        slope = (high[edge, 0] - low[edge, 0]) / (high[edge, 1] - low[edge, 1])
        crossing = np.ceil(low[edge, 0] + (row - low[edge, 1]) * slope)
        np.logical_xor.at(toggles, (np.clip(crossing, 0, size).astype(int), row), True)
    return np.asarray(np.logical_xor.accumulate(toggles[:-1], axis=0))
