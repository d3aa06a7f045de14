"""CT slices with contours, drawn so that a reader can trust left and right.

An array says nothing about the patient: plotted as it lies in memory, a CT may be mirrored, upside down or squeezed.
Here every picture goes through the affine: voxels are brought to RAS order, drawn in millimetres (equal aspect) and
shown in the radiological convention (patient right at the left edge), with letters at the edges saying so.

Only `matplotlib.figure.Figure` with the Agg canvas is used: no window, no pyplot state shared between threads.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from nibabel import orientations

from rollama import RESEARCH_ONLY
from rollama.core.errors import DataError

if TYPE_CHECKING:
    from rollama.data.volumes import Volume

WINDOW = (40.0, 400.0)
"""CT window (level, width) in HU: soft tissue."""
LineStyle = Literal["solid", "dashed", "dotted", "dashdot"]
STYLES: Final[tuple[tuple[str, LineStyle], ...]] = (
    ("#22c55e", "solid"),
    ("#ff9500", "dashed"),
    ("#38bdf8", "dotted"),
    ("#f472b6", "dashdot"),
)
"""Colour and line style of the first, second, ... mask: told apart without colour too."""
_PLANES = (("Axial", 2, 0, 1, "RLAP"), ("Coronal", 1, 0, 2, "RLSI"), ("Sagittal", 0, 1, 2, "APSI"))
"""Name, normal axis, horizontal axis, vertical axis (RAS), letters at the left, right, top and bottom edge."""


def to_ras(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flip and permute axes so that they run as near as possible to patient right, anterior, superior.

    Args:
        array: (x, y, z) in any axis order.
        affine: 4x4, voxel index -> patient mm (RAS+, as nibabel).

    Returns:
        The array in RAS order (a view where possible) and its 4x4 affine. No voxel value changes.
    """
    nibabel: Any = orientations  # these functions carry no types
    order = nibabel.io_orientation(affine)
    return np.asarray(nibabel.apply_orientation(array, order)), np.asarray(
        affine @ nibabel.inv_ornt_aff(order, array.shape)
    )


def draw_planes(
    volume: Volume, masks: Mapping[str, np.ndarray], title: str = "", window: tuple[float, float] = WINDOW
) -> Figure:
    """Draw an axial, a coronal and a sagittal slice with the contours of `masks`.

    Args:
        volume: CT in HU, (x, y, z), with its 4x4 affine (voxel -> patient mm, RAS+).
        masks: label -> mask on the CT's grid; drawn in order, the first solid green, the second dashed orange.
            Each slice is the one where the first mask that is not empty has its largest area (the middle when all
            are empty).
        title: printed above; it must carry no clinical text.
        window: level and width in HU.

    Raises:
        DataError: a mask has another shape than the CT, or there are more masks than line styles.
    """
    if len(masks) > len(STYLES):
        raise DataError(f"drawing: found {len(masks)} masks, at most {len(STYLES)} can be told apart")
    for label, mask in masks.items():
        if mask.shape != volume.array.shape:
            raise DataError(f"drawing: mask {label!r} has shape {mask.shape}, the CT {volume.array.shape}")
    image, affine = to_ras(volume.array, volume.affine)
    layers = {label: to_ras(mask != 0, volume.affine)[0] for label, mask in masks.items()}
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    lead = next((mask for mask in layers.values() if mask.any()), None)

    size = np.asarray(image.shape) * spacing
    ratios = [float(size[across] / size[up]) for _, _, across, up, _ in _PLANES]
    height = 11.0 / max(sum(ratios), 2.5)
    figure = Figure(figsize=(11.0, height + 1.15), facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        1, 3, width_ratios=ratios, left=0.01, right=0.99, wspace=0.03,
        bottom=0.62 / (height + 1.15), top=1 - 0.53 / (height + 1.15),
    )  # fmt: skip
    for column, (name, normal, across, up, letters) in enumerate(_PLANES):
        index = _best_slice(lead, normal, image.shape)
        centre = affine @ np.array([*np.where(np.arange(3) == normal, index, (np.array(image.shape) - 1) / 2), 1.0])
        axes = figure.add_subplot(grid[0, column])
        _draw_plane(axes, image, layers, (normal, across, up), index, spacing, window)
        axes.set_title(f"{name}, {'xyz'[normal]} = {centre[normal]:.0f} mm", fontsize=9)
        _letters(axes, letters)
    handles = [
        Line2D(
            [],
            [],
            color=colour,
            linestyle=style,
            linewidth=2,
            label=label if layers[label].any() else f"{label} (empty)",
        )
        for label, (colour, style) in zip(layers, STYLES, strict=False)
    ]
    if handles:
        figure.legend(
            handles=handles,
            loc="lower center",
            bbox_to_anchor=(0.5, 0.05),
            ncols=len(handles),
            frameon=False,
            fontsize=9,
        )
    if title:
        figure.suptitle(title, fontsize=10, fontweight="bold", y=0.985)
    note = f"{RESEARCH_ONLY}. Radiological view; CT window {window[0]:g}/{window[1]:g} HU; bar 5 cm."
    figure.text(0.5, 0.012, note, ha="center", va="bottom", fontsize=7, color="#444444")
    return figure


