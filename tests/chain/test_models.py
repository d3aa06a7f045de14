"""The chain on real (tiny, untrained) artefacts: loading by need, hashes, determinism."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from rollama.chain.inputs import PlanSource
from rollama.chain.run import Chain
from rollama.core.errors import CheckpointError, DataError
from rollama.data.plan import Plan, render_plan
from rollama.data.volumes import Volume
from rollama.training.artefact import artefact_hash
from tests.chain.tiny import make_models


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


def test_note_to_target_is_deterministic(models: Path, ct: Volume) -> None:
    chain = Chain.load(models)
    first, second = (chain.run(ct, note="Left breast cancer, pT1 N1.") for _ in range(2))
    assert first.summary
    assert first.plan_text == second.plan_text
    assert np.array_equal(first.mask, second.mask)
    assert first.mask.shape == ct.shape
    assert first.models == {name: artefact_hash(models / name) for name in ("s", "p", "seg")}


def test_only_what_is_needed_is_loaded(models: Path, ct: Volume, plan: Plan, tmp_path: Path) -> None:
    shutil.copytree(models / "seg", tmp_path / "seg")
    chain = Chain.load(tmp_path, PlanSource.GIVEN)
    assert chain.text is None
    assert chain.run(ct, plan_text=render_plan(plan)).plan == plan
    with pytest.raises(CheckpointError, match="p: no such model"):
        Chain.load(tmp_path, PlanSource.SUMMARY)
    with (tmp_path / "seg" / "model.safetensors").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        Chain.load(tmp_path, PlanSource.GIVEN)


def test_a_note_longer_than_the_context(models: Path, ct: Volume) -> None:
    with pytest.raises(DataError, match=r"note: text 0 for task s has \d+ tokens") as caught:
        Chain.load(models).run(ct, note="CANARY word " * 5000)
    assert "CANARY" not in str(caught.value)
