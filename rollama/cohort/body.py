"""One patient's body as numbers: what is drawn at random before anything is built.

All lengths are those of a reference woman (mm, RAS+, z = 0 a little above the nipples); `scale` stretches her to the
patient. The reference was set so that the mean patient has the figures of a real breast radiotherapy CT: lungs about
2.0 l, heart 440 cc, breast 400 cc, body 474 x 310 mm.

The two breasts of a woman differ a little at random, never by the side that is treated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from rollama.cohort.facts import Mound, Site, Visible
from rollama.core.errors import DataError
from rollama.data.plan import Side

SIGN = {Side.RIGHT: 1.0, Side.LEFT: -1.0}
"""Sign of x of a side in RAS+."""

QUADRANTS = {
    Site.UPPER_OUTER: (22.0, 20.0),
    Site.LOWER_OUTER: (20.0, -22.0),
    Site.UPPER_INNER: (-22.0, 20.0),
    Site.LOWER_INNER: (-22.0, -20.0),
    Site.CENTRAL: (2.0, 0.0),
}
"""Place of a tumour bed from the middle of the breast: outwards and upwards, in mm."""


@dataclass(frozen=True)
class Breast:
    """One breast: base centre (u from the midline, z), radii of the base, projection, droop and lean (shear)."""

    u: float
    z: float
    width: float
    height: float
    projection: float
    droop: float
    lean: float


@dataclass(frozen=True)
class Bed:
    """Where a tumour was: u, distance before the breast's base, z, and radius of a fluid-filled cavity, in mm."""

    u: float
    out: float
    z: float
    radius: float


@dataclass(frozen=True)
class Shape:
    """A patient's body; `seed` names the random texture that belongs to it."""

    seed: int
    origin: tuple[float, float, float]
    scale: tuple[float, float, float]
    fat: float
    arms: float
    pectoral: float
    sternum: float
    clavicle: float
    breasts: Mapping[Side, Breast]
    visible: Visible
    density: float
    heart: float
    dome: float
    scar: float
    beds: Mapping[Side, Mapping[Site, Bed]]

    @property
    def mm(self) -> float:
        """Mean scale: reference mm -> patient mm."""
        return float(np.cbrt(np.prod(self.scale)))


def draw_shape(rng: np.random.Generator, visible: Visible, size: float = 1.0) -> Shape:
    """Draw a patient's body.

    Args:
        rng: the body's generator; `visible` changes no draw.
        visible: what surgery left to be seen.
        size: mean size of the centre's patients (1 = average).
    """
    build = size * float(np.clip(rng.normal(1.0, 0.045), 0.9, 1.12))
    girth = float(np.clip(rng.normal(1.0, 0.03), 0.93, 1.07))
    tall = float(np.clip(rng.normal(1.0, 0.03), 0.93, 1.07))
    fat = float(np.clip(rng.normal(22, 6), 9, 40)) * (0.4 + 0.6 * build**3)
    volume = np.clip(1.0 + rng.normal(0, 0.28) + 0.018 * (fat - 22), 0.45, 1.9)  # large breasts go with fat
    width, height = 61 * volume**0.3 * rng.normal(1, 0.04), 61 * volume**0.3 * rng.normal(1, 0.04)
    projection = np.clip(46 * volume**0.4 * rng.normal(1, 0.1), 26, 68)
    u, z, droop, lean = rng.normal(78, 3), rng.normal(-38, 6), abs(rng.normal(0.12, 0.12)), abs(rng.normal(0.2, 0.1))
    breasts = {}
    for side in Side:
        own = rng.normal(1.0, 0.035, 3)  # no two breasts are alike
        breasts[side] = Breast(
            u=float(u + rng.normal(0, 1.5)),
            z=float(z + rng.normal(0, 2.5)),
            width=float(width * own[0]),
            height=float(height * own[1]),
            projection=float(projection * own[2]),
            droop=float(droop + rng.normal(0, 0.03)),
            lean=float(lean + rng.normal(0, 0.03)),
        )
    beds = {side: {site: _bed(rng, breasts[side], site) for site in Site} for side in Side}
    return Shape(
        seed=int(rng.integers(2**62)),
        origin=(float(rng.normal(0, 5)), float(rng.normal(-6, 5)), float(rng.normal(0, 6))),
        scale=(build * girth, build / girth, tall),
        fat=fat,
        arms=float(rng.uniform(-12, 12)),
        pectoral=float(np.clip(rng.normal(10, 1.5), 7, 14)),
        sternum=float(rng.normal(16, 1.2)),
        clavicle=float(rng.normal(70, 2)),
        breasts=breasts,
        visible=visible,
        density=float(np.clip(rng.beta(2.2, 2.6), 0.08, 0.92)),
        heart=float(np.clip(rng.normal(1.0, 0.05), 0.88, 1.12)),
        dome=float(rng.normal(0, 7)),
        scar=float(rng.normal(0, 8)),
        beds=beds,
    )


def seen_as(shape: Shape, visible: Visible) -> Shape:
    """The same body after other surgery."""
    return replace(shape, visible=visible)


def check_shape(shape: Shape) -> None:
    """Refuse a body that cannot be: organs that do not fit, breasts beyond the midline, negative thickness.

    Raises:
        DataError: names the first quantity that is out of its range, what was found and what is accepted.
    """
    limits: dict[str, tuple[float, float, float]] = {
        "fat (mm)": (shape.fat, 3, 60),
        "pectoral (mm)": (shape.pectoral, 3, 20),
        "sternum (half width, mm)": (shape.sternum, 8, 30),
        "clavicle (z, mm)": (shape.clavicle, 55, 85),
        "density": (shape.density, 0, 1),
        "heart (scale)": (shape.heart, 0.7, 1.3),
        "dome (mm)": (shape.dome, -40, 40),
    }
    limits |= {f"scale along {axis}": (v, 0.7, 1.4) for axis, v in zip("xyz", shape.scale, strict=True)}
    for side, breast in shape.breasts.items():
        limits |= {
            f"{side} breast, u - width (mm from the midline)": (breast.u - breast.width, -15, 60),
            f"{side} breast, height (mm)": (breast.height, 25, 110),
            f"{side} breast, projection (mm)": (breast.projection, 15, 110),
            f"{side} breast, z (mm)": (breast.z, -80, 10),
        }
    for name, (value, low, high) in limits.items():
        if not low <= value <= high:
            raise DataError(f"impossible geometry: {name} is {value:g}; accepted: {low:g} to {high:g}")
    for side in Side:
        if shape.visible.mounds[side] is not Mound.NATURAL and shape.visible.seroma[side] is not None:
            raise DataError(f"impossible geometry: seroma in the {side} breast, which was removed")


def _bed(rng: np.random.Generator, breast: Breast, site: Site) -> Bed:
    outwards, upwards = QUADRANTS[site]
    reach = breast.projection * rng.uniform(0.35, 0.6)
    return Bed(
        u=float(breast.u + outwards * breast.width / 66 + rng.normal(0, 3)),
        out=float(reach),
        z=float(breast.z + upwards * breast.height / 66 + rng.normal(0, 3)),
        radius=float(rng.uniform(9, 14)),
    )
