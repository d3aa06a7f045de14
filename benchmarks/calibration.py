"""Does the phantom have the figures of real CTs? python -m benchmarks.calibration [--patients 30]

Shape: means over patients beside those of a real breast radiotherapy CT (lungs 2024 cc, heart 440 cc, breast 400 cc,
body 474 x 310 mm; figures of one patient). Grey values and noise: the same measurement on the two chest CTs of the
package pyradiomics (`make test-realdata` fetches them) and on one full-resolution case of each centre.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from rollama.cohort.anatomy import Grid, landmarks
from rollama.cohort.body import SIGN, draw_shape
from rollama.cohort.config import CohortConfig
from rollama.cohort.facts import Mound, Visible
from rollama.cohort.make import make_volumes
from rollama.cohort.organs import HEART_MM, paint_ct
from rollama.cohort.patients import draw_patient
from rollama.cohort.shifts import CENTRES
from rollama.core.cache import cache_folder
from rollama.core.seeding import numpy_generator
from rollama.data.case import Split
from rollama.data.plan import Side
from rollama.data.volumes import read_ct

PLAIN = Visible(dict.fromkeys(Side, Mound.NATURAL), dict.fromkeys(Side, None), dict.fromkeys(Side, None))
REAL = {"lungs (cc)": 2024.0, "heart (cc)": 440.0, "breast (cc)": 400.0, "width (mm)": 474.0, "depth (mm)": 310.0}


def shapes(patients: int) -> dict[str, np.ndarray]:
    """The five figures for each of some patients with both breasts."""
    grid, found = Grid((125, 100, 58), (4.0, 4.0, 5.0)), []
    cc = float(np.prod(grid.spacing)) / 1000
    for number in range(patients):
        shape = draw_shape(numpy_generator("calibration", number), PLAIN)
        body = landmarks(shape, grid)
        hu = paint_ct(body, CENTRES["northgate"].scanner)
        inside = body.skin > 0
        breasts = [
            (
                (body.breast[side] < 0)
                & inside
                & (body.cage > shape.pectoral + 1)
                & (body.y > 0)
                & (SIGN[side] * body.x > 0)
            )
            for side in Side
        ]
        extent = [np.ptp(np.flatnonzero(inside.any(axis))) + 1 for axis in ((1, 2), (0, 2))]
        found.append(
            [
                ((body.cage < -9) & (hu < -500)).sum() * cc,
                4 / 3 * np.pi * np.prod(HEART_MM) / 1000 * shape.heart**3 * np.prod(shape.scale),
                np.mean([mask.sum() for mask in breasts]) * cc,
                extent[0] * grid.spacing[0],
                extent[1] * grid.spacing[1],
            ]
        )
    return dict(zip(REAL, np.array(found).T, strict=True))


def grey_values(array: np.ndarray, pixel_mm: float) -> dict[str, float]:
    """Mean HU of lung, fat and muscle, their noise (10th percentile of local SD in 9x9 pixels), and how far it reaches.

    Args:
        array: CT (x, y, z) in HU.
        pixel_mm: in-plane voxel size.
    """
    mean = ndimage.uniform_filter(array, (9, 9, 1))
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(array * array, (9, 9, 1)) - mean * mean, 0))
    body = ndimage.binary_opening(array > -300)
    body = np.stack([ndimage.binary_fill_holes(body[:, :, k]) for k in range(array.shape[2])], axis=-1)
    found: dict[str, float] = {}
    for name, low, high in (("lung", -930, -700), ("fat", -130, -80), ("muscle", 20, 80)):
        quiet = (mean > low) & (mean < high) & body
        level = np.percentile(spread[quiet], 10)
        calm = quiet & (spread <= np.percentile(spread[quiet], 25))
        found[f"{name} HU"] = float(array[calm].mean())
        found[f"{name} noise HU"] = float(level)
    calm = (mean > 20) & (mean < 80) & body & (spread <= np.percentile(spread[(mean > 20) & (mean < 80) & body], 20))
    calm[-3:] = calm[:, :, -1:] = False
    rest = array - mean
    points = np.argwhere(calm)[:: max(1, int(calm.sum()) // 20000)]
    here = rest[tuple(points.T)]

    def lag(step: tuple[int, int, int]) -> float:
        return float((here * rest[tuple((points + step).T)]).mean() / (here * here).mean())

    found["correlation, next pixel"] = lag((1, 0, 0))
    found["correlation, 2 pixels on"] = lag((2, 0, 0))
    found["correlation, next slice"] = lag((0, 0, 1))
    found["pixel mm"] = pixel_mm
    return found


def scans() -> Iterator[tuple[str, dict[str, float]]]:
    """Grey values of the real CTs, then of one case of each centre."""
    for name in ("lung1_image.nrrd", "lung2_image.nrrd"):
        volume = read_ct(cache_folder() / "realdata" / name)
        yield f"real: {name.split('_')[0]}", grey_values(volume.array, volume.spacing[0])
    config = CohortConfig(size="full")
    for centre, profile in CENTRES.items():
        split = Split.EXTERNAL if profile.external else Split.TRAIN
        volumes = make_volumes(config, centre, draw_patient(config, centre, split, 0), split)
        yield centre, grey_values(volumes.ct[:, :, ::2].astype(np.float32), volumes.grid.spacing[0])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=30)
    given = parser.parse_args()
    print("| figure | real patient | phantom, mean (sd) |\n|---|---|---|")
    for name, values in shapes(given.patients).items():
        print(f"| {name} | {REAL[name]:.0f} | {values.mean():.0f} ({values.std():.0f}) |")
    print()
    rows = dict(scans())
    keys = list(next(iter(rows.values())))
    print("| scan | " + " | ".join(keys) + " |\n|---|" + "---|" * len(keys))
    for name, found in rows.items():
        print(
            f"| {name} | "
            + " | ".join(f"{found[key]:.2f}" if abs(found[key]) < 2 else f"{found[key]:.0f}" for key in keys)
            + " |"
        )


if __name__ == "__main__":
    main()
