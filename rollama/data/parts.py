"""The parts a target is made of, their standard names, and the label map that keeps them beside the target.

A target is one mask, the union of what the plan treats. Who checks contouring, teaches it or exports it to a planning
system wants the parts: which voxels are breast, which level 2. They are kept as one label map a case,
`<centre>/parts/<case_id>.nii.gz`, with the values of `Part`. Parts do not overlap, but for the boost, which lies
inside the breast: voxels of value 9 are boost and breast (nnU-Net calls this region-based labels).

Names: ESTRO consensus 2015 (`CTVp_breast`, `CTVn_L1`, ...); for export AAPM TG-263, at most 16 characters with the
side at the end (nodes by its `LN_` names, level 4 as `LN_Sclav`; `InterPec` is not in its list and follows its form).
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from rollama.core.errors import DataError
from rollama.data.case import Case
from rollama.data.plan import Level, Plan, Side, Volume
from rollama.data.volumes import Volume as Ct

FOLDER = "parts"
READERS = "readers"


class Part(IntEnum):
    """Value of a part in the label map."""

    BREAST = 1
    CHEST_WALL = 2
    L1 = 3
    L2 = 4
    L3 = 5
    L4 = 6
    INTERPECTORAL = 7
    IMN = 8
    BOOST = 9

    @property
    def estro(self) -> str:
        """ESTRO's name."""
        return _NAMES[self][0]

    def tg263(self, side: Side) -> str:
        """TG-263 name, at most 16 characters."""
        return f"{_NAMES[self][1]}_{'L' if side is Side.LEFT else 'R'}"


_NAMES = {
    Part.BREAST: ("CTVp_breast", "CTVp_Breast"),
    Part.CHEST_WALL: ("CTVp_chestwall", "CTVp_Chestwall"),
    Part.L1: ("CTVn_L1", "CTVn_LN_Ax_L1"),
    Part.L2: ("CTVn_L2", "CTVn_LN_Ax_L2"),
    Part.L3: ("CTVn_L3", "CTVn_LN_Ax_L3"),
    Part.L4: ("CTVn_L4", "CTVn_LN_Sclav"),
    Part.INTERPECTORAL: ("CTVn_interpectoralis", "CTVn_InterPec"),
    Part.IMN: ("CTVn_IMN", "CTVn_LN_IMN"),
    Part.BOOST: ("CTVsb", "CTVsb"),
}
LEVELS = {level: Part[level.name] for level in Level}
"""The part of a nodal level."""
VOLUMES = {Volume.BREAST: Part.BREAST, Volume.CHEST_WALL: Part.CHEST_WALL}


def parts_of(plan: Plan) -> tuple[Part, ...]:
    """The parts that a plan treats, in the order of their values; empty without a target."""
    found = [LEVELS[level] for level in plan.levels]
    if plan.volume is not None:
        found.append(VOLUMES[plan.volume])
    if plan.boost is not None:
        found.append(Part.BOOST)
    return tuple(sorted(found))


def region(labels: np.ndarray, part: Part) -> np.ndarray:
    """Mask (bool) of one part in a label map; the breast includes its boost."""
    mask: np.ndarray = np.isin(labels, (Part.BREAST, Part.BOOST)) if part is Part.BREAST else labels == part
    return mask


def parts_path(case: Case) -> Path:
    """Where a case's label map lies; data sets of other origin may have none."""
    return case.image.parent.parent / FOLDER / case.image.name


def readers_path(case: Case) -> Path:
    """Where the simulated readers' masks lie: value 1 + 2 + 4 means that readers 1, 2 and 3 drew this voxel."""
    return case.image.parent.parent / READERS / case.image.name


def read_labels(path: Path, ct: Ct) -> np.ndarray:
    """Read a label map (uint8, x, y, z) and check that it lies on the CT's grid.

    Raises:
        DataError: missing, unreadable, another grid, or values that are no whole numbers from 0 to 255.
    """
    import nibabel

    try:
        image: Any = nibabel.load(path)
        values = np.asarray(image.dataobj)
    except Exception as error:  # nibabel raises its own, zlib's and OS errors for damaged files
        raise DataError(f"{path}: not a readable NIfTI file ({type(error).__name__})") from error
    if values.shape != ct.shape or not np.allclose(image.affine, ct.affine, atol=1e-3):
        raise DataError(f"{path}: shape {values.shape} or affine differs from the CT's, shape {ct.shape}")
    if values.min() < 0 or values.max() > 255 or (values != np.floor(values)).any():
        raise DataError(f"{path}: a label map has whole numbers from 0 to 255")
    return values.astype(np.uint8)


def level_map(labels: np.ndarray, ct: Ct, target: Ct) -> np.ndarray:
    """Which nodal level each voxel of a target belongs to, on the target's own grid (uint8; 0: none of them).

    Args:
        labels: label map on the CT's grid.
        ct: the CT.
        target: the target on another grid of the same patient (`to_model_grid`), inside from 0.5 on. Where it reaches
            beyond the label map, as another reader's contour does, the nearest part counts.
    """
    from scipy import ndimage

    from rollama.data.resampling import to_model_grid

    inside = target.array >= 0.5
    found = sorted(set(np.unique(labels).tolist()) & set(LEVELS.values()))
    if not inside.any() or not found:
        return np.zeros(inside.shape, np.uint8)
    others = (labels > 0) & ~np.isin(labels, found)
    masks = [others, *(labels == part for part in found)]
    shares = [to_model_grid(Ct(mask.astype(np.float32), ct.affine), target.spacing).array for mask in masks]
    best = np.argmax(shares, axis=0)
    bare = np.max(shares, axis=0) <= 0
    if bare.any() and not bare.all():
        nearest = ndimage.distance_transform_edt(
            bare, sampling=target.spacing, return_distances=False, return_indices=True
        )
        best = best[tuple(nearest)]
    values = np.array([0, *found], np.uint8)[best]
    return np.where(inside, values, 0).astype(np.uint8)


def read_parts(case: Case, ct: Ct) -> dict[Part, np.ndarray]:
    """A case's parts as bool masks (x, y, z), without empty ones; empty dict when no label map was kept.

    Raises:
        DataError: the label map is damaged, lies on another grid or has values that are no parts.
    """
    path = parts_path(case)
    if not path.is_file():
        return {}
    labels = read_labels(path, ct)
    if labels.max() > max(Part):
        raise DataError(f"{path}: value {labels.max()} is no part; accepted: 0 to {max(Part)}")
    masks = {part: region(labels, part) for part in Part}
    return {part: mask for part, mask in masks.items() if mask.any()}