class Panel(NamedTuple):
    """A column of `draw_panels`: title, masks by label as in `draw_planes`, and the mask whose largest slice is cut."""

    title: str
    masks: Mapping[str, np.ndarray]
    where: np.ndarray


def draw_panels(volume: Volume, panels: Sequence[Panel], title: str) -> Figure:
    """One CT under several masks: a column a panel, an axial slice above and a coronal one below.

    Args:
        volume: CT in HU.
        panels: at least one; all with the same labels. Shapes as in `draw_planes`.
        title: printed above; it must carry no clinical text.
    """
    image, affine = to_ras(volume.array, volume.affine)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    size = np.asarray(image.shape) * spacing
    planes = _PLANES[:2]
    heights = [float(size[up] / size[across]) for _, _, across, up, _ in planes]
    wide = 2.6
    figure = Figure(figsize=(wide * len(panels), wide * sum(heights) + 1.2), facecolor="white")
    FigureCanvasAgg(figure)
    tall = figure.get_figheight()
    grid = figure.add_gridspec(
        2, len(panels), height_ratios=heights, left=0.005, right=0.995, wspace=0.03, hspace=0.04,
        bottom=0.55 / tall, top=1 - 0.62 / tall,
    )  # fmt: skip
    for column, panel in enumerate(panels):
        layers = {label: to_ras(mask != 0, volume.affine)[0] for label, mask in panel.masks.items()}
        where = to_ras(panel.where != 0, volume.affine)[0]
        for row, (_, normal, across, up, letters) in enumerate(planes):
            index = _best_slice(where if where.any() else None, normal, image.shape)
            axes = figure.add_subplot(grid[row, column])
            _draw_plane(axes, image, layers, (normal, across, up), index, spacing, WINDOW)
            _letters(axes, letters)
            if row == 0:
                axes.set_title(panel.title, fontsize=8)
    handles = [
        Line2D([], [], color=colour, linestyle=style, linewidth=2, label=label)
        for label, (colour, style) in zip(panels[0].masks, STYLES, strict=False)
    ]
    figure.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 0.22 / tall), ncols=len(handles),
                  frameon=False, fontsize=9)  # fmt: skip
    figure.suptitle(title, fontsize=10, fontweight="bold", y=1 - 0.08 / tall)
    note = f"{RESEARCH_ONLY}. Radiological view; CT window {WINDOW[0]:g}/{WINDOW[1]:g} HU; bar 5 cm."
    figure.text(0.5, 0.05 / tall, note, ha="center", va="bottom", fontsize=7, color="#444444")
    return figure


def figure_png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as PNG bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi)
    return stream.getvalue()


def _best_slice(mask: np.ndarray | None, normal: int, shape: tuple[int, ...]) -> int:
    if mask is None:
        return shape[normal] // 2
    others = tuple(axis for axis in range(3) if axis != normal)
    return int(mask.sum(axis=others).argmax())


def _draw_plane(
    axes: Any,
    image: np.ndarray,
    layers: Mapping[str, np.ndarray],
    plane: tuple[int, int, int],
    index: int,
    spacing: np.ndarray,
    window: tuple[float, float],
) -> None:
    normal, across, up = plane
    width, height = image.shape[across] * spacing[across], image.shape[up] * spacing[up]

    def view(array: np.ndarray) -> np.ndarray:
        flat: np.ndarray = np.take(array, index, axis=normal)  # remaining axes: (across, up)
        return np.asarray(flat.T[:, ::-1])  # rows up, columns from +: patient right (or anterior) at the left edge

    level, span = window
    axes.imshow(
        view(image), cmap="gray", vmin=level - span / 2, vmax=level + span / 2,
        origin="lower", extent=(0, width, 0, height), aspect="equal", interpolation="bilinear",
    )  # fmt: skip
    for mask, (colour, style) in zip(layers.values(), STYLES, strict=False):
        outline = np.pad(view(mask).astype(float), 1)  # a mask that touches the border still closes
        if outline.any():
            x = (np.arange(outline.shape[1]) - 0.5) * spacing[across]
            y = (np.arange(outline.shape[0]) - 0.5) * spacing[up]
            axes.contour(x, y, outline, levels=[0.5], colors=[colour], linestyles=[style], linewidths=1.6)
    axes.plot([width - 10 - 50, width - 10], [6, 6], color="white", linewidth=2, solid_capstyle="butt")
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.set_xticks([])
    axes.set_yticks([])


def _letters(axes: Any, letters: str) -> None:
    places = (
        (0.02, 0.5, "left", "center"),
        (0.98, 0.5, "right", "center"),
        (0.5, 0.98, "center", "top"),
        (0.5, 0.02, "center", "bottom"),
    )
    for letter, (x, y, horizontal, vertical) in zip(letters, places, strict=True):
        axes.text(
            x, y, letter, transform=axes.transAxes, ha=horizontal, va=vertical, color="white", fontsize=11,
            fontweight="bold", path_effects=[withStroke(linewidth=2, foreground="black")],
        )  # fmt: skip
