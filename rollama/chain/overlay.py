"""The picture a reader looks at first: CT planes with the predicted outline, labelled as research."""

from __future__ import annotations

from pathlib import Path

from rollama.chain.run import ChainResult
from rollama.core.files import new_file
from rollama.data.volumes import Volume

TITLE = "RESEARCH USE ONLY - predicted target"


def write_overlay(path: Path, result: ChainResult, volume: Volume) -> None:
    """Draw the mask on axial, coronal and sagittal planes and write a PNG. No clinical text enters the picture.

    Raises:
        DataError: the file cannot be written.
    """
    from rollama.data.slices import draw_planes, figure_png  # matplotlib takes half a second to import

    size = f"{float(result.mask.sum()) * volume.voxel_cc:.1f} cc"
    plan = f"plan: {result.plan.side}" if result.plan else "plan does not parse"
    picture = figure_png(draw_planes(volume, {"predicted target": result.mask}, f"{TITLE}, {size} ({plan})"))
    with new_file(path) as temporary:
        temporary.write_bytes(picture)
