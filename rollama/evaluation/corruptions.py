"""Inputs as they come on a bad day: the same cases, spoilt in one way at a time.

A new model that is as good as the old one on clean inputs may fail on a noisy scan or on a note full of slips. The
models are wrapped, not the scorer, so spoilt inputs are measured by exactly what measures clean ones. What is spoilt,
and how, depends on the input alone: two models that are compared get the same spoilt input.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rollama.chain.run import Answer
from rollama.core.config import hash_text
from rollama.core.registry import Task
from rollama.core.seeding import derive_seed, numpy_generator
from rollama.data.volumes import Volume
from rollama.evaluation.edits import misspelt
from rollama.evaluation.run import Segmenter, TextGenerator

NOISE_HU, SHIFT_HU, SLICES = 60.0, 50.0, 3
WORDS_A_SLIP = 12


def _noise(volume: Volume) -> np.ndarray:
    picture = np.ascontiguousarray(volume.array[::4, ::4, ::4])
    key = hashlib.sha256(picture.tobytes()).hexdigest()
    drawn = numpy_generator("corruption", "noise", key).normal(0.0, NOISE_HU, volume.array.shape)
    return volume.array + drawn.astype(np.float32)


def _shift(volume: Volume) -> np.ndarray:
    return volume.array + np.float32(SHIFT_HU)


def _thick(volume: Volume) -> np.ndarray:
    axis = int(np.argmax(np.abs(volume.affine[2, :3])))
    array = np.moveaxis(volume.array, axis, 0)
    thick = np.concatenate(
        [
            np.repeat(array[start : start + SLICES].mean(axis=0, keepdims=True), len(array[start : start + SLICES]), 0)
            for start in range(0, len(array), SLICES)
        ]
    )
    return np.moveaxis(thick, 0, axis).astype(np.float32)


def _slips(text: str) -> str:
    return misspelt(text, hash_text(text), max(3, len(text.split(" ")) // WORDS_A_SLIP))


SCANS: dict[str, Callable[[Volume], np.ndarray]] = {"noise": _noise, "shifted HU": _shift, "thick slices": _thick}
"""Gaussian noise of 60 HU; all values 50 HU too high; groups of three axial slices averaged."""
TEXTS: dict[str, Callable[[str], str]] = {
    "misspelt": _slips,
    "capitals": str.upper,
    "one line": lambda text: " ".join(text.split()),
}
"""Letters exchanged in every twelfth word; capital letters throughout; line breaks lost."""
NAMES = (*SCANS, *TEXTS)


class SpoiltScans:
    """A segmentation model that sees each CT spoilt."""

    def __init__(self, model: Segmenter, name: str) -> None:
        """Wrap a model; `name` is one of `SCANS`."""
        self.model, self.spoil = model, SCANS[name]

    def predict(self, volume: Volume, plan_text: str, progress: Any = None) -> np.ndarray:
        """The mask for the spoilt CT, on the CT's grid."""
        return self.model.predict(replace(volume, array=self.spoil(volume)), plan_text, progress)


class SpoiltTexts:
    """A text model that reads each text spoilt."""

    def __init__(self, model: TextGenerator, name: str) -> None:
        """Wrap a model; `name` is one of `TEXTS`."""
        self.model, self.spoil = model, TEXTS[name]

    def generate(self, task: Task, texts: Sequence[str], progress: Any = None) -> Sequence[Answer]:
        """Answer each spoilt text."""
        return self.model.generate(task, [self.spoil(text) for text in texts], progress)


def cache_key(model_hash: str, name: str) -> str:
    """What predictions on spoilt inputs are cached under, beside those on clean ones."""
    return f"{model_hash}:{name}:{derive_seed(name, str((NOISE_HU, SHIFT_HU, SLICES, WORDS_A_SLIP)))}"
