"""The comparison as files: drift.json for programs, drift.md for a ticket, drift.html with small pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rollama import RESEARCH_ONLY
from rollama.core.config import hash_json
from rollama.core.files import write_json, write_text
from rollama.core.manifest import run_manifest
from rollama.data.profile import ALL
from rollama.monitoring.compare import LEVEL, Answer, Finding, overall
from rollama.monitoring.sources import model_folders, titled
from rollama.training.artefact import WEIGHTS, read_manifest

HEADLINES = {
    Answer.DRIFT: "Drift: current cases differ from the training cases.",
    Answer.NONE: "No drift found in what could be judged.",
    Answer.TOO_FEW: "Too few cases: nobody can tell yet.",
}
MODELS = {"s": "S (note to summary)", "p": "P (summary to plan)", "seg": "SEG (CT and plan to target)"}
WORST_FIRST = (Answer.DRIFT, Answer.SMALL, Answer.TOO_FEW, Answer.NONE)


def write_report(out: Path, findings: Sequence[Finding], models: Path, source: str, threshold: float) -> list[Path]:
    """Write the three files; returns their paths.

    Args:
        out: folder, made where it is missing.
        findings: at least one.
        models: folder of the models, for their hashes.
        source: where the current cases come from.
        threshold: that was judged by.
    """
    hashes, synthetic = _models(models)
    settings = {"threshold": threshold, "level": LEVEL, "source": source, "models": hashes}
    notice = RESEARCH_ONLY + (". The models were trained on SYNTHETIC patients" if synthetic else "")
    ordered = sorted(findings, key=lambda item: (WORST_FIRST.index(item.answer), -item.distance))
    rows = [item.as_dict() for item in ordered]
    manifest = run_manifest(
        "drift", settings, hash_json(settings), answer=str(overall(findings)), findings=rows, synthetic=synthetic
    )
    write_json(out / "drift.json", manifest)
    write_text(out / "drift.md", _markdown(ordered, settings, notice))
    write_text(out / "drift.html", _page(ordered, settings, notice, str(manifest["created"])))
    return [out / f"drift.{suffix}" for suffix in ("html", "md", "json")]


def _models(models: Path) -> tuple[dict[str, str], bool]:
    """Model -> hash; whether any was trained on synthetic patients."""
    manifests = {folder.name: read_manifest(folder) for folder in model_folders(models)}
    synthetic = [m.get("synthetic") or m.get("data", {}).get("synthetic") for m in manifests.values()]
    return {name: str(manifest["files"][WEIGHTS]) for name, manifest in manifests.items()}, any(synthetic)


def _markdown(findings: Sequence[Finding], settings: dict[str, Any], notice: str) -> str:
    lines = [
        f"# {HEADLINES[overall(findings)]}", "",
        f"{notice}. Current cases: {settings['source']}. Threshold: Jensen-Shannon distance "
        f"{settings['threshold']:g}; chance of a false \"drift\" a centre: {settings['level']:g}.", "",
        "| centre | model | feature | answer | n | against | distance [95 %] | PSI, about | most moved |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {titled(f.centre)} | {f.model} | {f.said} ({f.role}) | {f.answer} | {f.n} | {titled(f.reference)} "
        f"({f.reference_n}) | {f.distance:.3f} [{f.low:.3f}, {f.high:.3f}] | {f.psi:.2f} | {f.moved} |"
        for f in findings
    ]
    return "\n".join(lines) + "\n"


def _page(findings: Sequence[Finding], settings: dict[str, Any], notice: str, created: str) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["titled"] = titled
    worst = Counter(item.centre for item in findings if item.answer is Answer.DRIFT)
    centres = sorted({item.centre for item in findings}, key=lambda name: (name == ALL, -worst[name], name))
    sections = [_section(centre, [item for item in findings if item.centre == centre]) for centre in centres]
    return environment.get_template("drift.jinja").render(
        notice=notice, headline=HEADLINES[overall(findings)], answer=str(overall(findings)).replace(" ", "-"),
        settings=settings, sections=sections, created=created,
    )  # fmt: skip


def _section(centre: str, findings: Sequence[Finding]) -> dict[str, Any]:
    answers = [item.answer for item in findings]
    models = {name: [item for item in findings if item.model == name] for name in MODELS}
    return {
        "centre": centre,
        "counts": [(answer, answers.count(answer)) for answer in Answer if answer in answers],
        "models": [(name, MODELS[name], rows) for name, rows in models.items() if rows],
    }
