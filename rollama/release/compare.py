"""Hold a candidate against the released model, case by case, everywhere the protocol looks.

Both models are scored on the same cases, so what is judged is the mean of the paired differences, with an interval
over patients (`rollama.evaluation.statistics`). Every rule is judged for all cases together, at every centre and in
every subgroup; all of them have to hold, so no average hides a centre, and looking at many parts makes a wrong release
less likely, not more (the price is a refusal now and then that more cases would have spared).

With d the difference turned so that positive is better, [low, high] its interval and m the margin:

    passed          low >= -m (where the protocol judges parts by the mean alone: mean >= -m)
    refused         high < 0: surely worse, and not shown to be by less than m
    under-powered   fewer cases than the protocol asks for; or the interval reaches further from its mean than m, so
                    that even a candidate without any difference might not have passed
    refused         anything else: cases enough, and not shown
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rollama.core.errors import DataError
from rollama.evaluation import statistics
from rollama.release.metrics import is_rate
from rollama.release.protocol import Figure, Limit, Protocol, Rule
from rollama.release.scores import Groups, Scores
from rollama.release.verdict import Finding, Outcome

ALL = "all centres"
Values = dict[str, float]


@dataclass(frozen=True)
class _Part:
    """Cases that are judged together; `least` of them are needed."""

    kind: str
    name: str
    cases: frozenset[str]
    least: int


def compare(
    protocol: Protocol,
    candidate: Scores,
    released: Scores | None,
    groups: Groups,
    unchanged: Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Judge every rule and limit of the protocol.

    Args:
        protocol: what to judge.
        candidate: its scores.
        released: the released model's, on the same cases; None for a first release, which only the limits judge.
        groups: of the cases.
        unchanged: tasks that a model alone decides which is the released one to the bit: their rules hold as they are.
        progress: called with (rules and limits done, all of them).

    Raises:
        DataError: the two were not scored on the same cases.
    """
    if released is not None and candidate.centres != released.centres:
        odd = sorted(candidate.centres.keys() ^ released.centres.keys())
        raise DataError(
            f"candidate and released model were not scored on the same cases; {len(odd)} differ, such as "
            f"{', '.join(odd[:5]) or 'their centres'}; evaluate both on one data set"
        )
    parts = _parts(protocol, candidate.centres, groups)
    total = len(protocol.rules) + len(protocol.limits)
    findings: list[Finding] = []
    for done, figure in enumerate((*protocol.rules, *protocol.limits), 1):
        if isinstance(figure, Rule):
            findings += _judge_rule(protocol, figure, candidate, released, parts, unchanged)
        elif isinstance(figure, Limit):
            findings += _judge_limit(protocol, figure, candidate, parts)
        if progress:
            progress(done, total)
    return findings


def _parts(protocol: Protocol, centres: Mapping[str, str], groups: Groups) -> list[_Part]:
    least = protocol.cases
    parts = [_Part("all", ALL, frozenset(centres), least.all)]
    for centre in sorted({*centres.values(), *protocol.centres.needed}):
        cases = frozenset(name for name, where in centres.items() if where == centre)
        parts.append(_Part("centre", centre, cases, least.centre))
    for key in protocol.subgroups.by:
        for value in sorted({mine[key] for name, mine in groups.items() if key in mine and name in centres}):
            cases = frozenset(name for name in centres if groups.get(name, {}).get(key) == value)
            parts.append(_Part("subgroup", f"{key}: {value}", cases, least.subgroup))
    return parts


def _judge_rule(
    protocol: Protocol,
    rule: Rule,
    candidate: Scores,
    released: Scores | None,
    parts: Sequence[_Part],
    unchanged: Collection[str],
) -> Iterator[Finding]:
    mine = candidate.get(rule)
    if mine is None:
        yield _unmeasured(rule, "non-inferiority")
        return
    if released is None:
        yield Finding(
            kind="non-inferiority", figure=rule.name, outcome=Outcome.TOLD, n=len(mine), candidate=_mean(mine),
            remark="nothing is released yet to compare with; only the limits judge",
        )  # fmt: skip
        return
    if rule.task in unchanged and rule.input != "generated":
        yield Finding(
            kind="non-inferiority", figure=rule.name, outcome=Outcome.PASSED, n=len(mine), candidate=_mean(mine),
            released=_mean(mine), remark="the released model itself",
        )  # fmt: skip
        return
    theirs = released.get(rule)
    if theirs is None:
        yield _unmeasured(rule, "non-inferiority", "of the released model")
        return
    for part in parts:
        names = [name for name in sorted(part.cases) if name in mine and name in theirs]
        if not names:
            if part.kind != "subgroup":
                yield _too_few(rule, "non-inferiority", part, 0, Outcome.UNDERPOWERED)
            continue
        yield _non_inferior(protocol, rule, part, names, mine, theirs, candidate.centres)


