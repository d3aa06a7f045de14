"""What differs between centres: scanner, couch, mix of patients, contouring convention and how exactly they draw.

A model that is only tested on the scanner it was trained on looks better than it is. Each centre has its own kernel,
noise, slice thickness, HU offset, field of view, contrast agent and couch, its own patients and protocol; at one
centre the training contours are those of a single reader. The external centre lies mildly outside the range of the
others. Kinds and ranges of shift after reference practice (kernel 0.8-1.6 mm, slices of 2-5 mm, HU offset +-15,
field of view 500-700 mm); noise after the chest CTs of the package pyradiomics; the choice for each centre is ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from rollama.core.config import StrictModel

REFERENCE_MM3 = 12.0
"""Volume over which noise is one draw at full resolution; larger voxels average several, as on a scanner."""
COARSE_MM = 4.0
"""With thicker slices, a centre's own slice thickness differs from the configured one by a quarter at most."""


class Scanner(StrictModel):
    """A CT scanner: offset and noise in HU, blur and noise correlation as standard deviations in mm.

    `noise_hu` is at full resolution; `slice_mm` is the slice thickness there; `pixel` the pixel size relative to the
    configured one; `fov_mm` the diameter beyond which the image is cut off.
    """

    hu_offset: float = 0.0
    noise_hu: float = Field(default=12.0, ge=0)
    noise_correlation_mm: float = Field(default=0.8, ge=0)
    blur_mm: float = Field(default=1.0, ge=0)
    contrast_hu: float = Field(default=0.0, ge=0)
    contrast_share: float = Field(default=0.0, ge=0, le=1)
    couch: Literal["flat", "curved", "thick"] = "flat"
    slice_mm: float = Field(default=3.0, gt=0)
    pixel: float = Field(default=1.0, gt=0)
    fov_mm: float = Field(default=650.0, ge=400)
    metal: bool = True


class Population(StrictModel):
    """The mix of patients: mean age in years and shares between 0 and 1; `rtog` is the protocol's share."""

    age: float = 58.0
    mastectomy: float = 0.4
    reconstruction: float = 0.5
    dissection: float = 0.4
    node_positive: float = 0.5
    neoadjuvant: float = 0.2
    rtog: float = Field(default=0.0, ge=0, le=1)
    size: float = 1.0


class Centre(StrictModel):
    """One hospital. `reader_mm` > 0: its training contours are one reader's, with errors of this size in mm."""

    external: bool = False
    scanner: Scanner
    population: Population
    reader_mm: float = Field(default=0.0, ge=0, le=10)


CENTRES: dict[str, Centre] = {
    "northgate": Centre(
        scanner=Scanner(noise_hu=10.0, noise_correlation_mm=0.8, blur_mm=0.8, couch="flat", slice_mm=3.0),
        population=Population(age=60.0, mastectomy=0.30, dissection=0.38, neoadjuvant=0.15, rtog=0.0),
    ),
    "riverside": Centre(
        scanner=Scanner(
            hu_offset=6.0, noise_hu=16.0, noise_correlation_mm=1.0, blur_mm=1.1, contrast_hu=90.0, contrast_share=0.7,
            couch="flat", slice_mm=2.5, fov_mm=500.0,
        ),
        population=Population(
            age=55.0, mastectomy=0.38, reconstruction=0.6, node_positive=0.55, neoadjuvant=0.25, rtog=1.0
        ),
    ),
    "hillcrest": Centre(
        scanner=Scanner(
            hu_offset=-10.0, noise_hu=24.0, noise_correlation_mm=0.7, blur_mm=1.3, couch="thick", slice_mm=2.0,
            fov_mm=600.0,
        ),
        population=Population(age=57.0, mastectomy=0.34, dissection=0.5, rtog=0.2, size=1.02),
        reader_mm=2.5,
    ),
    "eastmoor": Centre(
        scanner=Scanner(
            hu_offset=3.0, noise_hu=18.0, noise_correlation_mm=1.2, blur_mm=1.4, couch="curved", slice_mm=5.0,
            fov_mm=550.0, metal=False,
        ),
        population=Population(age=62.0, mastectomy=0.28, reconstruction=0.4, node_positive=0.45, rtog=0.8, size=1.01),
    ),
    "lakeside": Centre(
        external=True,
        scanner=Scanner(
            hu_offset=14.0, noise_hu=28.0, noise_correlation_mm=1.3, blur_mm=1.6, contrast_hu=120.0,
            contrast_share=0.5, couch="curved", slice_mm=2.5, pixel=0.92, fov_mm=480.0,
        ),
        population=Population(
            age=54.0, mastectomy=0.38, reconstruction=0.55, dissection=0.45, node_positive=0.55, rtog=0.5, size=0.97
        ),
    ),
}  # fmt: skip
"""All centres of the cohort; those marked external are never seen in training."""


