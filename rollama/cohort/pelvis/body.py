"""One man's pelvis as numbers: what is drawn at random before anything is built.

The second site shall show that nothing outside the generator is tied to the breast, so it needs a body that is as
different as can be and still looks like a planning CT: a closed ring of bone, organs that fill and empty, vessels that
carry the nodal target. All lengths are those of a reference man (mm, RAS+, z = 0 a little above the femoral heads);
`scale` stretches him to the patient.

Nothing here depends on the plan. Surgery changes one thing only: `removed` takes the prostate and the vesicles away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shape:
    """A man's pelvis; `seed` names the random texture that belongs to it.

    `prostate` is the gland's mean radius in mm (19.3 to 24.3: 30 to 60 cc), `filling` how full the bladder is (0 to 1),
    `rectum` its radius in mm, `gas` the share of gas in it (0 to 1), `fat` the fat under the skin in mm.
    """

    seed: int
    origin: tuple[float, float, float]
    scale: tuple[float, float, float]
    fat: float
    prostate: float
    filling: float
    rectum: float
    gas: float
    vesicles: float
    calcified: bool
    removed: bool

    @property
    def mm(self) -> float:
        """Mean scale: reference mm -> patient mm."""
        return float(np.cbrt(np.prod(self.scale)))


def draw_shape(rng: np.random.Generator, removed: bool, size: float = 1.0) -> Shape:
    """Draw a man's pelvis.

    Args:
        rng: the body's generator.
        removed: after prostatectomy; changes no draw.
        size: mean size of the centre's patients (1 = average).
    """
    build = size * float(np.clip(rng.normal(1.0, 0.03), 0.94, 1.07))
    girth = float(np.clip(rng.normal(1.0, 0.02), 0.95, 1.05))
    return Shape(
        seed=int(rng.integers(2**62)),
        origin=(float(rng.normal(0, 3)), float(rng.normal(-2, 3)), float(rng.normal(0, 5))),
        scale=(build * girth, build / girth, float(np.clip(rng.normal(1.0, 0.02), 0.95, 1.05))),
        fat=float(np.clip(rng.normal(22, 6), 14, 36)),
        prostate=float(rng.uniform(19.3, 24.3)),
        filling=float(rng.uniform(0.0, 1.0)),
        rectum=float(rng.uniform(12.0, 17.0)),
        gas=float(rng.uniform(0.0, 1.0)),
        vesicles=float(rng.uniform(0.9, 1.1)),
        calcified=bool(rng.random() < 0.4),
        removed=removed,
    )
