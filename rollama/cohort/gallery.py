"""A page of pictures to judge the cohort by: every target on three planes, every centre's look, twins side by side.

Numbers do not say whether a phantom looks like a patient. These pictures are drawn by the generator itself at a finer
grid than most cohorts have, always of the same patients, so that a change of the anatomy can be seen. Radiological
convention: the patient's right is at the left edge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rollama import RESEARCH_ONLY
from rollama.cohort.anatomy import landmarks
from rollama.cohort.config import VARIANTS, CohortConfig
from rollama.cohort.make import body_of, make_volumes
from rollama.cohort.patients import Patient, draw_patient
from rollama.cohort.scan import grid_of
from rollama.cohort.sdf import Grid
from rollama.cohort.shifts import CENTRES
from rollama.cohort.targets import part_mask
from rollama.core.files import new_file, write_text
from rollama.data.case import Split
from rollama.data.export import export_folder
from rollama.data.parts import Part, region
from rollama.data.plan import Guideline, Side

FINE = CohortConfig(size="s", grid=(320, 256, 96), spacing=(1.5625, 1.5625, 3.0))
COLOURS = {
    Part.BREAST: "#22c55e", Part.CHEST_WALL: "#f59e0b", Part.L1: "#ef4444", Part.L2: "#38bdf8", Part.L3: "#a78bfa",
    Part.L4: "#f472b6", Part.INTERPECTORAL: "#facc15", Part.IMN: "#fb923c", Part.BOOST: "#ffffff",
}  # fmt: skip
WINDOW = (-160.0, 240.0)
LEVELS_MM = (78.0, 50.0, 24.0, -8.0, -40.0)
"""Heights of the axial slices that show a centre, in the reference woman's mm."""
NOTE = f"SYNTHETIC. {RESEARCH_ONLY}"

Masks = Mapping[Part, np.ndarray]


def write_gallery(out: Path, progress: Callable[[int, int], None] | None = None) -> Path:
    """Draw all pictures and a page that shows them; returns the page.

    Args:
        out: a new folder.
        progress: called with (pictures done, pictures in all).

    Raises:
        DataError: the folder holds something, or cannot be written.
    """
    with export_folder(out) as folder:
        for done, (name, _, draw) in enumerate(PICTURES, 1):
            save(draw(), folder / f"{name}.jpg")
            if progress is not None:
                progress(done, len(PICTURES))
        figures = "\n".join(
            f'<h2>{title}</h2>\n<img src="{name}.jpg" alt="{title}" loading="lazy">' for name, title, _ in PICTURES
        )
        write_text(
            folder / "index.html",
            '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>rollama cohort</title>\n'
            "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:1500px;margin:2rem auto;padding:0 1rem}"
            "img{max-width:100%}</style>\n"
            f"<h1>The synthetic cohort in pictures</h1>\n<p><strong>{NOTE}</strong> Patient right is at the left "
            f"edge of axial and coronal slices.</p>\n{figures}\n</html>\n",
        )
    return out / "index.html"


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a JPEG: a tenth of a PNG's size for pictures that are mostly noise."""
    with new_file(path) as temporary:
        figure.savefig(temporary, format="jpg", dpi=72, pil_kwargs={"quality": 85, "optimize": True})


def draw_parts(guideline: Guideline) -> Figure:
    """Every part of the left side on the three planes through its middle."""
    patient = _patient("northgate", Split.TRAIN, lambda p: p.facts.visible.symmetric and p.plan.has_target)
    grid = grid_of(FINE, "northgate")
    ct = make_volumes(FINE, "northgate", patient, Split.TRAIN).ct
    body = landmarks(body_of(FINE, "northgate", patient), grid)
    masks = {part: part_mask(body, Side.LEFT, part, guideline, patient.facts.site) for part in Part}
    figure, axes = _figure(len(Part), 3, (13, 30))
    for row, part in enumerate(Part):
        centre = [int(np.median(found)) for found in np.nonzero(masks[part])]
        others = Part.CHEST_WALL if part is Part.BREAST else Part.BREAST
        shown = {key: mask for key, mask in masks.items() if key is part or key not in (others, Part.BOOST)}
        for column, axis in enumerate((2, 1, 0)):
            _plane(axes[row][column], ct, grid, axis, centre[axis], shown, bold=part)
        cc = masks[part].sum() * grid.voxel_mm**3 / 1000
        axes[row][0].set_title(
            f"{part.estro} ({part.tg263(Side.LEFT)}), {cc:.0f} cc", loc="left", color="white", fontsize=10
        )
    return _finish(figure)


