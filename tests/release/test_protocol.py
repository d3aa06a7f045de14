"""Protocols that contradict themselves are refused with the keys named; the one in the package is accepted."""

import pytest
import yaml

from rollama.core.errors import ConfigError
from rollama.release.protocol import example, parse_protocol
from tests.release.tables import RULES

DICE = {"task": "seg", "metric": "dice", "margin": 0.02}
EMPTY = [{"task": "seg", "metric": name, "at_most": 0.02} for name in ("missed", "invented")]


def parse(**changes):
    return parse_protocol(yaml.safe_dump({**RULES, **changes}).encode(), "p.yaml")


def test_the_example_is_accepted():
    protocol = parse_protocol(example().encode(), "protocol.yaml")
    assert len(protocol.rules) == 9 and protocol.inputs.counterfactual


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rulez": []}, "unknown key 'rulez'; did you mean 'rules'?"),
        ({"rules": [{**DICE, "metric": "dise"}]}, "seg.dise: no such metric; did you mean 'dice'?"),
        ({"rules": [DICE, {**DICE, "margin": 0.05}]}, "rules[0] and rules[1] are both about seg.dice"),
        ({"rules": [{**DICE, "margin": 1.0}]}, "rules[0].margin is 1, the whole range of seg.dice"),
        ({"rules": [{**DICE, "centre_margin": 0.01}]}, "rules[0].centre_margin is 0.01 and margin is 0.02"),
        ({"limits": []}, "nothing judges invented and missed"),
        (
            {"limits": [*EMPTY, {"task": "seg", "metric": "dice", "at_least": 1.2}]},
            "limits[2].at_least is 1.2; seg.dice lies between 0 and 1",
        ),
        (
            {"limits": [*EMPTY, {"task": "seg", "metric": "dice", "at_least": 0.9},
                        {"task": "seg", "metric": "dice", "at_most": 0.8}]},
            "limits[2].at_least 0.9 and limits[3].at_most 0.8 cannot both hold",
        ),
        (
            {"limits": [*EMPTY, {"task": "seg", "metric": "wrong_side", "at_most": 0.0, "bound": "high"}]},
            "no number of cases can show; use bound: mean",
        ),
        (
            {"limits": [*EMPTY, {"task": "seg", "metric": "wrong_side", "at_least": 0.5}]},
            "the limit would refuse the better models",
        ),
        (
            {"rules": [DICE, {"task": "counterfactual", "metric": "success", "margin": 0.1}]},
            "rules[1] judges counterfactual.success, and inputs.counterfactual is false",
        ),
        ({"inputs": {"corrupted": ["noise"]}}, "inputs.corrupted asks for 'noise', and no rule or limit judges it"),
        ({"inputs": {"corrupted": ["nose"]}}, "no corruption 'nose'; did you mean 'noise'?"),
        ({"rules": [{"task": "p", "metric": "rougeL", "margin": 0.1, "input": "noise"}],
          "inputs": {"corrupted": ["noise"]}}, "rules[0].input 'noise' is not one for p"),
        ({"cases": {"all": 10, "centre": 20, "subgroup": 5}}, "cases.all is 10 and cases.centre 20"),
        ({"subgroups": {"by": ["sides"]}}, "no group 'sides'; did you mean 'side'?"),
        ({"changes": {"seg": ["stepz"]}}, "changes.seg: no configuration key 'stepz'; did you mean 'steps'?"),
        ({"approval": {"needed": 2, "keys": ["a" * 64]}}, "approval.needed is 2 and approval.keys names 1"),
        ({"level": 95}, "level: found 95"),
    ],
)  # fmt: skip
def test_contradictions_are_refused_by_key(changes, words):
    with pytest.raises(ConfigError) as caught:
        parse(**changes)
    assert words in str(caught.value)


def test_a_file_that_is_no_text_is_refused():
    with pytest.raises(ConfigError, match="not UTF-8"):
        parse_protocol(b"\xff\xfe", "p.yaml")
