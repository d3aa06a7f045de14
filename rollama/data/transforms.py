"""From a case's files to what the segmentation network sees, with every random draw tied to the case.

Two things go wrong silently in such pipelines. A left-right flip that leaves the plan's side alone teaches the network
the wrong breast; here image, target, coordinates and plan are flipped by one transform. And random draws taken from a
worker's running generator make a resumed or differently sharded run another run; here every draw is keyed by
(seed, epoch, case id).

Coordinates are millimetres relative to the patient's centre along the canonical axes: in plane the middle of the body,
along z the middle of the scan. `prepare` and inference use the same `patient_centre`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rollama.core.errors import DataError
from rollama.core.seeding import derive_seed
from rollama.data.body import at_least, find_body
from rollama.data.case import Case
from rollama.data.monai_parts import (
    Compose,
    MapTransform,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandomizableTransform,
    RandScaleIntensityd,
    RandShiftIntensityd,
)
from rollama.data.organs import organs_path
from rollama.data.parts import LEVELS, level_map, parts_path, read_labels
from rollama.data.plan import Guideline, Level, Plan, TargetWords
from rollama.data.regions import DRAWS, Regions, another_plan, one_structure, regions_on_grid, target_in
from rollama.data.resampling import case_on_grid


class VolumeSettings(Protocol):
    """The part of a segmentation configuration that the pipeline reads (see `SegConfig` for units)."""

    @property
    def organs(self) -> bool: ...
    @property
    def patch(self) -> tuple[int, int, int]: ...
    @property
    def spacing(self) -> tuple[float, float, float]: ...
    @property
    def hu_range(self) -> tuple[float, float]: ...
    @property
    def positive_crops(self) -> float: ...
    @property
    def mirrored_crops(self) -> float: ...
    @property
    def level_drop(self) -> float: ...
    @property
    def plan_edits(self) -> float: ...
    @property
    def plan_parts(self) -> float: ...
    @property
    def flip_probability(self) -> float: ...
    @property
    def position_jitter(self) -> float: ...
    @property
    def scale_factor(self) -> float: ...
    @property
    def scale_probability(self) -> float: ...
    @property
    def shift_offset(self) -> float: ...
    @property
    def shift_probability(self) -> float: ...
    @property
    def noise_std(self) -> float: ...
    @property
    def noise_probability(self) -> float: ...
    @property
    def blur_sigma(self) -> float: ...
    @property
    def blur_probability(self) -> float: ...


@dataclass(frozen=True, eq=False)
class Prepared:
    """A case on the model's grid: image float16 (x,y,z) scaled to [0,1], target uint8, origin (3,) in mm."""

    image: npt.NDArray[np.float16]
    target: npt.NDArray[np.uint8]
    origin: npt.NDArray[np.float64]
    organs: npt.NDArray[np.uint8] | None = None
    """Mask of organs, where the model reads one."""
    levels: npt.NDArray[np.uint8] | None = None
    """Which nodal level (`data.parts`) each voxel of the target belongs to, where levels may be left out."""
    regions: Regions = field(default_factory=dict)
    """All parts by guideline (`data.regions`), where plans may be changed."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        maps = (self.image, self.target, self.organs, self.levels, *self.regions.values())
        return sum(values.nbytes for values in maps if values is not None)


@dataclass(frozen=True, eq=False)
class Sample:
    """A sample: image float32 and target uint8 of the patch's shape, origin (3,) in mm, the plan that goes with it.

    `contested` uint8: where the target of another plan of this CT differs, if one was drawn (`RandEditPlan`).
    """

    image: npt.NDArray[np.float32]
    target: npt.NDArray[np.uint8]
    origin: npt.NDArray[np.float64]
    plan: TargetWords | None
    organs: npt.NDArray[np.uint8] | None = None
    contested: npt.NDArray[np.uint8] | None = None


def scale_hu(array: npt.NDArray[np.float32], hu_range: tuple[float, float]) -> npt.NDArray[np.float32]:
    """Clip to the HU range and scale it to [0,1]."""
    low, high = hu_range
    return np.asarray((array.clip(low, high) - low) / (high - low), dtype=np.float32)


def prepare(case: Case, settings: VolumeSettings) -> Prepared:
    """Read a case's CT and target and bring both to the model's grid.

    What lies outside the body's box is left out, unless a patch is larger than that box: then as much is kept as a
    patch can show. So a crop never sees padding where the scan has voxels.

    Raises:
        DataError: a file cannot be read, or the settings ask for organs and the case has none.
    """
    ct, volume, target = case_on_grid(case, settings.spacing)
    body = find_body(volume)
    low, high = body.low, body.high
    if (inside := np.argwhere(target.array >= 0.5)).size:  # a target outside the body is odd, but not ours to cut off
        low, high = np.minimum(low, inside.min(0)), np.maximum(high, inside.max(0) + 1)
    low, high = at_least(low, high, settings.patch, volume.shape)
    kept = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    image = scale_hu(volume.array[kept], settings.hu_range).astype(np.float16)
    origin = (low - body.centre) * settings.spacing
    organs = None
    if settings.organs:
        if volume.organs is None:
            raise DataError(f"{case.case_id}: this model reads an organ mask; there is no {organs_path(case)}")
        organs = volume.organs[kept]
    levels = None
    if settings.level_drop and case.plan is not None and case.plan.levels and parts_path(case).is_file():
        levels = level_map(read_labels(parts_path(case), ct), ct, target)[kept]
    regions = {}
    if settings.plan_edits and case.plan is not None and case.plan.has_target:
        regions = {name: bits[kept] for name, bits in regions_on_grid(case, ct, settings.spacing).items()}
    return Prepared(image, (target.array[kept] >= 0.5).astype(np.uint8), origin, organs, levels, regions)


def place(
    shape: Sequence[int], patch: Sequence[int], centre: Sequence[float] | npt.NDArray[np.float64]
) -> tuple[int, ...]:
    """Start index of a patch around `centre`: kept inside a larger volume, the whole of a smaller one in the patch.

    A start may be negative: the volume is then padded.
    """
    starts = []
    for size, wanted, middle in zip(shape, patch, centre, strict=True):
        start = round(middle - (wanted - 1) / 2)
        low, high = sorted((0, size - wanted))
        starts.append(min(max(start, low), high))
    return tuple(starts)


def cut(array: npt.NDArray[Any], start: Sequence[int], shape: Sequence[int], fill: float = 0.0) -> npt.NDArray[Any]:
    """Copy of `array[start : start + shape]`, `fill` where that reaches outside."""
    result = np.full(tuple(shape), fill, dtype=array.dtype)
    source = tuple(slice(max(0, s), max(0, min(n, s + m))) for s, n, m in zip(start, array.shape, shape, strict=True))
    goal = tuple(slice(a.start - s, a.stop - s) for a, s in zip(source, start, strict=True))
    result[goal] = array[source]
    return result


MAPS = ("image", "target", "organs", "levels", *Guideline)
"""What lies on the grid; all but the first two only where a case has them. A guideline's are its regions."""


