"""The gate's answers on drawn scores: better, equal, worse, worse at one centre, too few; each with its figures."""

import math

import pytest

from rollama.core.errors import DataError
from rollama.release.compare import compare, judge
from rollama.release.verdict import Outcome, Refused, Underpowered, Verdict, demand, overall
from tests.release.tables import CENTRES, RELEASED, SIDES, draw, protocol, with_value


def gate(candidate, rules=None, released=RELEASED, groups=SIDES):
    findings = compare(rules or protocol(), candidate, released, groups)
    return findings, overall(findings)


def find(findings, figure, group):
    return next(item for item in findings if item.figure == figure and item.group == group)


def test_a_better_candidate_passes_with_its_gain_shown():
    findings, outcome = gate(draw(0.03))
    assert outcome is Outcome.PASSED
    dice = find(findings, "seg.dice", "all centres")
    assert dice.n == 120 and dice.low == pytest.approx(0.03, abs=0.008) and dice.low < dice.value < dice.high
    assert dice.candidate - dice.released == pytest.approx(dice.value) and dice.limit == -0.02
    assert {item.group for item in findings if item.figure == "seg.dice"} == {
        "all centres", *CENTRES, "side: left", "side: right",
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(1, 4))
def test_an_equal_candidate_passes(seed):
    assert gate(draw(0.0, seed=seed))[1] is Outcome.PASSED


@pytest.mark.parametrize("seed", range(1, 4))
def test_a_slightly_worse_candidate_is_refused_by_the_figure_and_margin(seed):
    findings, outcome = gate(draw(-0.025, seed=seed))
    assert outcome is Outcome.REFUSED
    dice = find(findings, "seg.dice", "all centres")
    assert dice.outcome is Outcome.REFUSED and dice.value == pytest.approx(-0.025, abs=0.006)
    assert "worse by more than the margin" in dice.remark


def test_better_on_average_but_worse_at_one_centre_is_refused_and_the_centre_named():
    findings, outcome = gate(draw(0.05, west=-0.05))
    assert outcome is Outcome.REFUSED
    assert find(findings, "seg.dice", "all centres").outcome is Outcome.PASSED
    assert find(findings, "seg.dice", "all centres").value > 0.01
    against = [(item.figure, item.group) for item in findings if item.outcome is Outcome.REFUSED]
    assert against == [("seg.dice", "west"), ("p.fields_mean", "west")]
    assert find(findings, "seg.dice", "west").high < -0.03


def test_a_worse_subgroup_is_refused_although_every_centre_is_well():
    sides = {name: {"side": "left" if i % 8 == 0 else "right"} for i, name in enumerate(RELEASED.centres)}
    candidate = draw(0.02)
    for name in (name for name, mine in sides.items() if mine["side"] == "left"):
        candidate = with_value(candidate, "dice", name, RELEASED.values["seg", "reference", "dice"][name] - 0.05)
    findings, outcome = gate(candidate, groups=sides)
    assert outcome is Outcome.REFUSED
    assert [item.group for item in findings if item.outcome is Outcome.REFUSED] == ["side: left"]


def test_too_few_cases_are_their_own_answer():
    few = {"north": 40, "south": 40, "west": 9}
    findings, outcome = gate(draw(0.05, centres=few), released=draw(spread=0.0, centres=few))
    assert outcome is Outcome.UNDERPOWERED
    west = find(findings, "seg.dice", "west")
    assert (west.outcome, west.n) == (Outcome.UNDERPOWERED, 9) and "needs at least 15 cases" in west.remark
    assert find(findings, "seg.dice", "north").outcome is Outcome.PASSED


def test_a_centre_that_the_protocol_needs_cannot_be_left_out_of_the_data():
    findings, outcome = gate(draw(0.05), protocol(centres={"needed": ["east"]}))
    assert outcome is Outcome.UNDERPOWERED
    east = find(findings, "seg.dice", "east")
    assert (east.outcome, east.n) == (Outcome.UNDERPOWERED, 0)


def test_intervals_wider_than_the_margin_are_under_powered():
    findings, outcome = gate(draw(0.0, spread=0.2, seed=8))
    assert outcome is Outcome.UNDERPOWERED
    wide = [item for item in findings if item.outcome is Outcome.UNDERPOWERED]
    assert wide and all(item.value - item.low > -item.limit and item.high > 0 for item in wide)


@pytest.mark.parametrize(
    ("mean", "low", "high", "outcome"),
    [
        (0.0, -0.01, 0.01, Outcome.PASSED),
        (-0.019, -0.02, -0.018, Outcome.PASSED),  # surely worse, and surely by less than the margin
        (-0.03, -0.2, 0.14, Outcome.UNDERPOWERED),  # the figure is beyond the margin, and it may be chance
        (-0.03, -0.045, -0.015, Outcome.REFUSED),
        (-0.025, -0.04, 0.001, Outcome.REFUSED),
        (-0.01, -0.025, -0.001, Outcome.REFUSED),
        (0.0, -0.05, 0.05, Outcome.UNDERPOWERED),
        (-0.012, -0.03, 0.006, Outcome.REFUSED),
    ],
)
def test_the_answer_for_one_interval(mean, low, high, outcome):
    assert judge(mean, low, high, 0.02)[0] is outcome


