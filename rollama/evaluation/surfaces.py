"""How far apart the surfaces of two masks are: HD95 in both usual definitions, surface Dice, added path length.

Tools disagree on "HD95" because there are two: the larger of the two directed 95th percentiles (MONAI, DeepMind), and
the 95th percentile of both directions' distances together (medpy, SimpleITK users). The first is never smaller for
surfaces of like size, and a report that does not say which it is cannot be compared. Both are given here.

Two kinds of surface are in use as well: the voxels of a mask with a face neighbour outside it (HD95 here, as in MONAI
and medpy), and surface elements with an area between voxels (surface Dice here, as in DeepMind's surface-distance; the
computation is MONAI's). Distances are between centres of voxels or elements, in mm.

Added path length (Vaassen 2020, Phys Imaging Radiat Oncol 13) is what an editor would have to draw: the reference's
contour in axial slices where the prediction's contour does not run. Source of the surface Dice: Nikolov 2021, J Med
Internet Res 23(7) e26151.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

TOLERANCES_MM = (2, 3, 5)
SURFACE_DICE = tuple(f"surface_dice_{mm}mm" for mm in TOLERANCES_MM)
METRICS = ("hd95_mm", "hd95_pooled_mm", *SURFACE_DICE, "added_path_mm")


def surface_metrics(
    reference: np.ndarray, predicted: np.ndarray, spacing: Sequence[float], axial: int = 2
) -> dict[str, float]:
    """All of `METRICS`.

    Args:
        reference, predicted: masks of one shape (x, y, z).
        spacing: voxel size in mm along each array axis.
        axial: the array axis that runs along the patient.

    Returns:
        Both empty: NaN. One of the two empty: both HD95 are the image's diagonal, surface Dice is 0; the added path is
        the whole contour of a missed reference and NaN for an empty one.
    """
    a, b = reference.astype(bool), predicted.astype(bool)
    found = dict.fromkeys(METRICS, math.nan)
    found["added_path_mm"] = added_path_length(a, b, spacing, axial)
    if not (a | b).any():
        return found
    if not a.any() or not b.any():
        diagonal = float(np.linalg.norm(np.asarray(a.shape) * np.asarray(spacing)))
        return {**found, "hd95_mm": diagonal, "hd95_pooled_mm": diagonal, **dict.fromkeys(SURFACE_DICE, 0.0)}
    a, b = crop(a, b)
    found["hd95_mm"], found["hd95_pooled_mm"] = hausdorff(a, b, spacing)
    return {**found, **dict(zip(SURFACE_DICE, surface_dice(a, b, spacing), strict=True))}


def crop(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both masks within the box around their union, with one empty voxel around: all distances stay the same."""
    from scipy import ndimage

    box = ndimage.find_objects((a | b).astype(np.int8))[0]
    return np.pad(a[box], 1), np.pad(b[box], 1)


def hausdorff(a: np.ndarray, b: np.ndarray, spacing: Sequence[float], percentile: float = 95.0) -> tuple[float, float]:
    """Hausdorff distance of two masks, neither of them empty, at a percentile: (larger direction, pooled) in mm."""
    from scipy import ndimage

    edges: list[Any] = [mask & ~ndimage.binary_erosion(mask) for mask in (a, b)]
    ways = _ways(edges, spacing)
    directed = max(float(np.percentile(way, percentile)) for way in ways)
    return directed, float(np.percentile(np.concatenate(ways), percentile))


def _ways(edges: Sequence[Any], spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Distances in mm of each element of one surface to the other surface, both ways."""
    from scipy import ndimage

    to_a, to_b = (ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges)
    return to_b[edges[0]], to_a[edges[1]]


def surface_dice(a: np.ndarray, b: np.ndarray, spacing: Sequence[float]) -> tuple[float, ...]:
    """Share of both surfaces' area that lies within 2, 3, 5 mm of the other's; neither mask may be empty."""
    import torch

    from rollama.data.monai_parts import get_mask_edges

    masks = [torch.from_numpy(np.ascontiguousarray(mask)) for mask in (a, b)]
    found: Any = get_mask_edges(masks[0], masks[1], crop=False, spacing=tuple(spacing))
    edges, areas = [part.numpy().astype(bool) for part in found[:2]], [part.numpy() for part in found[2:]]
    distance = np.concatenate(_ways(edges, spacing))
    area = np.concatenate([areas[0][edges[0]], areas[1][edges[1]]])
    return tuple(float(area[distance <= mm].sum() / area.sum()) for mm in TOLERANCES_MM)


def added_path_length(reference: np.ndarray, predicted: np.ndarray, spacing: Sequence[float], axial: int = 2) -> float:
    """Length in mm of the reference's axial contours that the prediction's do not share; NaN for an empty reference.

    A contour is the pixels of a slice's mask with a neighbour in the slice outside it; each counts as long as the
    geometric mean of the two pixel sizes.
    """
    if not reference.any():
        return math.nan
    missing = _contours(reference, axial) & ~_contours(predicted, axial)
    pixel = math.sqrt(math.prod(size for axis, size in enumerate(spacing) if axis != axial))
    return float(np.count_nonzero(missing)) * pixel


def _contours(mask: np.ndarray, axial: int) -> np.ndarray:
    from scipy import ndimage

    within = np.moveaxis(ndimage.generate_binary_structure(2, 1)[:, :, None], 2, axial)
    result: np.ndarray = mask.astype(bool) & ~ndimage.binary_erosion(mask, within)
    return result
