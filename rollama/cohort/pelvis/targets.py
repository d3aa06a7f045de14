"""Which parts a plan treats, as regions of the pelvis: the gland or its bed, the seminal vesicles, the pelvic nodes.

The label must follow from CT and plan and from nothing else. Each part lies between borders that can be seen.
Usual practice as in the ESTRO ACROP guideline (prostate, vesicles), the contouring guidelines for the prostate bed and
the NRG atlas of pelvic nodes (7 mm around the iliac vessels, without bone, muscle and bowel); named from knowledge of
them, not read anew. Cohort conventions: vesicles are treated whole; the nodal target starts at the iliac bifurcation's
common part and has no presacral strip; there is one CTV margin, none around the gland.
"""

from __future__ import annotations

import numpy as np

from rollama.cohort.pelvis.anatomy import Pelvis
from rollama.cohort.pelvis.facts import Extent
from rollama.cohort.sdf import ellipsoid, smooth_union

PRIMARY, VESICLES, NODES = 1, 2, 3
"""Values of the label map."""
NODE_MARGIN_MM = 7.0


def label_map(body: Pelvis, extent: Extent) -> np.ndarray:
    """The parts that a plan treats.

    Args:
        body: the pelvis' fields.
        extent: how far the target reaches. Whether the gland or its bed is meant, the body says.

    Returns:
        uint8 (x, y, z): 1 gland or bed, 2 vesicles (never after prostatectomy), 3 pelvic nodes.
    """
    labels = np.zeros((body.x.shape[0], body.y.shape[1], body.z.shape[2]), np.uint8)
    if extent is Extent.PELVIC:
        labels[nodes(body)] = NODES
    if body.shape.removed:
        labels[bed(body)] = PRIMARY
        return labels
    if extent is not Extent.PRIMARY:
        labels[body.vesicles < 0] = VESICLES
    labels[body.prostate < 0] = PRIMARY
    return labels


def bed(body: Pelvis) -> np.ndarray:
    """Where the gland and the vesicles were, from the anastomosis up behind the bladder; bool (x, y, z)."""
    low = ellipsoid(body.x, body.y - 20, body.z + 54, (25.0, 21.0, 22.0))
    behind = body.gland_back + 5
    high = ellipsoid(body.x, body.y - behind, body.z - body.gland_top - 2, (29.0, 12.0, 17.0))
    whole = smooth_union(low, high, 8.0)
    mask: np.ndarray = (whole < 0) & (body.rectum > 1) & (body.bone > 2) & (body.obturator > 0)
    return mask


def nodes(body: Pelvis) -> np.ndarray:
    """7 mm around common, external and internal iliac vessels and the obturator bundle; bool (x, y, z)."""
    mask: np.ndarray = (body.from_vessels < NODE_MARGIN_MM) & (body.bone > 0) & (body.psoas > 0)
    mask &= (body.obturator > 0) & (body.bladder > 0) & (body.rectum > 0)
    return mask
