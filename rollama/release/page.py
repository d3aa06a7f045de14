"""The verdict as people would rather see it: one HTML file that asks no other host for anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rollama.release.documents import SYNTHETIC, number
from rollama.release.verdict import Finding, Outcome, Verdict

HEADLINES = {
    Outcome.PASSED: "Passed: this candidate may be released.",
    Outcome.REFUSED: "Refused: this candidate may not be released.",
    Outcome.UNDERPOWERED: "Under-powered: nobody can tell from these cases, so nothing is released.",
}


def render_page(verdict: Verdict, approvals: Sequence[str] = ()) -> bytes:
    """The page as UTF-8.

    Args:
        verdict: what to show.
        approvals: who approved, if somebody did.
    """
    import jinja2

    from rollama.data.slices import figure_png
    from rollama.evaluation.figures import data_uri
    from rollama.release.figure import draw_forest

    label = "SYNTHETIC patients, research use only" if verdict.synthetic else "research use only"
    figure = draw_forest(verdict.findings, f"Release {verdict.candidate.release[:12]}: {label}")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = number
    html = environment.get_template("verdict.jinja").render(
        verdict=verdict,
        headline=HEADLINES[verdict.outcome],
        synthetic=SYNTHETIC if verdict.synthetic else "",
        against=verdict.failed(),
        told=[item for item in verdict.findings if item.outcome is Outcome.TOLD],
        figure=data_uri(figure_png(figure, dpi=110)) if figure else None,
        sections=_sections(verdict.findings),
        approvals=list(approvals),
    )
    return html.encode()


def _sections(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    titles = {
        "non-inferiority": "Against the released model, at every centre and in every subgroup",
        "limit": "Hard limits",
        "change": "What changed besides the weights",
    }
    return [
        {"kind": kind, "title": title, "rows": rows}
        for kind, title in titles.items()
        if (rows := [item for item in findings if item.kind == kind])
    ]