class RandPatch(RandomizableTransform, MapTransform):
    """Cut or pad image and target to the patch; in a larger volume around a random voxel, mostly one of the target.

    If patches always lie around the target, where a patch lies tells the side, and nobody has to read the plan for it:
    so some are mirrored to the other side of the patient (`mirrored_crops`).
    """

    def __init__(self, settings: VolumeSettings) -> None:
        RandomizableTransform.__init__(self, 1.0)
        MapTransform.__init__(self, ["image", "target"])
        self.settings = settings

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform one sample."""
        result = dict(data)
        patch, target = self.settings.patch, data["target"][0]
        centre = -data["origin"] / self.settings.spacing
        choose, positive = self.R.uniform(size=2)
        where = self.R.uniform(size=3)
        across = self.R.uniform() < self.settings.mirrored_crops
        if any(size > wanted for size, wanted in zip(target.shape, patch, strict=True)):
            inside = np.flatnonzero(target)
            if choose < self.settings.positive_crops and inside.size:
                found = np.array(np.unravel_index(inside[int(positive * inside.size)], target.shape))
                centre = np.array([2 * centre[0] - found[0], *found[1:]]) if across else found
            else:
                centre = where * (np.array(target.shape) - 1)
        start = place(target.shape, patch, centre)
        for key in MAPS:
            if key in data:
                result[key] = cut(data[key][0], start, patch)[None]
        result["origin"] = data["origin"] + np.array(start) * self.settings.spacing
        return result


class RandMirror(RandomizableTransform, MapTransform):
    """Flip left and right: image, target, coordinates and the plan's side together, or nothing.

    A case whose plan is free text is never flipped, because nobody can flip its words.
    """

    def __init__(self, settings: VolumeSettings) -> None:
        RandomizableTransform.__init__(self, settings.flip_probability)
        MapTransform.__init__(self, ["image", "target"])
        self.settings = settings

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform one sample."""
        self.randomize(None)
        result = dict(data)
        if not self._do_transform or data["plan"] is None:
            return result
        return mirror(result, self.settings.spacing[0])


def mirror(data: Mapping[Hashable, Any], spacing_x: float) -> dict[Hashable, Any]:
    """The mirrored sample; mirroring twice gives the sample back. `image` and `target` are (1,x,y,z), x first."""
    result = dict(data)
    for key in MAPS:
        if key in data:
            result[key] = np.ascontiguousarray(data[key][:, ::-1])
    origin = np.array(data["origin"], dtype=np.float64)
    origin[0] = mirrored_corner(origin[0], data["image"].shape[1], spacing_x)
    result["origin"] = origin
    result["plan"] = data["plan"].mirrored()
    return result


def mirrored_corner(x: Any, size: int, spacing_x: float) -> Any:
    """Where the first of `size` voxels lies (mm right of the patient's centre; a number or a tensor) after a flip."""
    return -(x + (size - 1) * spacing_x)


