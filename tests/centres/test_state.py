"""What the coordinator keeps: rounds go on, and neither damage nor other settings pass unseen."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from rollama.centres.federation.config import Federation
from rollama.centres.federation.state import Standing, finish, keep_round, standing
from rollama.centres.federation.weights import digest, moving, read_artefact, write_artefact
from rollama.core.errors import CheckpointError, ConfigError
from rollama.core.files import read_json

UPDATE = {"site": "a", "sha256": "1" * 64, "refusal": None}


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    tensors = {"w": np.ones(3, np.float32)}
    write_artefact(
        tmp_path / "start",
        tensors,
        {"kind": "text-adapter", "config": {"seed": 0}, "task": "p", "metrics": {"loss": 1}, "profile": {"version": 1}},
    )
    return Federation(name="trial", start=tmp_path / "start", rounds=3)


def step(folder: Path, federation: Federation, by: float, changed: bool = True, site: str = "a") -> Standing:
    now = standing(folder, federation)
    start = digest(standing(folder / "none", federation).weights)
    now.weights, now.done = {name: value + np.float32(by) for name, value in now.weights.items()}, now.done + 1
    now.strategy = {"m_t/w": np.full(3, by)}
    updates = [{**UPDATE, "site": site, "sha256": f"{now.done}" * 64}]
    keep_round(folder, federation, start, now, {"changed": changed, "updates": updates})
    return now


def test_a_federation_goes_on_where_it_was(tmp_path: Path, federation: Federation) -> None:
    step(tmp_path, federation, 1.0)
    step(tmp_path, federation, 2.0)
    found = standing(tmp_path, federation.model_copy(update={"rounds": 9, "grace_s": 1.0}))
    assert found.done == 2 and found.weights["w"].tolist() == [4, 4, 4]
    assert found.seen == {"1" * 64: 1, "2" * 64: 2}
    assert found.strategy["m_t/w"].tolist() == [2, 2, 2]


def test_the_final_model_says_where_it_comes_from(tmp_path: Path, federation: Federation) -> None:
    now = step(tmp_path, federation, 1.0)
    tensors, manifest = read_artefact(finish(tmp_path, federation, now))
    assert tensors["w"].tolist() == [2, 2, 2]
    assert manifest["kind"] == "text-adapter" and manifest["task"] == "p" and manifest["metrics"] == {}
    assert "profile" not in manifest, "the start model's training cases are not the federation's"
    assert manifest["federation"]["sites"] == ["a"] and manifest["federation"]["rounds"] == 1
    assert manifest["parent"] == read_json(federation.start / "manifest.json")["files"]["model.safetensors"]


def test_a_site_whose_only_round_had_too_few_updates_is_not_in_the_model(
    tmp_path: Path, federation: Federation
) -> None:
    step(tmp_path, federation, 1.0)
    now = step(tmp_path, federation, 0.0, changed=False, site="b")
    _, manifest = read_artefact(finish(tmp_path, federation, now))
    assert manifest["federation"]["sites"] == ["a"] and manifest["federation"]["rounds"] == 2


def test_other_settings_or_another_start_do_not_continue(tmp_path: Path, federation: Federation) -> None:
    step(tmp_path, federation, 1.0)
    with pytest.raises(ConfigError, match="other settings"):
        standing(tmp_path, federation.model_copy(update={"eta": 0.5}))
    write_artefact(federation.start, {"w": np.zeros(3, np.float32)}, {"kind": "text-adapter"})
    with pytest.raises(ConfigError, match="another start"):
        standing(tmp_path, federation)


def test_damaged_and_missing_rounds_are_told(tmp_path: Path, federation: Federation) -> None:
    for by in (1.0, 2.0):
        step(tmp_path, federation, by)
    weights = tmp_path / "rounds" / "0002" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + b"x")
    with pytest.raises(CheckpointError, match=r"0002/model.safetensors: was changed"):
        standing(tmp_path, federation)
    weights.write_bytes(content)
    shutil.rmtree(tmp_path / "rounds" / "0001")
    with pytest.raises(CheckpointError, match="round 1 is missing"):
        standing(tmp_path, federation)


def test_what_is_derived_from_patients_does_not_move() -> None:
    tensors = {name: np.ones(1, np.float32) for name in ("down.weight", "text_mean", "normality.plan")}
    assert list(moving(tensors, {"kind": "segmentation"})) == ["down.weight"]
    assert list(moving(tensors, {"kind": "text-adapter"})) == sorted(tensors)
