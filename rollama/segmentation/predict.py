"""Apply a trained segmentation model: CT and plan text in, target mask on the CT's own grid out.

The plan is encoded once (and remembered by its content's hash), the network runs on the model's grid where the plan's
target can be (`region`), in windows of the training patch's size (`windows`), each of which knows its own patient
coordinates. The probability goes back to the CT's grid slice by slice, where the mask is decided: a mask decided on a
coarse grid would cost thin targets a voxel. Peak memory is the CT plus a few model volumes.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from rollama.core.config import hash_json, hash_text
from rollama.core.errors import DataError
from rollama.data.body import Index, find_body
from rollama.data.plan import Level, Plan, Structures, TargetWords, parse_plan, structures
from rollama.data.resampling import mask_to_native, probability_to_native, to_model_grid
from rollama.data.transforms import cut, mirrored_corner, place, scale_hu
from rollama.data.volumes import Volume
from rollama.segmentation.calibration import Calibration, logit
from rollama.segmentation.checkpoint import load_model
from rollama.segmentation.config import Crop, TextForm
from rollama.segmentation.model import SegmentationNet
from rollama.segmentation.normality import describe
from rollama.segmentation.outline import Outline
from rollama.segmentation.pool import Network
from rollama.segmentation.readable import read_target
from rollama.segmentation.region import Reach, body_region, plan_region
from rollama.segmentation.text_encoder import Words, encoder_text
from rollama.segmentation.windows import sweep
from rollama.training.worker import inference_device, keep_memory

Progress = Callable[[int, int], None]
"""Called with (finished windows, all windows)."""
Look = tuple[Words | None, bool]
"""The plan's embeddings, and whether windows are flipped left to right."""
Looks = list[list[Look]]
"""For each part of the target, the looks whose mean it is."""
REMEMBERED_TEXTS = 256
FORM = 3
"""Counts changes of this module that change masks."""

log = logging.getLogger(__name__)


