"""Scanner shifts: each centre's own offset, noise, blur, field and voxel size reach the image."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rollama.cohort.config import EXTERNAL_CENTRES, TRAINING_CENTRES, CohortConfig
from rollama.cohort.scan import grid_of
from rollama.cohort.shifts import CENTRES, REFERENCE_MM3, Scanner, apply_scanner, scan_spacing
from rollama.core.seeding import numpy_generator

FULL = (0.9765625, 0.9765625, 3.0)
COARSE = (6.25, 6.25, 6.0)


def water(shape: tuple[int, int, int] = (40, 40, 40)) -> np.ndarray:
    return np.zeros(shape, np.float32)


def lag(image: np.ndarray, axis: int) -> float:
    """Correlation of neighbours along an axis."""
    count = image.shape[axis]
    first, second = (np.take(image, range(start, start + count - 1), axis).ravel() for start in (0, 1))
    return float(np.corrcoef(first, second)[0, 1])


@pytest.mark.parametrize("centre", CENTRES)
def test_offset_and_noise_of_a_centre_reach_a_fine_image(centre: str) -> None:
    scanner = CENTRES[centre].scanner
    image = apply_scanner(water(), FULL, scanner, numpy_generator("scan", centre))
    assert image.dtype == np.int16
    assert image.mean() == pytest.approx(scanner.hu_offset, abs=5)
    expected = scanner.noise_hu * min(1.0, math.sqrt(REFERENCE_MM3 / math.prod(FULL)))
    assert image.std() == pytest.approx(expected, rel=0.2)


def test_larger_voxels_average_the_noise_and_smaller_ones_have_no_more_than_the_scanner() -> None:
    scanner = Scanner(noise_hu=40.0, noise_correlation_mm=0.0)
    levels = {
        step: apply_scanner(water(), (step,) * 3, scanner, numpy_generator("level")).std()
        for step in (1.0, 2.0, 4.0, 8.0)
    }
    assert levels[1.0] == pytest.approx(levels[2.0], rel=0.02)
    assert levels[4.0] / levels[2.0] == pytest.approx(math.sqrt(REFERENCE_MM3 / 64), rel=0.03)
    assert levels[8.0] / levels[4.0] == pytest.approx(math.sqrt(1 / 8), rel=0.06)


def test_noise_is_correlated_within_a_slice_and_independent_between_slices() -> None:
    scanner = Scanner(noise_hu=30.0, noise_correlation_mm=1.2, blur_mm=0.0)
    image = apply_scanner(water((60, 60, 40)), FULL, scanner, numpy_generator("lag")).astype(float)
    assert lag(image, 0) > 0.5
    assert lag(image, 1) > 0.5
    assert abs(lag(image, 2)) < 0.03
    white = apply_scanner(water(), FULL, scanner.updated(noise_correlation_mm=0.0), numpy_generator("lag"))
    assert abs(lag(white.astype(float), 0)) < 0.03


def test_correlating_the_noise_does_not_change_its_size() -> None:
    sizes = [
        apply_scanner(
            water((80, 80, 20)), FULL, Scanner(noise_hu=30.0, noise_correlation_mm=mm), numpy_generator("gain")
        ).std()
        for mm in (0.0, 0.8, 1.6)
    ]
    assert sizes == pytest.approx([sizes[0]] * 3, rel=0.08)


def test_blur_smooths_edges_over_its_own_width() -> None:
    edge = np.where(np.arange(60)[:, None, None] < 30, -1000.0, 0.0).astype(np.float32) * np.ones((1, 8, 8), np.float32)
    steps = {}
    for mm in (0.0, 1.0, 3.0):
        image = apply_scanner(edge.copy(), (1, 1, 1), Scanner(blur_mm=mm, noise_hu=0), numpy_generator("edge"))
        steps[mm] = np.diff(image[:, 4, 4].astype(int)).max()
    assert steps[0.0] == 1000
    assert steps[1.0] == pytest.approx(1000 * math.erf(0.5 / math.sqrt(2)), rel=0.05)
    assert steps[3.0] == pytest.approx(1000 * math.erf(0.5 / 3 / math.sqrt(2)), rel=0.05)


def test_scans_of_one_scanner_differ_a_little_in_offset_and_level() -> None:
    scanner = Scanner(hu_offset=10.0, noise_hu=20.0)
    images = [apply_scanner(water(), FULL, scanner, numpy_generator("scan", i)) for i in range(12)]
    means, levels = [image.mean() for image in images], [image.std() for image in images]
    assert 7 - 0.5 < min(means) < max(means) < 13 + 0.5
    assert max(means) - min(means) > 1
    assert 1.05 < max(levels) / min(levels) < 1.4
    same = apply_scanner(water(), FULL, scanner, numpy_generator("scan", 0))
    assert (same == images[0]).all()


def test_outside_the_field_of_view_is_air() -> None:
    image = apply_scanner(water((100, 100, 4)), (6, 6, 6), Scanner(fov_mm=420, noise_hu=0), numpy_generator("fov"))
    x = (np.arange(100) - 49.5) * 6
    radius = np.sqrt(x[:, None] ** 2 + x[None] ** 2)
    assert (image[radius > 210.01] == -1000).all()
    assert (image[radius < 209.9] > -100).all()


def test_hu_are_clipped_to_what_a_scanner_stores() -> None:
    hu = np.array([-5000.0, -1000.0, 9000.0], np.float32).reshape(3, 1, 1) * np.ones((1, 3, 3), np.float32)
    image = apply_scanner(hu, FULL, Scanner(noise_hu=0, blur_mm=0), numpy_generator("clip"))
    assert image[0].max() == -1024
    assert image[2].min() == 3071


def test_slice_thickness_is_the_scanner_s_own_at_full_resolution() -> None:
    assert scan_spacing(FULL, Scanner(slice_mm=5.0)) == pytest.approx((0.9765625, 0.9765625, 5.0))
    assert scan_spacing(FULL, Scanner(slice_mm=2.0, pixel=0.9))[0] == pytest.approx(0.87890625)
    assert scan_spacing(FULL, Scanner(slice_mm=2.0))[2] == pytest.approx(2.0)


def test_coarse_slices_differ_by_a_quarter_at_most() -> None:
    assert scan_spacing(COARSE, Scanner(slice_mm=5.0))[2] == pytest.approx(7.5)
    assert scan_spacing(COARSE, Scanner(slice_mm=1.0))[2] == pytest.approx(4.8)
    assert scan_spacing(COARSE, Scanner(slice_mm=3.0)) == COARSE


@pytest.mark.parametrize("size", ["xs", "s", "m", "full"])
def test_every_centre_has_the_same_field_in_its_own_voxels(size: str) -> None:
    config = CohortConfig.model_validate({"size": size})
    field = np.multiply(config.grid, config.spacing)
    spacings = set()
    for centre in CENTRES:
        grid = grid_of(config, centre)
        spacings.add(grid.spacing)
        assert np.abs(np.array(grid.field_mm) - field).max() <= 0.5 * max(grid.spacing) + 1e-6
    assert len(spacings) == 5 if size == "full" else len(spacings) > 2


def test_the_external_scanner_lies_outside_the_training_range() -> None:
    for name in EXTERNAL_CENTRES:
        outside, inside = CENTRES[name].scanner, [CENTRES[c].scanner for c in TRAINING_CENTRES]
        for key in ("hu_offset", "noise_hu", "noise_correlation_mm", "blur_mm", "contrast_hu"):
            assert getattr(outside, key) > max(getattr(scanner, key) for scanner in inside)
        assert outside.fov_mm < min(scanner.fov_mm for scanner in inside)
        assert outside.pixel not in {scanner.pixel for scanner in inside}
        assert CENTRES[name].reader_mm == 0  # labels that are tested on are exact


def test_some_centre_has_no_metal_artefacts_and_one_trains_on_a_single_reader() -> None:
    assert [name for name in CENTRES if not CENTRES[name].scanner.metal] == ["eastmoor"]
    assert [name for name in CENTRES if CENTRES[name].reader_mm] == ["hillcrest"]