def test_parts_that_are_judged_by_the_mean_pass_by_it_and_fail_by_the_interval():
    assert judge(-0.01, -0.2, 0.2, 0.02, by_mean=True)[0] is Outcome.PASSED
    assert judge(-0.03, -0.2, 0.2, 0.02, by_mean=True)[0] is Outcome.UNDERPOWERED
    assert judge(-0.03, -0.05, -0.01, 0.02, by_mean=True)[0] is Outcome.REFUSED


def test_lower_is_better_for_distances():
    rules = protocol(
        rules=[{"task": "seg", "metric": "hd95_mm", "margin": 3.0}],
        limits=[{"task": "seg", "metric": metric, "at_most": 0.02} for metric in ("missed", "invented")],
    )

    def scores(shift):
        drawn = draw(0.0)
        values = {name: 12.0 + shift + i % 3 for i, name in enumerate(drawn.centres)}
        return type(drawn)({**drawn.values, ("seg", "reference", "hd95_mm"): values}, drawn.centres)

    assert gate(scores(-5.0), rules, scores(0.0))[1] is Outcome.PASSED
    findings, outcome = gate(scores(4.0), rules, scores(0.0))
    assert outcome is Outcome.REFUSED
    worse = find(findings, "seg.hd95_mm", "all centres")
    assert worse.value == pytest.approx(-4.0) and worse.candidate == pytest.approx(worse.released + 4.0)


def test_yes_and_no_figures_without_an_error_keep_an_interval():
    few = {"north": 6, "south": 6, "west": 6}
    rules = protocol(
        cases={"all": 6, "centre": 2, "subgroup": 2}, subgroups={},
        rules=[{"task": "seg", "metric": "wrong_side", "margin": 0.05}],
    )  # fmt: skip
    same = draw(spread=0.0, centres=few)
    findings, outcome = gate(same, rules, same)
    assert outcome is Outcome.UNDERPOWERED
    assert find(findings, "seg.wrong_side", "all centres").low == pytest.approx(-0.176, abs=0.01)


def test_a_hard_limit_holds_at_every_centre_whatever_the_average():
    candidate = with_value(draw(0.05), "wrong_side", "south-003", 1.0)
    findings, outcome = gate(candidate)
    assert outcome is Outcome.REFUSED
    against = [(item.kind, item.figure, item.group) for item in findings if item.outcome is Outcome.REFUSED]
    assert against == [("limit", "seg.wrong_side", "all centres"), ("limit", "seg.wrong_side", "south")]


def test_a_first_release_is_judged_by_the_limits_alone():
    findings, outcome = gate(draw(-0.5), released=None)
    assert outcome is Outcome.PASSED
    told = [item for item in findings if item.outcome is Outcome.TOLD]
    assert [item.figure for item in told] == ["seg.dice", "p.fields_mean"]
    assert gate(with_value(draw(), "missed", "north-001", 1.0), released=None)[1] is Outcome.REFUSED


def test_a_model_that_is_the_released_one_is_not_compared_with_itself():
    findings = compare(protocol(), draw(0.0), RELEASED, SIDES, unchanged={"p"})
    (plan,) = [item for item in findings if item.figure == "p.fields_mean"]
    assert plan.outcome is Outcome.PASSED and plan.remark == "the released model itself"


def test_what_was_not_measured_never_passes():
    missing = draw(0.0)
    missing.values.pop(("p", "reference", "fields_mean"))
    findings, outcome = gate(missing)
    assert outcome is Outcome.UNDERPOWERED
    assert find(findings, "p.fields_mean", "all centres").remark == "was not measured of the candidate"


def test_values_of_one_model_only_are_told():
    candidate = with_value(draw(0.03), "dice", "north-002", math.nan)
    dice = find(gate(candidate)[0], "seg.dice", "north")
    assert dice.n == 39 and "1 cases have a value for one of the two models only" in dice.remark


def test_other_cases_are_refused():
    few = {"north": 39, "south": 40, "west": 40}
    with pytest.raises(DataError, match="not scored on the same cases; 1 differ, such as north-039"):
        compare(protocol(), draw(centres=few), RELEASED, SIDES)


def test_the_refusal_says_rule_centre_and_figure():
    findings, outcome = gate(draw(0.05, west=-0.05))
    digest = "@sha256:" + 64 * "0"
    verdict = Verdict(
        synthetic=True, created="2026-01-01T00:00:00+00:00", candidate=dict.fromkeys(("s", "p", "seg"), "x" + digest),
        hashes={}, protocol={}, dataset={}, trained_on={}, tables={}, findings=findings, outcome=outcome,
    )  # fmt: skip
    with pytest.raises(
        Refused, match=r"seg.dice, west \(n = 40\): -0.05\d \[-0.05\d, -0.04\d\] against -0.030"
    ) as told:
        demand(verdict)
    assert told.value.exit_code == 3
    with pytest.raises(Underpowered) as unsure:
        demand(verdict.updated(outcome=Outcome.UNDERPOWERED))
    assert unsure.value.exit_code == 4