class SegmentationModel:
    """A trained network ready to predict. Several threads may use it at once when `windows` is a `WindowPool`.

    `inference` and `threshold` start as the artefact's and may be changed before that.
    """

    def __init__(self, network: SegmentationNet, manifest: dict[str, Any], device: torch.device) -> None:
        self.network, self.manifest, self.device = network, manifest, device
        self.config = network.config
        self.inference = self.config.inference
        self.threshold = float(manifest.get("threshold", 0.5))
        self.calibration = Calibration.read(manifest.get("calibration"))
        self.reach = Reach.read(manifest.get("reach"))
        self.windows: Network = self.run_windows
        self.network.eval()
        self._texts: OrderedDict[str, Words] = OrderedDict()
        self._encoding = threading.Lock()

    @classmethod
    def load(cls, folder: Path, device: torch.device | None = None) -> Self:
        """Load an artefact folder.

        Raises:
            CheckpointError: missing, damaged, or trained with another text encoder than the one here.
        """
        device = device or inference_device()
        keep_memory(device)
        return cls(*load_model(folder, device), device)

    @property
    def identity(self) -> str:
        """Hash of all that decides a mask beside CT and text: for caches."""
        reads = {key: self.manifest.get(key) for key in ("files", "plans_only")}
        settings = [self.inference.model_dump(mode="json"), self.config.model_dump(mode="json")]
        return hash_json([FORM, reads, settings, self.reach.boxes, self.threshold])

    def encode(self, plan_text: str) -> Words | None:
        """Embeddings of a plan's text (one row); None for a vision-only model.

        Raises:
            DataError: the text is empty or too long.
        """
        if self.network.text_encoder is None:
            return None
        return self._encode(encoder_text(self.meant(plan_text), plan_text, self.config.text_form))

    def _encode(self, text: str) -> Words:
        """Embeddings of what the encoder reads."""
        encoder = self.network.text_encoder
        assert encoder is not None
        key = hash_text(text)  # a cache that outlives the patient holds no words
        if key in encoder.kept:
            states, mask = encoder.kept[key]
            return Words(states.float(), mask)
        with self._encoding:
            if key not in self._texts:
                tokens = encoder.tokenize([text])
                tokens.ids = tokens.ids.to(self.device)
                with torch.inference_mode():
                    self._texts[key] = encoder(tokens).used.words
                if len(self._texts) > REMEMBERED_TEXTS:
                    self._texts.popitem(last=False)
            return self._texts[key]

    def _looks(self, plan_text: str) -> Looks:
        """How each window is looked at: for the plan or each of its structures; as it is, or mirrored as well."""
        sides = (False, True) if self.inference.mirrored else (False,)
        if not self.config.uses_text:
            return [[(None, mirrored) for mirrored in sides]]
        plan = self.meant(plan_text)
        if plan is None or (self.config.text_form is TextForm.FULL and not isinstance(plan, Plan)):
            return [[(self.encode(plan_text), False)]]  # free text, read as it is: nobody can turn or part its words

        def look(words: TargetWords, mirrored: bool) -> Look:
            words = words.mirrored() if mirrored else words
            return self._encode(encoder_text(words, plan_text, self.config.text_form)), mirrored

        parts: Sequence[TargetWords] = structures(plan) if self.inference.composed else [plan]
        return [[look(part, mirrored) for mirrored in sides] for part in parts]

    def predict(self, volume: Volume, plan_text: str, progress: Progress | None = None) -> npt.NDArray[np.uint8]:
        """The mask of `outline`.

        Raises:
            DataError: the text is refused or too long.
        """
        found = self.outline(volume, plan_text, progress)
        if found.refused:
            raise DataError(found.refused)
        return found.mask

    def outline(
        self, volume: Volume, plan_text: str, progress: Progress | None = None, keep_probability: bool = False
    ) -> Outline:
        """Target on the CT's own grid. A plan that says it has no target gives an empty one.

        Args:
            volume: CT in HU, any orientation and voxel size.
            plan_text: a plan in its text form, or free text.
            progress: told about finished windows.
            keep_probability: whether the calibrated probability is wanted too.

        Raises:
            DataError: the text is too long.
        """
        plan = None
        if self.config.uses_text:
            try:
                plan = self.meant(plan_text)
            except DataError as error:
                return Outline(np.zeros(volume.shape, dtype=np.uint8), refused=str(error))
            if plan is not None and plan.volume is None:
                nothing = np.zeros(volume.shape, dtype=np.uint8)
                return Outline(nothing, probability=nothing if keep_probability else None)
        grid = to_model_grid(volume, self.config.spacing)
        probability = self.probability(grid, plan_text, progress)
        kept = None
        if keep_probability:
            kept = probability_to_native(self.calibration(logit(probability)), grid, volume)
        return Outline(self.decide(probability, grid, volume), self.unusual(grid, probability, plan), probability=kept)

    def unusual(self, grid: Volume, probability: npt.NDArray[np.float32], plan: TargetWords | None) -> float:
        """How far a volume on the model's grid and its probability are from the training cases (see `normality`)."""
        if not self.network.normality.known:
            return float("nan")
        return self.network.normality.score(describe(grid, probability, self.threshold), plan)

    def meant(self, plan_text: str) -> TargetWords | None:
        """What a text says of the target; None for free text to a model that was trained on free text.

        Raises:
            DataError: blank, or free text that a model of plans cannot take for one (see `readable`).
        """
        with contextlib.suppress(DataError):
            return parse_plan(plan_text)
        if self.manifest.get("plans_only") or not plan_text.strip():
            return read_target(plan_text)
        return None

    def decide(
        self, probability: npt.NDArray[np.float32], model_volume: Volume, volume: Volume
    ) -> npt.NDArray[np.uint8]:
        """The mask on the CT's own grid: where the probability, interpolated linearly, reaches the threshold."""
        shifted = np.clip(probability + (0.5 - self.threshold), 0.0, 1.0)  # mask_to_native cuts at one half
        return mask_to_native(shifted, model_volume, volume)

    def probability(self, volume: Volume, plan_text: str, progress: Progress | None = None) -> npt.NDArray[np.float32]:
        """Probability of target as the network gives it, for a volume already on the model's grid (`to_model_grid`).

        The threshold belongs to this one; `calibration` makes it a frequency.
        Looks where the plan's target can lie; if what it finds touches the border of that, at the whole patient. 0
        where it did not look.
        """
        looks = self._looks(plan_text)
        body = find_body(volume)
        plan = self.meant(plan_text) if self.config.uses_text and self.inference.crop is Crop.PLAN else None
        whole: tuple[Index, Index] = ((0, 0, 0), volume.shape)
        if self.inference.crop is not Crop.VOLUME:
            whole = body_region(body, self.config.patch, volume.shape)
        part = whole
        if plan is not None:
            named: TargetWords = plan
            if self.inference.composed:  # a structure must lie in the same windows whatever else is named
                named = Structures(plan.side, plan.volume, tuple(Level), plan.guideline)
            part = plan_region(
                body, self.reach, named, self.inference.margin, self.config.spacing, self.config.patch, volume.shape
            )
        found = self._look(volume, part, body.centre, looks, progress)
        inside = found >= self.threshold
        if part != whole and (not inside.any() or _touches(inside, part, whole)):
            log.info(
                "nothing, or a target at its border, where such targets lay in training: looking at the whole body"
            )
            found = self._look(volume, whole, body.centre, looks, progress)
        return found

    def run_windows(self, patches: torch.Tensor, origin: torch.Tensor, words: Words | None) -> torch.Tensor:
        """Logits (n,1,x,y,z) of windows (n,c,x,y,z) whose corners lie at `origin` (n,3) in mm."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.amp == "bfloat16"):
            return self.network.segment(patches, origin, words).logits

    def _logits(self, patches: torch.Tensor, origin: torch.Tensor, looks: Looks) -> torch.Tensor:
        """Logits of some windows (see `run_windows`): the mean over looks, the largest over parts."""

        def one(text: Words | None, mirrored: bool) -> torch.Tensor:
            words = None if text is None else text.expand(len(patches))
            if not mirrored:
                return self.windows(patches, origin, words)
            across = origin.clone()
            across[:, 0] = mirrored_corner(origin[:, 0], patches.shape[2], self.config.spacing[0])
            return self.windows(patches.flip(2), across, words).flip(2)

        return torch.stack([torch.stack([one(*look) for look in part]).mean(0) for part in looks]).amax(0)

    def _look(
        self, volume: Volume, part: tuple[Index, Index], centre: npt.NDArray[np.float64],
        looks: Looks, progress: Progress | None,
    ) -> npt.NDArray[np.float32]:  # fmt: skip
        """One sweep over the box `part` of a volume; an axis shorter than a window is padded around the patient."""
        patch = self.config.patch
        low, high = part
        padded = place(volume.shape, patch, centre)
        start = [a if n >= p else s for a, n, p, s in zip(low, volume.shape, patch, padded, strict=True)]
        shape = [max(b - a, p) for a, b, p in zip(low, high, patch, strict=True)]
        maps = [scale_hu(cut(volume.array, start, shape, AIR_HU), self.config.hu_range)]
        if self.config.organs:
            if volume.organs is None:
                raise DataError(f"{volume.source}: this model reads an organ mask beside the CT; none was given")
            maps.append(cut(volume.organs, start, shape).astype(np.float32))
        image = torch.from_numpy(np.stack(maps))
        spacing = np.asarray(self.config.spacing)

        def run(places: list[tuple[slice, ...]]) -> torch.Tensor:
            patches = torch.stack([image[:, *found] for found in places]).to(self.device)
            corners = np.array([[axis.start for axis in found] for found in places])
            origin = torch.from_numpy((corners + start - centre) * spacing).float().to(self.device)
            return self._logits(patches, origin, looks)

        with torch.inference_mode():
            logits = sweep(
                shape, patch, self.config.overlap, self.config.sw_batch, run, self.inference.skip_below, progress
            )
        return cut(Calibration()(logits.numpy()), [-s for s in start], volume.shape)


AIR_HU = -1024.0
"""What the padding around a scan holds."""


def _touches(mask: npt.NDArray[np.bool_], part: tuple[Index, Index], whole: tuple[Index, Index]) -> bool:
    """Whether a mask has voxels at a face of the box `part` that is no face of the box `whole`."""
    for axis, (a, b, first, last) in enumerate(zip(*part, *whole, strict=True)):
        faces = [place for place, cropped in ((a, a > first), (b - 1, b < last)) if cropped]
        if any(mask.take(place, axis).any() for place in faces):
            return True
    return False
