"""What a site lets out, and what the coordinator takes in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rollama.centres.federation.config import CountsPolicy, GuardSection, Policy, read_federation, read_site
from rollama.centres.federation.guard import Update, sift
from rollama.centres.federation.policy import Withheld, count_said, outgoing
from rollama.centres.federation.weights import Tensors, digest, distance
from rollama.core.errors import ConfigError

AGREED: Tensors = {"a.lora_A": np.ones((2, 3), np.float32), "a.lora_B": np.zeros((3, 2), np.float32)}
NONCE = "now"


def moved(by: float) -> Tensors:
    return {name: (value + by).astype(np.float32) for name, value in AGREED.items()}


def allow(**changes: object) -> Policy:
    return Policy.model_validate({"max_norm": 10.0, "max_relative": 5.0, **changes})


def test_an_update_within_the_policy_leaves_as_it_is() -> None:
    sent, norms = outgoing(moved(0.1), AGREED, AGREED, 8, allow())
    assert digest(sent) == digest(moved(0.1))
    assert norms["norm"] == norms["norm_sent"] == pytest.approx(0.1 * np.sqrt(12), rel=1e-5)


def test_a_long_update_is_scaled_to_the_largest_norm() -> None:
    sent, norms = outgoing(moved(1.0), AGREED, AGREED, 8, allow(max_norm=0.5))
    assert distance(sent, AGREED) == pytest.approx(0.5, rel=1e-5) == norms["norm_sent"]
    assert norms["norm"] == pytest.approx(np.sqrt(12))
    assert all(value.dtype == np.float32 for value in sent.values())


@pytest.mark.parametrize(
    ("trained", "cases", "changes", "words"),
    [
        (moved(0.1), 4, {}, r"policy.min_cases: trained on 4 cases, at least 5"),
        (moved(9.0), 8, {}, r"policy.max_relative: the update has norm 31.2"),
        (moved(0.1), 8, {"tensors": ["*.lora_A"]}, r"policy.tensors: a.lora_B may not leave"),
        ({**moved(0.1), "notes": np.ones(1, np.float32)}, 8, {}, r"holds tensor notes"),
        ({"a.lora_A": AGREED["a.lora_A"]}, 8, {}, r"lacks tensor a.lora_B"),
        ({**moved(0.1), "a.lora_A": np.ones((4, 3), np.float32)}, 8, {}, r"a.lora_A has shape \(4, 3\), agreed is \(2"),
        ({**moved(0.1), "a.lora_A": np.ones((2, 3))}, 8, {}, r"a.lora_A is of type float64"),
        ({**moved(0.1), "a.lora_A": np.full((2, 3), np.nan, np.float32)}, 8, {}, r"a.lora_A holds NaN"),
    ],
)
def test_what_the_policy_withholds(trained: Tensors, cases: int, changes: dict[str, object], words: str) -> None:
    with pytest.raises(Withheld, match=words):
        outgoing(trained, AGREED, AGREED, cases, allow(**changes))


def test_the_number_of_cases_leaves_only_where_allowed() -> None:
    assert count_said(8, allow()) == 1
    assert count_said(8, allow(counts="cases")) == 8
    assert allow().counts is CountsPolicy.NONE


def verdicts(*updates: Update, seen: dict[str, int] | None = None) -> list[str | None]:
    return [verdict.refusal for verdict in sift(updates, AGREED, NONCE, seen or {}, GuardSection())]


def update(node: str, tensors: Tensors, cases: float = 8, nonce: str = NONCE) -> Update:
    return Update(node, f"site-{node}", tensors, cases, nonce)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (update("x", {**moved(0.1), "a.lora_B": np.full((3, 2), np.nan, np.float32)}), "holds NaN"),
        (update("x", {**moved(0.1), "a.lora_B": np.ones((2, 3), np.float32)}), "has shape"),
        (update("x", moved(100.0)), "guard.max_relative"),
        (update("x", moved(0.1), nonce="before"), "answers another round"),
        (update("x", moved(0.3)), "was sent before (round 4)"),
        (update("x", moved(0.1), cases=-1), "says -1 cases"),
        (update("x", moved(0.1), cases=float("nan")), "says nan cases"),
        (update("a", moved(0.15)), "a second update of the same node"),
        (update("x", moved(0.11)), "was sent before (this round)"),
    ],
)
def test_one_bad_update_is_refused_and_the_others_are_not(bad: Update, words: str) -> None:
    found = verdicts(update("a", moved(0.11)), bad, update("b", moved(0.12)), seen={digest(moved(0.3)): 4})
    assert found[0] is None and found[2] is None
    assert found[1] is not None and words in found[1]


def test_an_update_far_from_its_round_is_refused_from_three_on() -> None:
    assert verdicts(update("a", moved(0.01)), update("b", moved(0.4))) == [None, None]
    found = verdicts(update("a", moved(0.01)), update("b", moved(0.4)), update("c", moved(0.012)))
    assert found[0] is None and found[2] is None
    assert found[1] is not None and "times the round's median" in found[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rounds: 2\nname: x\nstrategy: fedprox", "fedprox needs prox_mu"),
        ("rounds: 2\nname: x\nprox_mu: 0.1", "fedprox needs prox_mu"),
        ("rounds: 2\nname: x\nsecure_aggregation: true", "secure_aggregation: not offered"),
        ("rounds: 2\nname: x\nprivacy: {kind: central}", "needs weight_by_cases false"),
        (
            "rounds: 2\nname: x\nstrategy: fedyogi\nweight_by_cases: false\nprivacy: {kind: central}",
            "fedavg and fedprox",
        ),
        ("rounds: 2\nname: ../x", "name"),
        ("rounds: 2\nname: x\nround: 2", "did you mean 'rounds'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "federation.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_federation(tmp_path)


def test_paths_of_a_site_are_relative_to_its_file(tmp_path: Path) -> None:
    text = "name: north\ncoordinator: host:9443\ntraining: {command: [train]}\npolicy: {max_norm: 1}\nca: tls/ca.pem\n"
    (tmp_path / "site.yaml").write_text(text)
    site = read_site(tmp_path / "site.yaml")
    assert site.ca == tmp_path / "tls" / "ca.pem" and site.state == tmp_path / "state"
    (tmp_path / "site.yaml").write_text(text.replace("host:9443", "https://host"))
    with pytest.raises(ConfigError, match="coordinator"):
        read_site(tmp_path / "site.yaml")