def scan_spacing(spacing: Sequence[float], scanner: Scanner) -> tuple[float, float, float]:
    """The scanner's voxel size in mm where the cohort's is `spacing`."""
    thick = scanner.slice_mm / 3.0
    if spacing[2] > COARSE_MM:
        thick = min(max(thick, 0.8), 1.25)
    return (spacing[0] * scanner.pixel, spacing[1] * scanner.pixel, spacing[2] * thick)


def apply_scanner(
    hu: np.ndarray, spacing: tuple[float, float, float], scanner: Scanner, rng: np.random.Generator
) -> np.ndarray:
    """Blur, add correlated noise, shift and cut off a noise-free CT.

    Args:
        hu: noise-free CT (x, y, z) in HU, float32; it is used up.
        spacing: voxel size in mm.
        scanner: the scanner's values; offset and noise vary a little from scan to scan.
        rng: the scan's generator.

    Returns:
        int16 (x, y, z), clipped to [-1024, 3071] HU.
    """
    level = scanner.noise_hu * rng.uniform(0.85, 1.15)
    level *= min(1.0, math.sqrt(REFERENCE_MM3 / float(np.prod(spacing))))
    offset = scanner.hu_offset + rng.uniform(-3.0, 3.0)
    image, _ = _smooth(hu, [scanner.blur_mm / step for step in spacing])
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    # Noise is correlated within a slice and independent between slices.
    noise, gain = _smooth(
        noise, [scanner.noise_correlation_mm / spacing[0], scanner.noise_correlation_mm / spacing[1], 0]
    )
    noise *= np.float32(level / gain)
    image += noise
    del noise
    image += np.float32(offset)
    _cut_off(image, spacing, scanner.fov_mm)
    np.rint(image, out=image)
    np.clip(image, -1024, 3071, out=image)
    return image.astype(np.int16)


def _smooth(values: np.ndarray, sigmas: Sequence[float]) -> tuple[np.ndarray, float]:
    """Gaussian blur by `sigmas` voxels, and the standard deviation that it leaves of white noise.

    Weights are summed here and not by NumPy, whose sums differ in the last digit between processors.
    """
    from scipy import ndimage

    gain = 1.0
    for axis, sigma in enumerate(sigmas):
        if sigma < 0.12:
            continue
        reach = max(1, math.ceil(2.5 * sigma))
        weights = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(-reach, reach + 1)]
        total = math.fsum(weights)
        weights = [weight / total for weight in weights]
        gain *= math.sqrt(math.fsum(weight * weight for weight in weights))
        values = ndimage.correlate1d(values, weights, axis=axis, mode="nearest")
    return values, gain


def _cut_off(image: np.ndarray, spacing: Sequence[float], fov_mm: float) -> None:
    """Air outside the reconstruction circle: an arm or a broad patient is truncated, as on a real scanner."""
    x, y = (
        ((np.arange(count) - (count - 1) / 2) * step).astype(np.float32)
        for count, step in zip(image.shape[:2], spacing[:2], strict=True)
    )
    image[x[:, None] * x[:, None] + y[None] * y[None] > (fov_mm / 2) ** 2] = -1000.0