def draw_centres() -> Figure:
    """One patient of each centre at five heights, with the target's parts."""
    figure, axes = _figure(len(CENTRES), len(LEVELS_MM), (22, 15.5))
    for row, (centre, profile) in enumerate(CENTRES.items()):
        split = Split.EXTERNAL if profile.external else Split.TRAIN
        patient = _patient(centre, split, lambda p: len(p.plan.levels) >= 4)
        volumes = make_volumes(FINE, centre, patient, split)
        for column, height in enumerate(LEVELS_MM):
            _plane(axes[row][column], volumes.ct, volumes.grid, 2, _slice(volumes.grid, height), _masks(volumes.parts))
        title = f"{centre}{' (unseen in training)' if profile.external else ''}: {patient.plan.guideline}"
        axes[row][0].set_title(title, loc="left", color="white", fontsize=11)
    return _finish(figure)


def draw_looks() -> Figure:
    """Patients after different surgery, one axial slice through the breasts and one coronal slice each."""
    wanted: dict[str, Callable[[Patient], bool]] = {
        "nothing to be seen": lambda p: "clips" not in p.note and p.facts.visible.key.count("natural, None, None") == 2,
        "removed": lambda p: "flat" in p.facts.visible.key,
        "implant": lambda p: "implant" in p.facts.visible.key,
        "expander with port": lambda p: "expander" in p.facts.visible.key,
        "seroma": lambda p: p.facts.seroma,
        "clips": lambda p: p.facts.clips,
    }
    figure, axes = _figure(2, len(wanted), (24, 7))
    for column, (name, holds) in enumerate(wanted.items()):
        patient = _patient("riverside", Split.TRAIN, holds)
        volumes = make_volumes(FINE, "riverside", patient, Split.TRAIN)
        marks = volumes.ct[:, 120:, 20:48] > 1500
        place = 20 + int(np.median(np.nonzero(marks)[2])) if marks.any() else _slice(volumes.grid, -36.0)
        _plane(axes[0][column], volumes.ct, volumes.grid, 2, place, {})
        _plane(axes[1][column], volumes.ct, volumes.grid, 1, int(0.72 * volumes.grid.shape[1]), {})
        axes[0][column].set_title(name, loc="left", color="white", fontsize=11)
    return _finish(figure)


def draw_twins() -> Figure:
    """The counterfactual split: one CT with the targets of its four plans."""
    figure, axes = _figure(2, VARIANTS + 1, (20, 7.2))
    group = [draw_patient(FINE, "lakeside", Split.COUNTERFACTUAL, index) for index in range(VARIANTS)]
    people = [(Split.EXTERNAL, draw_patient(FINE, "lakeside", Split.EXTERNAL, 0))]
    people += [(Split.COUNTERFACTUAL, patient) for patient in group]
    for column, (split, patient) in enumerate(people):
        volumes = make_volumes(FINE, "lakeside", patient, split)
        for row, height in enumerate((46.0, -30.0)):
            place = _slice(volumes.grid, height)
            _plane(axes[row][column], volumes.ct, volumes.grid, 2, place, _masks(volumes.parts))
        plan = patient.plan
        title = f"{plan.side}, {plan.surgery}: {plan.volume or 'no target'}\n{', '.join(plan.levels) or 'no nodes'}"
        axes[0][column].set_title(f"{title} ({plan.guideline})", loc="left", color="white", fontsize=10)
    return _finish(figure, top=0.92)


