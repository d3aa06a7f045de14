"""What goes with a release so that it can be explained years later: model card, bill of materials, data, verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rollama import RESEARCH_ONLY
from rollama.release.verdict import Finding, Verdict

MODELS = {
    "s": "RO-LLaMA-S: clinical note to summary",
    "p": "RO-LLaMA-P: summary to treatment plan",
    "seg": "RO-LLaMA-SEG: CT and plan to 3D target",
}
SYNTHETIC = "SYNTHETIC DATA: every figure here comes from generated patients and says nothing about real ones"


def data_manifest(verdict: Verdict, manifests: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Which data, by content hash: what each model was trained on, and what the release was judged on."""
    values = {
        "notice": RESEARCH_ONLY,
        "synthetic": verdict.synthetic,
        "evaluation": verdict.dataset,
        "scores": verdict.tables,
        "training": {
            name: {
                "content_hashes": verdict.trained_on.get(name, []),
                "config_hash": manifests[name].get("config_hash"),
                "revision": manifests[name].get("revision"),
            }
            for name in MODELS
        },
    }
    return (json.dumps(values, indent=2) + "\n").encode()


def model_card(verdict: Verdict, manifests: Mapping[str, Mapping[str, Any]], approvals: Sequence[str]) -> bytes:
    """The model card as Markdown."""
    parts = verdict.candidate
    lines = [
        f"# RO-LLaMA release {parts.release[:16]}",
        "",
        f"**{RESEARCH_ONLY}.**" + (f" **{SYNTHETIC}.**" if verdict.synthetic else ""),
        "",
        "Three models that were evaluated together and are served together.",
        "",
        "| model | does | content | weights | method | base | trained on |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, does in MODELS.items():
        manifest = manifests[name]
        config = manifest.get("config", {})
        base = config.get("base") or config.get("encoder") or "-"
        data = ", ".join(value[:16] for value in verdict.trained_on.get(name, [])) or "-"
        lines.append(
            f"| {name} | {does} | {parts.digests[name][:16]} | {verdict.hashes[name][:16]} | {config.get('method')} "
            f"| {base} | {data} |"
        )
    protocol, judged_on = verdict.protocol, verdict.dataset
    replaced = f"release {verdict.replaces[:16]}" if verdict.replaces else "nothing; it is the first release"
    lines += [
        "",
        "## Meant for",
        "",
        "Research on breast radiotherapy planning with people who check every summary, plan and contour. Not for "
        "decisions about patients, not for other sites, ages or treatments than the training data's.",
        "",
        "## Evaluation",
        "",
        f"Protocol {protocol['name']} version {protocol['version']} ({str(protocol['sha256'])[:16]}), "
        f"{judged_on['cases']} held-out cases of {judged_on['name']} ({str(judged_on['hash'])[:16]}), compared with "
        f"{replaced}. Answer: {verdict.outcome}. Approved by: {', '.join(approvals) or 'nobody had to'}.",
        "",
        "A difference is candidate minus released model, turned so that positive is better, with its interval.",
        "",
        "| figure | group | n | candidate | released | difference or figure [interval] | held against | answer |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(item) for item in verdict.findings),
        "",
        "## Known limits",
        "",
        "Only what the table lists was looked at. A group that is not in it was not judged by itself. Intervals are "
        "over patients of these centres; another centre may differ by more.",
    ]
    return ("\n".join(lines) + "\n").encode()


def _row(item: Finding) -> str:
    cells = [
        item.figure,
        item.group,
        str(item.n or ""),
        number(item.candidate),
        number(item.released),
        number(item.value) + (f" [{number(item.low)}, {number(item.high)}]" if item.low is not None else ""),
        number(item.limit),
        f"{item.outcome}" + (f": {item.remark}" if item.remark else ""),
    ]
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def number(value: float | None) -> str:
    """Three digits after the point; empty for nothing."""
    return "" if value is None else f"{value:.3f}"
