"""What differs between centres: scanner, couch and the mix of patients.

A model that is only tested on the scanner it was trained on looks better than it is. Each centre has its own HU
offset, noise, blur, contrast agent and couch; the external centre lies mildly outside the range of the training
centres and has another voxel size. Kinds of shift after reference practice (kernel blur, correlated noise, HU
offset, couch shape, contrast); the numbers are this cohort's own.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from rollama.core.config import StrictModel


class Scanner(StrictModel):
    """A CT scanner: offsets and noise in HU, blur and noise correlation as standard deviations in mm."""

    hu_offset: float = 0.0
    noise_hu: float = Field(default=20.0, ge=0)
    noise_correlation_mm: float = Field(default=3.0, ge=0)
    blur_mm: float = Field(default=2.5, ge=0)
    contrast_hu: float = Field(default=0.0, ge=0)
    couch: Literal["flat", "curved", "thick"] = "flat"
    spacing: tuple[float, float, float] | None = None


class Population(StrictModel):
    """The mix of patients: mean age in years and shares between 0 and 1."""

    age: float = 58.0
    mastectomy: float = 0.4
    reconstruction: float = 0.5
    dissection: float = 0.4
    node_positive: float = 0.5
    neoadjuvant: float = 0.2
    size: float = 1.0


class Centre(StrictModel):
    """One hospital."""

    external: bool = False
    scanner: Scanner
    population: Population


CENTRES: dict[str, Centre] = {
    "northgate": Centre(
        scanner=Scanner(hu_offset=0.0, noise_hu=16.0, noise_correlation_mm=3.0, blur_mm=2.2, couch="flat"),
        population=Population(age=60.0, mastectomy=0.36, dissection=0.38, neoadjuvant=0.15),
    ),
    "riverside": Centre(
        scanner=Scanner(
            hu_offset=6.0, noise_hu=24.0, noise_correlation_mm=4.0, blur_mm=2.8, contrast_hu=60.0, couch="flat"
        ),
        population=Population(age=55.0, mastectomy=0.45, reconstruction=0.6, node_positive=0.55, neoadjuvant=0.25),
    ),
    "hillcrest": Centre(
        scanner=Scanner(hu_offset=-10.0, noise_hu=30.0, noise_correlation_mm=2.5, blur_mm=3.2, couch="thick"),
        population=Population(age=57.0, mastectomy=0.40, dissection=0.5, size=1.04),
    ),
    "lakeside": Centre(
        external=True,
        scanner=Scanner(
            hu_offset=14.0,
            noise_hu=32.0,
            noise_correlation_mm=4.5,
            blur_mm=3.5,
            contrast_hu=90.0,
            couch="curved",
            spacing=(5.5, 5.5, 5.0),
        ),
        population=Population(age=54.0, mastectomy=0.48, reconstruction=0.45, dissection=0.45, size=0.97),
    ),
}
"""All centres of the cohort; those marked external are never seen in training."""


def apply_scanner(
    hu: np.ndarray, spacing: tuple[float, float, float], scanner: Scanner, rng: np.random.Generator
) -> np.ndarray:
    """Blur, add correlated noise and shift a noise-free CT.

    Args:
        hu: noise-free CT (x, y, z) in HU.
        spacing: voxel size in mm.
        scanner: the scanner's values; offset and noise vary a little from scan to scan.
        rng: the case's generator for the scan.

    Returns:
        int16 (x, y, z), clipped to [-1024, 3071] HU.
    """
    from scipy import ndimage

    voxel = np.asarray(spacing)
    image = ndimage.gaussian_filter(hu, scanner.blur_mm / voxel, truncate=2.5)
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, scanner.noise_correlation_mm / voxel, truncate=2.5)
    noise *= scanner.noise_hu * rng.uniform(0.85, 1.15) / max(float(noise.std()), 1e-6)
    image = image + noise + scanner.hu_offset + rng.uniform(-3.0, 3.0)
    result: np.ndarray = np.clip(np.rint(image), -1024, 3071).astype(np.int16)
    return result
