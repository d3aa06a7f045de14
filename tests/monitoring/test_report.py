"""The files of a report: complete, readable by programs, and asking no other host for anything."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from rollama.core.files import read_json
from rollama.data.profile import ALL, Profile
from rollama.monitoring.compare import compare
from rollama.monitoring.report import write_report
from rollama.training.artefact import artefact_hash, save_artefact


def test_the_three_files(tmp_path: Path) -> None:
    save_artefact(tmp_path / "models/seg", {"w": torch.ones(1)}, {"kind": "segmentation"})
    trained = Profile({ALL: {"ct_pixel_mm": {"0.95..1.05": 200}, "plan_side": {"left": 100, "right": 100}}})
    seen = Profile({"<b>new": {"ct_pixel_mm": {"1.15..1.25": 50}, "plan_side": {"left": 24, "right": 26}}})
    findings = compare({"seg": trained}, {"seg": seen})
    page, table, data = write_report(tmp_path / "out", findings, tmp_path / "models", "now.txt", 0.2)
    found = read_json(data)
    assert found["answer"] == "drift" and found["config"]["models"] == {"seg": artefact_hash(tmp_path / "models/seg")}
    assert [(row["feature"], row["answer"]) for row in found["findings"]] == [
        ("ct_pixel_mm", "drift"),
        ("plan_side", "none"),
    ]
    assert found["findings"][0]["distance"] > 0.9 and found["findings"][1]["bins"] == ["left", "right"]
    assert len(table.read_text().splitlines()) == 6 + 2
    html = page.read_text()
    assert html.count("<svg") == 2 and "Drift: current cases differ" in html and "RESEARCH" in html
    assert "&lt;b&gt;new" in html and "<b>new" not in html
    assert not re.search(r"(src|href)=|https?://", html)
