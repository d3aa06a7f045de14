"""Rounds in one process: the mean, the rounds on disk, what it refuses. That they are Flower's is in `test_rounds`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rollama.centres.federation.config import Federation, Policy
from rollama.centres.federation.policy import Withheld
from rollama.centres.federation.rehearsal import rehearse, weighted_mean
from rollama.centres.federation.weights import Tensors, read_artefact, write_artefact
from rollama.core.errors import ConfigError, RollamaError
from rollama.core.files import read_json

POLICY = Policy.model_validate({"max_norm": 100, "max_relative": 100, "min_cases": 1, "counts": "cases"})
SITES = {"north": (1.0, 30), "south": (4.0, 10)}


def federation(folder: Path, **changes: Any) -> Federation:
    write_artefact(folder / "start", {"w": np.ones(3, np.float32)}, {"kind": "mini", "config": {}, "task": "p"})
    return Federation.model_validate({"name": "f", "start": folder / "start", "rounds": 2, **changes})


def train(site: str, number: int, received: Tensors) -> tuple[Tensors, int]:
    """Half way to the site's own value, a little less in each round."""
    aim, cases = SITES[site]
    return {"w": received["w"] + np.float32(0.5 / number) * (np.float32(aim) - received["w"])}, cases


def test_rounds_are_weighted_means_and_go_on_where_they_stopped(tmp_path: Path) -> None:
    settings = federation(tmp_path)
    model = rehearse(tmp_path / "a", settings, list(SITES), train, POLICY)
    # By hand: 1 -> (0.75 * 1 + 0.25 * 2.5) = 1.375; a quarter of the way: (0.75 * 1.28125 + 0.25 * 2.03125) = 1.46875.
    assert read_artefact(model)[0]["w"].tolist() == [1.46875] * 3
    rehearse(tmp_path / "b", settings.model_copy(update={"rounds": 1}), ["south", "north"], train, POLICY)
    again = rehearse(tmp_path / "b", settings, ["south", "north"], train, POLICY)
    for number in ("0001", "0002"):
        facts = [read_json(tmp_path / name / "rounds" / number / "round.json") for name in "ab"]
        assert facts[0]["weights"] == facts[1]["weights"], "the order of the sites decides nothing"
    manifest = read_json(again / "manifest.json")
    assert manifest["federation"]["rehearsed"] == 2 and manifest["federation"]["sites"] == ["north", "south"]


def test_sites_weigh_alike_where_counts_stay_or_are_not_used(tmp_path: Path) -> None:
    silent = POLICY.model_copy(update={"counts": "none"})
    for name, settings, policy in (
        ("silent", federation(tmp_path, rounds=1), silent),
        ("alike", federation(tmp_path, rounds=1, weight_by_cases=False), POLICY),
    ):
        model = rehearse(tmp_path / name, settings, list(SITES), train, policy)
        assert read_artefact(model)[0]["w"].tolist() == [1.75] * 3


def test_what_a_real_federation_refuses_is_refused(tmp_path: Path) -> None:
    settings = federation(tmp_path, rounds=1)

    def broken(site: str, number: int, received: Tensors) -> tuple[Tensors, int]:
        trained, cases = train(site, number, received)
        return ({"w": trained["w"] * 1000} if site == "south" else trained), cases

    with pytest.raises(Withheld, match=r"policy.max_relative"):
        rehearse(tmp_path / "policy", settings, list(SITES), broken, POLICY)
    wide = POLICY.model_copy(update={"max_norm": 1e9, "max_relative": 1e9})
    with pytest.raises(RollamaError, match="no round changed the start model"):
        rehearse(tmp_path / "guard", settings, list(SITES), broken, wide)
    facts = read_json(tmp_path / "guard" / "rounds" / "0001" / "round.json")
    assert [bool(update["refusal"]) for update in facts["updates"]] == [False, True] and not facts["changed"]


@pytest.mark.parametrize(
    ("changes", "local"),
    [({"strategy": "fedadam"}, False), ({"weight_by_cases": False, "privacy": {"kind": "central"}}, False), ({}, True)],
)
def test_what_only_flower_computes_is_not_guessed(tmp_path: Path, changes: dict[str, Any], local: bool) -> None:
    noise = {"clipping_norm": 1, "sensitivity": 1, "epsilon": 1, "delta": 1e-5}
    policy = Policy.model_validate({"max_norm": 1, "local_privacy": noise}) if local else POLICY
    with pytest.raises(ConfigError, match="Flower's to compute"):
        rehearse(tmp_path, federation(tmp_path, **changes), list(SITES), train, policy)


def test_the_mean_keeps_names_and_types() -> None:
    one = {"b": np.ones((2, 2), np.float32), "a": np.zeros(1, np.float32)}
    two = {"a": np.full(1, 3, np.float32), "b": np.zeros((2, 2), np.float32)}
    found = weighted_mean([one, two], [1.0, 2.0])
    assert list(found) == ["a", "b"] and found["a"].tolist() == [2.0]
    assert {value.dtype for value in found.values()} == {np.dtype(np.float32)}
