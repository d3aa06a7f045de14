"""Probabilities that are too sure become right on average; the order of voxels stays."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rollama.core.seeding import numpy_generator
from rollama.segmentation.calibration import Calibration, calibration_error, fit, logit, near_target


def sure(scale: float, offset: float, n: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Truth drawn from sigmoid(z); what the network says is sigmoid((z - offset) / scale)."""
    rng = numpy_generator("calibration", n)
    z = rng.normal(0, 2, n)
    truth = rng.random(n) < 1 / (1 + np.exp(-z))
    return np.asarray(1 / (1 + np.exp(-(z - offset) / scale)), np.float32), truth


def test_the_fit_finds_scale_and_offset() -> None:
    said, truth = sure(0.4, 0.5)
    found = fit([(said, truth)])
    assert found.scale == pytest.approx(0.4, abs=0.02)
    assert found.offset == pytest.approx(0.5, abs=0.06)
    right = found(logit(said))
    assert calibration_error(right, truth) < 0.01 < 0.05 < calibration_error(said, truth)
    assert np.diff(right[np.argsort(said)]).min() >= 0
    assert Calibration.read(found.as_dict()) == found


def test_without_anything_to_fit_nothing_changes() -> None:
    nothing = np.zeros(0, np.float32), np.zeros(0, bool)
    assert fit([]) == fit([nothing]) == Calibration()
    assert fit([(np.array([0.2, 0.9], np.float32), np.array([True, True]))]) == Calibration()
    assert math.isnan(calibration_error(*nothing))
    assert Calibration.read(None)(np.array([0.0], np.float32)) == 0.5


def test_voxels_near_the_prediction_count_whatever_they_are() -> None:
    probability = np.zeros((12, 1, 1), np.float32)
    probability[1] = 0.8
    truth = np.zeros((12, 1, 1), np.uint8)
    truth[[2, 9]] = 1
    p, t = near_target(probability, truth, (10.0, 10.0, 10.0), 0.4)
    assert p.tolist() == pytest.approx([0, 0.8, 0, 0])
    assert t.tolist() == [False, False, True, False]
    assert not near_target(np.zeros_like(probability), truth, (10.0, 10.0, 10.0), 0.4)[0].size


def test_saturated_probabilities_do_not_tilt_the_fit() -> None:
    rng = numpy_generator("saturated")
    z = rng.uniform(-5, 5, 20_000)
    truth = rng.random(len(z)) < 1 / (1 + np.exp(-z))
    said = np.asarray(1 / (1 + np.exp(-5 * z)), np.float32)  # 1.0 for many
    found = fit([(said, truth)])
    assert abs(found.offset) < 0.1
    assert calibration_error(found(logit(said)), truth) < 0.02


def test_error_by_hand() -> None:
    p = np.array([0.05, 0.05, 0.95, 0.95], np.float32)
    assert calibration_error(p, np.array([False, False, True, True])) == pytest.approx(0.05, abs=1e-6)
    assert calibration_error(p, np.array([True, True, False, False])) == pytest.approx(0.95, abs=1e-6)
