"""Windows cover everything, weigh like MONAI's, and are left out only where nothing speaks for them."""

from __future__ import annotations

import itertools

import pytest
import torch
from monai.inferers.utils import sliding_window_inference

from rollama.segmentation.windows import starts, sweep

WINDOW = (8, 6, 4)


def logits_of(image: torch.Tensor):  # type: ignore[no-untyped-def]
    calls: list[tuple[slice, ...]] = []

    def run(places: list[tuple[slice, ...]]) -> torch.Tensor:
        calls.extend(places)
        patches = torch.stack([image[place] for place in places])[:, None]
        return patches + patches.mean((2, 3, 4), keepdim=True)  # depends on the window, as instance norms do

    return run, calls


@pytest.mark.parametrize(("size", "window", "overlap"), [*itertools.product((4, 5, 9, 16, 33), (4,), (0.0, 0.25, 0.5))])
def test_starts_cover_the_axis_with_the_overlap(size: int, window: int, overlap: float) -> None:
    found = starts(size, window, overlap)
    assert found[0] == 0
    assert found[-1] == max(0, size - window)
    assert all(0 < b - a <= max(1, round(window * (1 - overlap))) for a, b in itertools.pairwise(found))


def test_the_full_sweep_is_monais_sliding_window() -> None:
    image = torch.randn(16, 12, 8, generator=torch.Generator().manual_seed(1))
    run, calls = logits_of(image)
    ours = sweep(image.shape, WINDOW, 0.5, 3, run, skip_below=0.0)
    assert len(calls) == len({tuple(axis.start for axis in place) for place in calls}) == 27

    def theirs(patches: torch.Tensor) -> torch.Tensor:
        return patches + patches.mean((2, 3, 4), keepdim=True)

    expected = sliding_window_inference(image[None, None], WINDOW, 2, theirs, overlap=0.5, mode="gaussian")
    torch.testing.assert_close(ours, torch.as_tensor(expected)[0, 0], atol=2e-3, rtol=1e-3)


def test_windows_without_anything_thinkable_are_left_out_and_the_target_is_unchanged() -> None:
    image = torch.full((32, 12, 8), -9.0)
    image[2:5, 2:5, 2:5] = 9.0
    run, calls = logits_of(image)
    seen: list[tuple[int, int]] = []
    part = sweep(image.shape, WINDOW, 0.5, 1, run, 0.02, lambda done, every: seen.append((done, every)))
    few = len(calls)
    full_run, every = logits_of(image)
    full = sweep(image.shape, WINDOW, 0.5, 1, full_run, skip_below=0.0)
    assert few < len(every)
    assert seen[-1] == (few, few)
    assert torch.equal(part > 0, full > 0)
    torch.testing.assert_close(part[2:5, 2:5, 2:5], full[2:5, 2:5, 2:5])


def test_one_window_is_the_network_itself() -> None:
    image = torch.randn(WINDOW)
    run, calls = logits_of(image)
    torch.testing.assert_close(sweep(WINDOW, WINDOW, 0.5, 1, run, 0.02), image + image.mean())
    assert len(calls) == 1
