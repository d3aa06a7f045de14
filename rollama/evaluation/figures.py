"""Learning curves and example slices as PNG, drawn without pyplot's shared state."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rollama.data.slices import figure_png
from rollama.training.metrics_log import read_metrics

COLOURS = {"loss": "#1f2937", "ce": "#2563eb", "dice_ce": "#2563eb", "consistency": "#c2410c"}
NAMES = {"loss": "loss", "ce": "cross-entropy", "dice_ce": "Dice + cross-entropy", "consistency": "consistency R"}


def data_uri(png: bytes) -> str:
    """PNG bytes as a data address, so that the report needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def draw_curves(curves: Mapping[str, Path], evaluations: Sequence[Mapping[str, Any]] = ()) -> Figure | None:
    """One panel a training run: loss, cross-entropy (or DiceCE) and R against the step; None without any log.

    R gets its own logarithmic axis: it is orders of magnitude smaller, and near zero means that it has no effect.

    Args:
        curves: title -> its `metrics.jsonl`.
        evaluations: of the first run, made while it trained: step, metric, value.
    """
    logs = {name: read_metrics(path) for name, path in curves.items()}
    logs = {name: rows for name, rows in logs.items() if rows}
    if not logs:
        return None
    columns = min(len(logs), 2)
    lines = -(-len(logs) // columns)
    figure = Figure(figsize=(5.4 * columns, 3.3 * lines), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    for place, (name, rows) in enumerate(logs.items(), 1):
        _draw_run(figure.add_subplot(lines, columns, place), name, rows, evaluations if place == 1 else ())
    return figure


def curves_png(curves: Mapping[str, Path], evaluations: Sequence[Mapping[str, Any]] = ()) -> bytes | None:
    """`draw_curves` as PNG bytes."""
    figure = draw_curves(curves, evaluations)
    return None if figure is None else figure_png(figure, dpi=120)


def _draw_run(axes: Any, name: str, rows: list[dict[str, Any]], evaluations: Sequence[Mapping[str, Any]] = ()) -> None:
    handles = []
    for key in ("loss", "ce", "dice_ce"):
        steps, values = _series(rows, key)
        if len(values):
            style = "dotted" if key == "loss" else "solid"
            handles += axes.plot(steps, values, color=COLOURS[key], linestyle=style, linewidth=1.4, label=NAMES[key])
    axes.set_title(name, fontsize=10, fontweight="bold", loc="left")
    axes.set_xlabel("step")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel("loss")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    steps, values = _series(rows, "consistency")
    if (values > 0).any():
        right = axes.twinx()
        shown = np.where(values > 0, values, np.nan)
        handles += right.plot(steps, shown, color=COLOURS["consistency"], linestyle="dashed", linewidth=1.2,
                              label=NAMES["consistency"] + " (right, log)")  # fmt: skip
        right.set_yscale("log")
        right.tick_params(axis="y", labelcolor=COLOURS["consistency"])
        right.spines["top"].set_visible(False)
    if evaluations:
        name = str(evaluations[0]["metric"])
        points = [(item["step"], item["value"]) for item in evaluations if item["metric"] == name]
        third = axes.twinx()
        third.set_ylim(0, 1.05)
        third.axis("off")
        handles += third.plot(*zip(*points, strict=True), color="#15803d", marker="o", markersize=4, linewidth=1.0,
                              label=f"validation {name} (0 to 1)")  # fmt: skip
        for step, value in points:
            third.annotate(f"{value:.2f}", (step, value), xytext=(0, 5), textcoords="offset points", fontsize=7,
                           ha="center", color="#15803d")  # fmt: skip
    axes.legend(handles=handles, frameon=False, fontsize=8)


def _series(rows: list[dict[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(row["step"], row[key]) for row in rows if isinstance(row.get(key), int | float)]
    return np.array([step for step, _ in pairs]), np.array([value for _, value in pairs], dtype=float)
