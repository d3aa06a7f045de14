"""Apply a trained segmentation model: CT and plan text in, target mask on the CT's own grid out.

The plan is encoded once a call (and remembered by its text), the network runs on the model's grid, and the probability
goes back to the CT's grid slice by slice, where the mask is decided: a mask decided on the coarse grid would cost thin
targets a voxel. Peak memory is the CT plus a few model volumes. A volume not much
larger than the training patch is one window; a larger one is covered by overlapping windows (MONAI's sliding window),
each of which knows its own patient coordinates.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from monai.inferers.utils import sliding_window_inference

from rollama.core.errors import DataError
from rollama.data.plan import Plan, parse_plan
from rollama.data.resampling import mask_to_native, to_model_grid
from rollama.data.transforms import cut, patient_centre, place, scale_hu
from rollama.data.volumes import Volume
from rollama.segmentation.checkpoint import load_model
from rollama.segmentation.model import SegmentationNet
from rollama.segmentation.text_encoder import Words, encoder_text
from rollama.training.worker import inference_device

Progress = Callable[[int, int], None]
"""Called with (finished windows, all windows)."""
REMEMBERED_TEXTS = 256


class SegmentationModel:
    """A trained network ready to predict. Not thread-safe."""

    def __init__(self, network: SegmentationNet, manifest: dict[str, Any], device: torch.device) -> None:
        self.network, self.manifest, self.device = network, manifest, device
        self.config = network.config
        self.threshold = float(manifest.get("threshold", 0.5))
        self.network.eval()
        self._texts: OrderedDict[str, Words] = OrderedDict()

    @classmethod
    def load(cls, folder: Path, device: torch.device | None = None) -> Self:
        """Load an artefact folder.

        Raises:
            CheckpointError: missing, damaged, or trained with another text encoder than the one here.
        """
        device = device or inference_device()
        return cls(*load_model(folder, device), device)

    def encode(self, plan_text: str) -> Words | None:
        """Embeddings of a plan's text (one row); None for a vision-only model.

        Raises:
            DataError: the text is empty or too long.
        """
        encoder = self.network.text_encoder
        if encoder is None:
            return None
        try:
            plan: Plan | None = parse_plan(plan_text)
        except DataError:
            plan = None  # free text is read as it is
        text = encoder_text(plan, plan_text, self.config.text_form)
        if text not in self._texts:
            tokens = encoder.tokenize([text])
            tokens.ids = tokens.ids.to(self.device)
            with torch.inference_mode():
                self._texts[text] = encoder(tokens).used.words
            if len(self._texts) > REMEMBERED_TEXTS:
                self._texts.popitem(last=False)
        return self._texts[text]

    def predict(self, volume: Volume, plan_text: str, progress: Progress | None = None) -> npt.NDArray[np.uint8]:
        """Target mask on the CT's own grid. A plan that says it has no target gives an empty one.

        Args:
            volume: CT in HU, any orientation and voxel size.
            plan_text: a plan in its text form, or free text.
            progress: told about finished windows.

        Returns:
            uint8 (x,y,z), 0 or 1, of the volume's shape.

        Raises:
            DataError: the text is empty or too long.
        """
        if self.config.uses_text and not _has_target(plan_text):
            return np.zeros(volume.shape, dtype=np.uint8)
        model_volume = to_model_grid(volume, self.config.spacing)
        probability = self.probability(model_volume, plan_text, progress)
        return self.decide(probability, model_volume, volume)

    def decide(
        self, probability: npt.NDArray[np.float32], model_volume: Volume, volume: Volume
    ) -> npt.NDArray[np.uint8]:
        """The mask on the CT's own grid: where the probability, interpolated linearly, reaches the threshold."""
        shifted = np.clip(probability + (0.5 - self.threshold), 0.0, 1.0)  # mask_to_native cuts at one half
        return mask_to_native(shifted, model_volume, volume)

    def probability(self, volume: Volume, plan_text: str, progress: Progress | None = None) -> npt.NDArray[np.float32]:
        """Probability of target, of the volume's shape, for a volume already on the model's grid (`to_model_grid`)."""
        text = self.encode(plan_text)
        centre = patient_centre(volume)
        shape = self.padded_shape(volume.shape)
        start = place(volume.shape, shape, centre)
        image = cut(scale_hu(volume.array, self.config.hu_range), start, shape)
        origin = (np.asarray(start) - centre) * self.config.spacing
        logits = self._logits(image, origin, text, progress)
        values = 1.0 / (1.0 + np.exp(-np.clip(logits, -30.0, 30.0)))
        inside = cut(values, [-s for s in start], volume.shape)
        return np.asarray(inside, dtype=np.float32)

    def padded_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Voxels to run on: at least one window along each axis."""
        return tuple(max(n, p) for n, p in zip(shape, self.config.patch, strict=True))

    def _logits(
        self, image: npt.NDArray[np.float32], origin: npt.NDArray[np.float64], text: Words | None,
        progress: Progress | None,
    ) -> npt.NDArray[np.float32]:  # fmt: skip
        window = self.config.patch  # never larger: instance norms have seen windows of this size only
        spacing = torch.tensor(self.config.spacing)
        base = torch.from_numpy(origin).float()
        total = self._window_count(image.shape, window)
        done = 0

        def run(patches: torch.Tensor, places: Sequence[Sequence[slice]]) -> torch.Tensor:
            nonlocal done
            starts = torch.tensor([[axis.start or 0 for axis in place_[2:]] for place_ in places], dtype=torch.float32)
            origins = (base + starts * spacing).to(self.device)
            words = None if text is None else text.expand(len(patches))
            amp = self.config.amp == "bfloat16"
            with torch.autocast(self.device.type, torch.bfloat16, enabled=amp):
                logits = self.network.segment(patches, origins, words).logits
            done += len(patches)
            if progress is not None:
                progress(done, total)
            return logits.float()

        with torch.inference_mode():
            result: Any = sliding_window_inference(
                torch.from_numpy(image)[None, None], window, self.config.sw_batch, run,
                overlap=self.config.overlap, mode="gaussian", sw_device=self.device, device=torch.device("cpu"),
                with_coord=True,
            )  # fmt: skip
        return np.asarray(result[0, 0].numpy())

    def _window_count(self, shape: Sequence[int], window: Sequence[int]) -> int:
        total = 1
        for size, part in zip(shape, window, strict=True):
            step = max(1, int(part * (1 - self.config.overlap)))
            total *= 1 if size <= part else -(-(size - part) // step) + 1
        return total


def _has_target(plan_text: str) -> bool:
    """False only for a plan that parses and treats nothing."""
    try:
        return parse_plan(plan_text).has_target
    except DataError:
        return True
