"""Scanner shifts: each centre's own values reach the image."""

from __future__ import annotations

import numpy as np
import pytest

from rollama.cohort.config import EXTERNAL_CENTRES, TRAINING_CENTRES
from rollama.cohort.shifts import CENTRES, Scanner, apply_scanner
from rollama.core.seeding import numpy_generator

SPACING = (6.0, 6.0, 6.0)


@pytest.mark.parametrize("centre", CENTRES)
def test_offset_and_noise_reach_the_image(centre: str) -> None:
    scanner = CENTRES[centre].scanner
    water = np.zeros((40, 40, 40), np.float32)
    image = apply_scanner(water, SPACING, scanner, numpy_generator("scan", centre))
    assert image.dtype == np.int16
    assert image.mean() == pytest.approx(scanner.hu_offset, abs=4)
    assert image.std() == pytest.approx(scanner.noise_hu, rel=0.2)


def test_blur_smooths_edges() -> None:
    edge = np.where(np.arange(40)[:, None, None] < 20, -1000.0, 0.0).astype(np.float32) * np.ones((1, 8, 8), np.float32)
    sharp = apply_scanner(edge, SPACING, Scanner(blur_mm=0, noise_hu=0), numpy_generator("edge"))
    soft = apply_scanner(edge, SPACING, Scanner(blur_mm=6, noise_hu=0), numpy_generator("edge"))
    assert np.abs(np.diff(sharp[:, 4, 4].astype(int))).max() > 990
    assert np.abs(np.diff(soft[:, 4, 4].astype(int))).max() < 600


def test_the_external_scanner_lies_outside_the_training_range() -> None:
    for name in EXTERNAL_CENTRES:
        outside = CENTRES[name].scanner
        for key in ("hu_offset", "noise_hu", "noise_correlation_mm", "blur_mm", "contrast_hu"):
            assert getattr(outside, key) > max(getattr(CENTRES[c].scanner, key) for c in TRAINING_CENTRES)
        assert outside.spacing is not None