class RandDropLevels(RandomizableTransform, MapTransform):
    """Leave some nodal levels out of the plan and out of the target: same CT, another plan, another target.

    Most patients are planned once, so a network can learn the usual levels of a look instead of reading the plan. Only
    cases whose target's parts are known (`data.parts`) and whose plan has levels are changed.
    """

    def __init__(self, settings: VolumeSettings) -> None:
        RandomizableTransform.__init__(self, settings.level_drop)
        MapTransform.__init__(self, ["target"])

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform one sample."""
        self.randomize(None)
        order = self.R.uniform(size=len(Level))
        count = self.R.uniform()
        result, plan = dict(data), data["plan"]
        if not self._do_transform or plan is None or not plan.levels or "levels" not in data:
            return result
        gone = sorted(plan.levels, key=lambda level: order[list(Level).index(level)])
        gone = gone[: 1 + int(count * len(gone))]
        inside = np.isin(data["levels"], [LEVELS[level] for level in gone])
        result["target"] = np.where(inside, 0, data["target"]).astype(data["target"].dtype)
        result["plan"] = plan.model_copy(update={"levels": tuple(x for x in plan.levels if x not in gone)})
        return result


class RandEditPlan(RandomizableTransform, MapTransform):
    """Another plan and the target that belongs to it, where all parts of a case are known (`data.regions`).

    `contested` is where the two targets differ: there, and only there, the plan decides. With `plan_parts` some of the
    other plans shrink to one of the structures that they could name.
    """

    def __init__(self, settings: VolumeSettings) -> None:
        RandomizableTransform.__init__(self, settings.plan_edits)
        MapTransform.__init__(self, ["target"])
        self.single = settings.plan_parts

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform one sample."""
        self.randomize(None)
        draws = self.R.uniform(size=DRAWS)
        single, which = self.R.uniform(size=2)
        result, plan = dict(data), data["plan"]
        known = [guideline for guideline in Guideline if guideline in data]
        if not known or plan is None or not plan.has_target:
            return result
        edited: TargetWords = another_plan(plan, known, draws.tolist())
        if self._do_transform and single < self.single:
            edited = one_structure(edited, which)
        regions = data.get(edited.guideline or Guideline.ESTRO)
        if edited == plan or regions is None:
            return result
        other = target_in(regions, edited).astype(data["target"].dtype)
        result["contested"] = (other != data["target"]).astype(np.uint8)
        if self._do_transform:
            result["target"], result["plan"] = other, edited
        return result


class RandOrigin(RandomizableTransform, MapTransform):
    """Move the coordinate origin a little, as another body or field of view would."""

    def __init__(self, settings: VolumeSettings) -> None:
        RandomizableTransform.__init__(self, 1.0)
        MapTransform.__init__(self, ["origin"])
        self.std = settings.position_jitter

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform one sample."""
        return {**data, "origin": data["origin"] + self.R.normal(0.0, 1.0, 3) * self.std}


def training_pipeline(settings: VolumeSettings) -> Compose:
    """The random part of the pipeline; give it its seed before every case (see `draw`)."""
    return Compose(
        [
            RandPatch(settings),
            RandMirror(settings),
            RandOrigin(settings),
            RandGaussianSmoothd(
                "image",
                sigma_x=(0.1, settings.blur_sigma),
                sigma_y=(0.1, settings.blur_sigma),
                sigma_z=(0.1, settings.blur_sigma),
                prob=settings.blur_probability,
            ),
            RandScaleIntensityd("image", factors=settings.scale_factor, prob=settings.scale_probability),
            RandShiftIntensityd("image", offsets=settings.shift_offset, prob=settings.shift_probability),
            RandGaussianNoised("image", std=settings.noise_std, prob=settings.noise_probability),
            RandDropLevels(settings),  # these two last: the draws of the others stay what they were
            RandEditPlan(settings),
        ]
    )


def draw(pipeline: Compose, prepared: Prepared, plan: Plan | None, key: Sequence[int | str]) -> Sample:
    """Augment a case; `key` is (seed, epoch, case id), and equal keys give equal samples."""
    pipeline.set_random_state(seed=derive_seed(*key, "transforms") % 2**32)
    data: Any = pipeline(
        {
            "image": prepared.image[None].astype(np.float32),
            "target": prepared.target[None],
            "origin": prepared.origin,
            "plan": plan,
            **{
                name: maps[None]
                for name, maps in (
                    ("organs", prepared.organs),
                    ("levels", prepared.levels),
                    *prepared.regions.items(),
                )
                if maps is not None
            },
        }
    )
    organs, contested = (np.asarray(data[key])[0] if key in data else None for key in ("organs", "contested"))
    image = np.asarray(data["image"], dtype=np.float32)[0]
    return Sample(image, np.asarray(data["target"])[0], data["origin"], data["plan"], organs, contested)


def centred(prepared: Prepared, settings: VolumeSettings, plan: Plan | None) -> Sample:
    """The sample without any randomness: the patch around the patient's centre."""
    start = place(prepared.image.shape, settings.patch, -prepared.origin / np.asarray(settings.spacing))
    image, target = (cut(array, start, settings.patch) for array in (prepared.image, prepared.target))
    return Sample(image.astype(np.float32), target, prepared.origin + np.array(start) * settings.spacing, plan)
