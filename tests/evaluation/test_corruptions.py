"""Spoilt inputs: each spoils what it says, the same for the same input, and the scorer sees the models' answers."""

import numpy as np
import pytest

from rollama.core.errors import ConfigError
from rollama.core.registry import Task
from rollama.data.volumes import Volume
from rollama.evaluation.corruptions import NAMES, NOISE_HU, SCANS, SHIFT_HU, TEXTS, SpoiltScans, SpoiltTexts
from rollama.evaluation.jobs import open_job

NOTE = "54 y/o woman with carcinoma of the left breast after lumpectomy.\nThree sentinel nodes were negative."


@pytest.fixture
def volume():
    drawn = np.random.default_rng(0).normal(0, 100, (24, 20, 12)).astype(np.float32)
    return Volume(drawn, np.diag([2.0, 2.0, 3.0, 1.0]))


class Sees:
    def predict(self, volume, plan_text, progress=None):
        self.array = volume.array
        return np.zeros(volume.array.shape, np.uint8)

    def generate(self, task, texts, progress=None):
        self.texts = list(texts)
        return []


def seen(volume, name):
    model = Sees()
    mask = SpoiltScans(model, name).predict(volume, "plan")
    assert mask.shape == volume.array.shape and model.array.dtype == np.float32
    return model.array


def test_noise_has_its_strength_and_is_the_same_for_the_same_scan(volume):
    noise = seen(volume, "noise") - volume.array
    assert noise.std() == pytest.approx(NOISE_HU, rel=0.05) and abs(noise.mean()) < 3
    assert np.array_equal(seen(volume, "noise"), seen(volume, "noise"))
    other = Volume(volume.array + 1, volume.affine)
    assert not np.allclose(seen(other, "noise") - other.array, noise, atol=1)


def test_shifted_values_are_all_shifted(volume):
    assert np.allclose(seen(volume, "shifted HU") - volume.array, SHIFT_HU, atol=1e-3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices_are_axial_however_the_array_lies(volume, axis):
    order = np.eye(3)[[(2 - axis + i) % 3 for i in range(3)]].T  # array axis `axis` runs along patient z
    affine = np.eye(4)
    affine[:3, :3] = order
    turned = Volume(volume.array, affine)
    spoilt = np.moveaxis(seen(turned, "thick slices"), axis, 0)
    clean = np.moveaxis(volume.array, axis, 0)
    assert np.array_equal(spoilt[0], spoilt[2]) and not np.array_equal(spoilt[2], spoilt[3])
    assert np.allclose(spoilt[3], clean[3:6].mean(axis=0), atol=1e-4)


@pytest.mark.parametrize("name", TEXTS)
def test_texts_are_spoilt_and_stay_legible(name):
    model = Sees()
    SpoiltTexts(model, name).generate(Task.SUMMARY, [NOTE])
    (text,) = model.texts
    assert text != NOTE and sorted(text.lower().split()) != [] and len(text) == len(NOTE)
    again = Sees()
    SpoiltTexts(again, name).generate(Task.SUMMARY, [NOTE])
    assert again.texts == [text]


def test_an_unknown_corruption_is_refused_before_anything_is_loaded(tmp_path):
    assert set(NAMES) == {*SCANS, *TEXTS}
    with pytest.raises(ConfigError, match="corrupted inputs snow: not one of noise"):
        open_job(tmp_path, tmp_path, tmp_path, None, corrupted=["snow"])
