"""The patient is found beside couch and air, and boxes stay inside the scan."""

from __future__ import annotations

import numpy as np
import pytest

from rollama.data.body import at_least, find_body, patient_centre
from rollama.data.volumes import Volume as CtVolume


def test_patient_centre_follows_the_body_not_the_couch() -> None:
    array = np.full((40, 40, 10), -1000, np.float32)
    array[8:28, 12:30] = 40
    plain = patient_centre(CtVolume(array, np.eye(4)))
    array[2:38, 2:5] = -880  # couch
    np.testing.assert_allclose(patient_centre(CtVolume(array, np.eye(4))), plain)
    np.testing.assert_allclose(plain, (17.5, 20.5, 4.5), atol=0.5)
    nothing = CtVolume(np.full((8, 8, 4), -1000, np.float32), np.eye(4))
    np.testing.assert_allclose(patient_centre(nothing), (3.5, 3.5, 1.5))


@pytest.mark.parametrize("spacing", [6.25, 2.0, 1.0, 0.5])
def test_the_centre_of_a_mirrored_patient_is_the_mirrored_centre(spacing: float) -> None:
    array = np.full((64, 64, 40), -1000, np.float32)
    array[12:48, 20:50] = 40
    array[16:20, 10:20] = 40
    affine = np.diag([spacing, spacing, spacing, 1.0])
    there = patient_centre(CtVolume(array, affine))
    back = patient_centre(CtVolume(np.ascontiguousarray(array[::-1, ::-1]), affine))
    every = int(max(1, 2 // spacing))  # so many voxels apart is the body looked for
    np.testing.assert_allclose(there[:2] + back[:2], (63, 63), atol=0.1 if every == 1 else every)
    np.testing.assert_allclose(there[:2], (29.5, 33.5), atol=max(0.5, every / 2))


def test_the_box_holds_the_body_and_a_margin() -> None:
    array = np.full((40, 40, 10), -1000, np.float32)
    array[8:28, 12:30] = 40
    array[35:37, 35:37] = 40  # something beside the patient
    body = find_body(CtVolume(array, np.diag([10.0, 10.0, 5.0, 1.0])))
    assert (body.low, body.high) == ((5, 9, 0), (31, 33, 10))  # 20 mm and a voxel
    nothing = find_body(CtVolume(np.full((8, 8, 4), -1000, np.float32), np.eye(4)))
    assert (nothing.low, nothing.high) == ((0, 0, 0), (8, 8, 4))


def test_a_fine_grid_gives_the_same_body() -> None:
    coarse = np.full((40, 30, 8), -1000, np.float32)
    coarse[8:28, 6:21] = 40
    fine = coarse.repeat(4, 0).repeat(4, 1).repeat(2, 2)
    a = find_body(CtVolume(coarse, np.diag([4.0, 4.0, 6.0, 1.0])))
    b = find_body(CtVolume(fine, np.diag([1.0, 1.0, 3.0, 1.0])))
    np.testing.assert_allclose((b.centre + 0.5) / (4, 4, 2) - 0.5, a.centre, atol=0.5)
    np.testing.assert_allclose(np.array(b.low) / (4, 4, 2), a.low, atol=1.1)
    np.testing.assert_allclose(np.array(b.high) / (4, 4, 2), a.high, atol=1.1)


def test_a_box_grows_to_the_least_and_stays_inside() -> None:
    assert at_least((4, 0, 0), (6, 9, 3), (6, 4, 8), (20, 9, 5)) == ((2, 0, 0), (8, 9, 5))
    assert at_least((18, 0, 0), (20, 1, 1), (6, 1, 1), (20, 1, 1)) == ((14, 0, 0), (20, 1, 1))
