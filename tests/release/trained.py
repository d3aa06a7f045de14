"""Three models as a training of the tiny preset leaves them, and a protocol that they can pass; knowing nothing."""

from __future__ import annotations

from pathlib import Path

from rollama.cli.train import What, run_key
from rollama.core.files import read_json, write_json
from rollama.presets import load_preset

PROTOCOL = {
    "format": 1,
    "name": "tiny",
    "version": 1,
    "cases": {"all": 6, "centre": 2, "subgroup": 2},
    "centres": {"bound": "mean"},
    "subgroups": {"by": ["side"], "bound": "mean", "small": "tell"},
    "rules": [
        {"task": "p", "metric": "rougeL", "margin": 0.4},
        {"task": "p", "metric": "rougeL", "input": "capitals", "margin": 0.4},
        {"task": "seg", "metric": "missed", "margin": 0.99},  # defined for every case, also without a target
    ],
    "limits": [{"task": "seg", "metric": name, "at_most": 0.999, "each": "all"} for name in ("missed", "invented")],
    "inputs": {"corrupted": ["capitals"]},
    "changes": {"s": ["*"], "p": ["*"], "seg": ["*"]},
}
"""Wide enough for weights that know nothing."""


def trained(folder: Path, cohort: Path, seed: int) -> Path:
    """Write `s/`, `p/` and `seg/`; other seeds, other adapters."""
    from tests.chain.tiny import make_models

    content = read_json(cohort / "dataset.json")["content_hash"]
    for name in make_models(folder, first_seed=seed).iterdir():
        manifest = read_json(name / "manifest.json")
        manifest |= {"config_hash": run_key(What(name.name), load_preset("tiny"), cohort)}
        manifest |= {"data_hash": content} if name.name == "seg" else {"data": {"content_hash": content}}
        write_json(name / "manifest.json", manifest)
    return folder
