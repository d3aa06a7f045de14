"""The forest plot of a verdict: every rule at every centre, its interval against its margin."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rollama.release.verdict import Finding, Outcome

COLOURS = {
    Outcome.PASSED: "#1b6e3c", Outcome.REFUSED: "#b3261e", Outcome.UNDERPOWERED: "#9a6700", Outcome.TOLD: "#52606d",
}  # fmt: skip
MARKS = {Outcome.PASSED: "o", Outcome.REFUSED: "X", Outcome.UNDERPOWERED: "D", Outcome.TOLD: "o"}
"""Form besides colour, for readers who do not tell the colours apart."""
ROW_INCH, WIDTH_INCH = 0.27, 9.6


def draw_forest(findings: Sequence[Finding], title: str) -> Figure | None:
    """One panel a rule: groups down, the difference with its interval across, zero and the margin as lines.

    None when no rule was compared.
    """
    rules: dict[str, list[Finding]] = {}
    for item in findings:
        if item.kind == "non-inferiority" and item.value is not None:
            rules.setdefault(item.figure, []).append(item)
    if not rules:
        return None
    rows = [len(items) + 1.9 for items in rules.values()]
    figure = Figure(figsize=(WIDTH_INCH, ROW_INCH * sum(rows) + 0.7), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(rules), 1, height_ratios=rows, squeeze=False)[:, 0]
    figure.suptitle(title, fontsize=10)
    for axes, (name, items) in zip(panels, rules.items(), strict=True):
        _panel(axes, name, items)
    return figure


def _panel(axes, name: str, items: Sequence[Finding]) -> None:  # type: ignore[no-untyped-def]  # matplotlib's Axes
    margins = [item.limit for item in items if item.limit is not None]
    values = [x for item in items for x in (item.value, item.low, item.high) if x is not None]
    for place, item in enumerate(items):
        colour = COLOURS[item.outcome]
        assert item.value is not None
        if item.low is not None and item.high is not None:
            axes.plot([item.low, item.high], [place, place], color=colour, linewidth=2.0, solid_capstyle="butt")
        axes.plot([item.value], [place], MARKS[item.outcome], color=colour, markersize=6)
        if item.limit is not None:
            axes.plot([item.limit, item.limit], [place - 0.42, place + 0.42], color="#16202c", linewidth=1.6)
    axes.axvline(0.0, color="#9aa5b1", linewidth=1.0, zorder=0)
    axes.set_yticks(range(len(items)), [f"{item.group} (n = {item.n})" for item in items], fontsize=8)
    axes.set_ylim(len(items) - 0.4, -0.6)
    left, right = min(*values, *margins, 0.0), max(*values, 0.0)
    room = 0.06 * (right - left or 1.0)
    axes.set_xlim(left - room, right + room)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_title(f"{name}: candidate minus released, right is better; black bar: minus the margin", fontsize=9,
                   loc="left")  # fmt: skip
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