def draw_readers() -> Figure:
    """Three readers' contours over the true target on three slices."""
    patient = _patient("hillcrest", Split.TRAIN, lambda p: len(p.plan.levels) >= 4)
    volumes = make_volumes(FINE, "hillcrest", patient, Split.TRAIN)
    figure, axes = _figure(1, 3, (18, 5.2))
    for column, height in enumerate((50.0, 20.0, -35.0)):
        axis = axes[0][column]
        _plane(axis, volumes.ct, volumes.grid, 2, _slice(volumes.grid, height), {})
        place = _slice(volumes.grid, height)
        for bit, colour in enumerate(("#22c55e", "#f59e0b", "#38bdf8")):
            _contour(axis, (volumes.readers[:, :, place] >> bit) & 1, colour, 1.2)
        _contour(axis, volumes.parts[:, :, place] > 0, "#ffffff", 1.0)
    axes[0][0].set_title("white: by the rules; colours: readers 1 to 3", loc="left", color="white", fontsize=10)
    return _finish(figure, top=0.93)


def _patient(centre: str, split: Split, wanted: Callable[[Patient], bool]) -> Patient:
    patients = (draw_patient(FINE, centre, split, index) for index in range(300))
    return next(patient for patient in patients if wanted(patient))


def _masks(labels: np.ndarray) -> dict[Part, np.ndarray]:
    return {part: mask for part in Part if (mask := region(labels, part)).any()}


def _slice(grid: Grid, height: float) -> int:
    return int(np.clip(round(height / grid.spacing[2] + (grid.shape[2] - 1) / 2), 0, grid.shape[2] - 1))


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, Any]:
    figure = Figure(figsize=size, facecolor="black")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _plane(
    axis: Any, ct: np.ndarray, grid: Grid, normal: int, place: int, masks: Masks, bold: Part | None = None
) -> None:
    step = [grid.spacing[i] for i in range(3) if i != normal]
    axis.imshow(_view(np.take(ct, place, normal)), cmap="gray", vmin=WINDOW[0], vmax=WINDOW[1],
                aspect=step[1] / step[0], interpolation="bilinear")  # fmt: skip
    axis.axis("off")
    if normal == 2:  # nobody's air
        count = plane_height(ct.shape[1])
        axis.set_ylim(ct.shape[1] - 0.5 - count[0], count[1])
    for part, mask in masks.items():
        width = 2.2 if part is bold else 0.9 if bold else 1.5
        _contour(axis, np.take(mask, place, normal), COLOURS[part], width)


def plane_height(rows: int) -> tuple[float, float]:
    """Rows of air to leave away behind and before the patient in an axial slice."""
    return 0.01 * rows, 0.1 * rows


def _contour(axis: Any, plane: np.ndarray, colour: str, width: float) -> None:
    if plane.any():
        axis.contour(_view(plane).astype(float), [0.5], colors=[colour], linewidths=width)


def _view(plane: np.ndarray) -> np.ndarray:
    """Radiological view: right at the left edge, front or head on top; sagittal with the front at the left."""
    view: np.ndarray = plane[::-1, ::-1].T
    return view


def _finish(figure: Figure, top: float = 0.965) -> Figure:
    figure.text(0.995, 0.004, NOTE, color="white", ha="right", va="bottom", fontsize=9)
    figure.subplots_adjust(left=0.005, right=0.995, top=top, bottom=0.012, wspace=0.01, hspace=0.08)
    return figure


PICTURES: tuple[tuple[str, str, Callable[[], Figure]], ...] = (
    ("parts-estro", "Parts of the target, ESTRO-like borders", lambda: draw_parts(Guideline.ESTRO)),
    ("parts-rtog", "Parts of the target, RTOG-like borders", lambda: draw_parts(Guideline.RTOG)),
    ("centres", "Each centre's look", draw_centres),
    ("looks", "What surgery leaves to be seen", draw_looks),
    ("twins", "One CT, several notes and plans", draw_twins),
    ("readers", "Three simulated readers", draw_readers),
)
"""File name, title and drawing of each picture of the page, in order."""