def _non_inferior(
    protocol: Protocol, rule: Rule, part: _Part, names: Sequence[str], mine: Values, theirs: Values,
    centres: Mapping[str, str],
) -> Finding:  # fmt: skip
    a, b = [mine[name] for name in names], [theirs[name] for name in names]
    if rule.better < 0:
        a, b = b, a
    where = [centres[name] for name in names]
    if is_rate(rule.task, rule.metric):
        found = statistics.paired_rates(a, b, protocol.level)
    else:
        found = statistics.paired_difference(a, b, where, level=protocol.level)
    one_sided = sum(math.isnan(mine[name]) != math.isnan(theirs[name]) for name in names)
    remark = f"{one_sided} cases have a value for one of the two models only" if one_sided else ""
    margin, bound = {
        "all": (rule.margin, "low"),
        "centre": (rule.at_centre, protocol.centres.bound),
        "subgroup": (rule.in_subgroup, protocol.subgroups.bound),
    }[part.kind]
    common = {
        "kind": "non-inferiority", "figure": rule.name, "group": part.name, "part": part.kind, "value": found.mean,
        "low": found.low, "high": found.high, "n": found.n, "limit": -margin,
        "candidate": _mean({name: mine[name] for name in names}),
        "released": _mean({name: theirs[name] for name in names}),
    }  # fmt: skip
    if found.n < part.least or found.mean is None or found.low is None or found.high is None:
        outcome = _small(protocol, part)
        return Finding(**common, outcome=outcome, remark=_joined(f"needs at least {part.least} cases", remark))
    outcome, why = judge(found.mean, found.low, found.high, margin, bound == "mean")
    return Finding(**common, outcome=outcome, remark=_joined(why, remark))


def judge(mean: float, low: float, high: float, margin: float, by_mean: bool = False) -> tuple[Outcome, str]:
    """The answer for one difference (see the module) and its reason; empty when it passed."""
    if (mean if by_mean else low) >= -margin:
        return Outcome.PASSED, ""
    beyond = "worse by more than the margin"
    if high < 0:
        return (
            Outcome.REFUSED,
            beyond if mean < -margin else "surely worse, and not shown to be by less than the margin",
        )
    if mean - low > margin:
        return Outcome.UNDERPOWERED, "the interval is too wide for the margin; more cases would tell"
    return Outcome.REFUSED, beyond if mean < -margin else "not shown to be worse by less than the margin"


def _judge_limit(protocol: Protocol, limit: Limit, candidate: Scores, parts: Sequence[_Part]) -> Iterator[Finding]:
    mine = candidate.get(limit)
    if mine is None:
        yield _unmeasured(limit, "limit")
        return
    for part in parts:
        if part.kind == "subgroup" or (part.kind == "centre" and limit.each == "all"):
            continue
        names = [name for name in sorted(part.cases) if name in mine]
        if not names:
            yield _too_few(limit, "limit", part, 0, Outcome.UNDERPOWERED)
            continue
        values = [mine[name] for name in names]
        if is_rate(limit.task, limit.metric):
            found = statistics.rate(values, protocol.level)
        else:
            found = statistics.estimate(values, [candidate.centres[name] for name in names], level=protocol.level)
        value = {"mean": found.mean, "low": found.low, "high": found.high}[limit.bound]
        bound = limit.at_least if limit.at_least is not None else limit.at_most
        common = {
            "kind": "limit", "figure": limit.name, "group": part.name, "part": part.kind, "value": found.mean,
            "low": found.low, "high": found.high, "n": found.n, "limit": bound, "candidate": found.mean,
        }  # fmt: skip
        assert bound is not None
        broken = value is not None and (value < bound if limit.at_least is not None else value > bound)
        word = "at least" if limit.at_least is not None else "at most"
        if broken:  # also with few cases: what was seen was seen
            yield Finding(**common, outcome=Outcome.REFUSED, remark=f"{word} {bound:g} ({limit.bound}) is demanded")
        elif value is None or found.n < part.least:
            yield Finding(**common, outcome=Outcome.UNDERPOWERED, remark=f"needs at least {part.least} cases")
        else:
            yield Finding(**common, outcome=Outcome.PASSED)


def _small(protocol: Protocol, part: _Part) -> Outcome:
    told = part.kind == "subgroup" and protocol.subgroups.small == "tell"
    return Outcome.TOLD if told else Outcome.UNDERPOWERED


def _too_few(figure: Figure, kind: str, part: _Part, n: int, outcome: Outcome) -> Finding:
    return Finding(
        kind=kind, figure=figure.name, group=part.name, part=part.kind, n=n, outcome=outcome,
        remark=f"needs at least {part.least} cases",
    )  # fmt: skip


def _unmeasured(figure: Figure, kind: str, whose: str = "of the candidate") -> Finding:
    return Finding(
        kind=kind, figure=figure.name, outcome=Outcome.UNDERPOWERED, remark=f"was not measured {whose}",
    )  # fmt: skip


def _joined(*remarks: str) -> str:
    return "; ".join(remark for remark in remarks if remark)


def _mean(values: Mapping[str, float]) -> float | None:
    known = [value for value in values.values() if not math.isnan(value)]
    return sum(known) / len(known) if known else None
