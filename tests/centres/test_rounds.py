"""Every strategy and every kind of privacy, on two sites of 40 and 10 cases: the numbers are those of the formulas."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import numpy as np
import pytest

from tests.centres.fleet import HERE, ROOT, flower_python

pytestmark = pytest.mark.federation
START = np.array([0, 0.1, 0.1, 0.1, 0.1])
"""The start model: bias, weights."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = subprocess.run(
        [str(flower_python()), str(HERE / "rounds.py"), str(tmp_path_factory.mktemp("rounds"))], capture_output=True,
        text=True, timeout=500, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_fedavg_weighs_by_cases_where_they_may_be_known(found: dict[str, Any]) -> None:
    trained = found["fedavg"]["trained"]
    north, south = (np.array(trained[name]) for name in ("north", "south"))
    assert found["fedavg"]["model"] == pytest.approx(0.8 * north + 0.2 * south, abs=1e-6)
    for name in ("alike", "silent"):
        assert found[name]["model"] == pytest.approx((north + south) / 2, abs=1e-6)
    assert {cases for _, cases, _ in found["silent"]["accepted"]} == {1.0}


def test_fedprox_keeps_the_sites_near(found: dict[str, Any]) -> None:
    assert all(asked["prox-mu"] == 2.0 for asked in found["fedprox"]["asked"])
    norms = {name: [norm for _, _, norm in found[name]["accepted"]] for name in ("fedavg", "fedprox")}
    assert max(norms["fedprox"]) < 0.2 * min(norms["fedavg"])


def test_fedadam_is_its_formula_and_fedyogi_goes_on_to_the_bit(found: dict[str, Any]) -> None:
    trained = found["fedadam"]["trained"]
    delta = 0.8 * np.array(trained["north"]) + 0.2 * np.array(trained["south"]) - START
    rate = 0.1 * np.sqrt(1 - 0.99**2) / (1 - 0.9**2)  # Flower's bias correction takes the round plus one
    expected = START + rate * 0.1 * delta / (np.sqrt(0.01 * delta**2) + 1e-3)
    assert found["fedadam"]["model"] == pytest.approx(expected, abs=1e-6)
    assert found["fedyogi"]["straight"] == found["fedyogi"]["stopped"]


def test_clipping_and_noise(found: dict[str, Any]) -> None:
    assert found["clip at site"]["model"] == pytest.approx(found["clip here"]["model"], abs=1e-6)
    assert [norm for _, _, norm in found["clip at site"]["accepted"]] == pytest.approx([0.5, 0.5], abs=1e-5)
    noise = np.array(found["noise"]["model"]) - np.array(found["clip at site"]["model"])
    assert 0.01 < np.abs(noise).max() < 0.25 * 6  # 0.5 / 2 sites is its standard deviation
    for _, _, norm in found["local"]["accepted"]:
        assert norm < 0.5 + 0.0484 * 6 * np.sqrt(5) and norm != pytest.approx(0.5, abs=1e-6)


def test_a_site_withholds_what_its_policy_forbids(found: dict[str, Any]) -> None:
    assert found["few"]["reasons"] == ["south: policy.min_cases: trained on 10 cases, at least 20 are needed"]
    assert len(found["few"]["sent"]) == 1 and "no round changed the start model" in found["few"]["error"]


def test_rogue_updates_are_refused_by_name_and_the_round_goes_on(found: dict[str, Any]) -> None:
    said = {(site, number): refusal for site, number, refusal in found["rogues"]["said"]}
    words = {"nan": "holds NaN", "shape": "b has shape (3,)", "huge": "guard.max_"}
    for number in (1, 2):
        assert said["north", number] is said["south", number] is None
        assert all(text in said[kind, number] for kind, text in words.items())
    assert said["replay", 1] is None and "was sent before (round 1)" in said["replay", 2]
    assert found["rogues"]["finished"] == [[3, True], [2, True]]


@pytest.mark.parametrize("name", ["fedavg", "fedprox", "alike and clipped"])
def test_a_rehearsal_gives_flowers_weights_to_the_bit(found: dict[str, Any], name: str) -> None:
    flower, rehearsal = found["rehearsal"][name]
    assert flower == rehearsal and len(set(flower)) == len(flower) >= 2


@pytest.mark.parametrize("name", ["fedavg", "fedprox", "fedadam", "clip at site", "clip here", "noise", "local"])
def test_what_left_is_what_came(found: dict[str, Any], name: str) -> None:
    case = found[name]
    assert sorted(sha256 for sha256, _ in case["sent"]) == sorted(case["taken"])
    assert sorted(norm for _, norm in case["sent"]) == pytest.approx(sorted(norm for _, _, norm in case["accepted"]))
    assert case["whole"] == [[], [], []]
