"""Cover a volume with overlapping windows, and leave out those that nothing speaks for.

Sliding windows with half an overlap run the network eight times on every voxel, most of them far from any target. Here
every second window along each axis is run first; they cover the volume once. Of the others only those are run that
hold a voxel which the first pass found thinkable. The first pass is not thrown away: its logits are part of the same
weighted mean. Where a target is, the result is that of the full sweep over the same windows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch

from rollama.data.monai_parts import compute_importance_map

Run = Callable[[list[tuple[slice, ...]]], torch.Tensor]
"""Logits (n,1,x,y,z) of some windows."""
Progress = Callable[[int, int], None]
"""Called with (finished windows, all windows); the second number can fall when windows turn out not to be needed."""


def starts(size: int, window: int, overlap: float) -> list[int]:
    """First voxels of the windows along an axis, at most `window * (1 - overlap)` apart and evenly spread."""
    if size <= window:
        return [0]
    step = max(1, int(window * (1 - overlap)))
    last = size - window
    count = -(-last // step) + 1
    return [round(last * index / (count - 1)) for index in range(count)]


def sweep(
    shape: Sequence[int],
    window: Sequence[int],
    overlap: float,
    batch: int,
    run: Run,
    skip_below: float,
    progress: Progress | None = None,
) -> torch.Tensor:
    """Logits (x,y,z) float32 on the CPU, the mean over windows weighted by a Gaussian around each window's centre.

    Args:
        shape: of the volume; at least `window`.
        window: voxels.
        overlap: least share of a window that the next one also covers, from 0 below 1.
        batch: windows in one call of `run`.
        run: the network.
        skip_below: windows of the second pass are left out when the first found no probability above this in them;
            0 runs them all.
        progress: told about finished windows.
    """
    total, weight = torch.zeros(tuple(shape)), torch.zeros(tuple(shape))
    importance = compute_importance_map(tuple(window), mode="gaussian", sigma_scale=0.125)
    importance = importance.clamp(min=1e-3).float().cpu()
    axes = [starts(size, part, overlap) for size, part in zip(shape, window, strict=True)]
    first, second = _passes(axes, window)
    done, every = 0, len(first) + len(second)

    def work(places: list[tuple[slice, ...]]) -> None:
        nonlocal done
        for begin in range(0, len(places), batch):
            some = places[begin : begin + batch]
            for place, logits in zip(some, run(some)[:, 0].float().cpu(), strict=True):
                total[place] += importance * logits
                weight[place] += importance
            done += len(some)
            if progress is not None:
                progress(done, every)

    work(first)
    if second and skip_below > 0:
        limit = float(torch.logit(torch.tensor(skip_below)))
        thinkable = total > limit * weight
        second = [place for place in second if bool(thinkable[place].any())]
        every = len(first) + len(second)
        if not second and progress is not None:
            progress(done, every)
    work(second)
    return total / weight


def _passes(
    axes: Sequence[Sequence[int]], window: Sequence[int]
) -> tuple[list[tuple[slice, ...]], list[tuple[slice, ...]]]:
    """Windows that cover everything once, and the others."""
    first: list[tuple[slice, ...]] = []
    second: list[tuple[slice, ...]] = []
    lone = [_covering(found, part) for found, part in zip(axes, window, strict=True)]
    for begin in itertools.product(*axes):
        place = tuple(slice(a, a + part) for a, part in zip(begin, window, strict=True))
        covers = all(a in some for a, some in zip(begin, lone, strict=True))
        (first if covers else second).append(place)
    return first, second


def _covering(found: Sequence[int], part: int) -> set[int]:
    """As few of the starts as cover the axis."""
    chosen = [found[0]]
    while chosen[-1] != found[-1]:
        chosen.append(max(start for start in found if start <= chosen[-1] + part))
    return set(chosen)
