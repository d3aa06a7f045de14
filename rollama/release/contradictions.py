"""Protocols that no model could pass, that every model would pass, or that say two things at once.

A protocol is read when nobody has figures yet; a rule that turns out impossible when a release is waiting is a rule
that somebody will want to change with the figures in hand.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from rollama.evaluation.corruptions import SCANS, TEXTS
from rollama.release.metrics import find
from rollama.release.protocol import GENERATED, REFERENCE, SUBGROUPS, Figure, Limit, Protocol, Rule

UNDEFINED_WHEN_EMPTY = ("dice", "iou", "hd95_mm", "hd95_pooled_mm", "surface_dice_2mm", "surface_dice_3mm",
                        "surface_dice_5mm", "wrong_side")  # fmt: skip
"""Not defined for a case in which both masks, or either, are empty: such cases leave the comparison."""


def contradictions(protocol: Protocol) -> list[str]:
    """Everything that is wrong between the protocol's keys, a sentence each that names them."""
    found = [
        *_twice(protocol.rules, "rules"),
        *_margins(protocol),
        *_limits(protocol),
        *_empty_masks(protocol),
        *_inputs(protocol),
        *_groups(protocol),
        *_changes(protocol),
    ]
    approval = protocol.approval
    if approval.keys and approval.needed > len(set(approval.keys)):
        found.append(f"approval.needed is {approval.needed} and approval.keys names {len(set(approval.keys))} keys")
    if approval.keys and not approval.needed:
        found.append("approval.keys names people whom approval.needed: 0 asks for nothing")
    return found


def _twice(figures: Sequence[Figure], section: str) -> Iterator[str]:
    places: dict[str, list[int]] = defaultdict(list)
    for index, figure in enumerate(figures):
        places[figure.name].append(index)
    for name, indices in places.items():
        if len(indices) > 1:
            where = " and ".join(f"{section}[{index}]" for index in indices)
            yield f"{where} are both about {name}; keep one"


def _margins(protocol: Protocol) -> Iterator[str]:
    for index, rule in enumerate(protocol.rules):
        width = find(rule.task, rule.metric).width
        named = {"margin": rule.margin, "centre_margin": rule.centre_margin, "subgroup_margin": rule.subgroup_margin}
        for key, value in named.items():
            if value is not None and value >= width:
                yield f"rules[{index}].{key} is {value:g}, the whole range of {rule.name}: every model would pass"
        for narrow, wide in (("margin", "centre_margin"), ("centre_margin", "subgroup_margin")):
            a, b = named[narrow] or rule.margin, named[wide]
            if b is not None and b < a:
                yield (
                    f"rules[{index}].{wide} is {b:g} and {narrow} is {a:g}: a part may not be held closer than the "
                    "whole, which then says nothing"
                )


def _limits(protocol: Protocol) -> Iterator[str]:
    lowest: dict[str, tuple[float, int]] = {}
    highest: dict[str, tuple[float, int]] = {}
    for index, limit in enumerate(protocol.limits):
        metric = find(limit.task, limit.metric)
        key = "at_least" if limit.at_least is not None else "at_most"
        value = limit.at_least if limit.at_least is not None else limit.at_most
        assert value is not None
        where = f"limits[{index}].{key}"
        if not metric.low <= value <= metric.high or (key == "at_most" and value == metric.high):
            yield f"{where} is {value:g}; {limit.name} lies between {metric.low:g} and {metric.high:g}"
        side = lowest if key == "at_least" else highest
        if limit.name in side:
            yield f"limits[{side[limit.name][1]}] and limits[{index}] both say {key} for {limit.name}; keep one"
        side[limit.name] = (value, index)
        if (key == "at_most") != (metric.better < 0):
            word = "higher" if metric.better > 0 else "lower"
            yield f"{where}: {limit.name} is better when it is {word}, so the limit would refuse the better models"
        if _unreachable(limit, metric.low, metric.high):
            yield f"{where} is {value:g} with bound: {limit.bound}, which no number of cases can show; use bound: mean"
    for name in sorted(lowest.keys() & highest.keys()):
        (low, first), (high, second) = lowest[name], highest[name]
        if low > high:
            yield f"limits[{first}].at_least {low:g} and limits[{second}].at_most {high:g} cannot both hold for {name}"


def _unreachable(limit: Limit, low: float, high: float) -> bool:
    at_end = limit.at_most == low or limit.at_least == high
    careful = limit.bound == ("high" if limit.at_most is not None else "low")
    return at_end and careful


def _empty_masks(protocol: Protocol) -> Iterator[str]:
    """Dice leaves out cases with empty masks; without rules about those, a model could gain by drawing nothing."""
    judged: dict[str, set[str]] = defaultdict(set)
    for figure in (*protocol.rules, *protocol.limits):
        if figure.task == "seg":
            judged[figure.input].add(figure.metric)
    for source, names in judged.items():
        lacking = {"missed", "invented"} - names
        if lacking and names & set(UNDEFINED_WHEN_EMPTY):
            shown = ", ".join(sorted(names & set(UNDEFINED_WHEN_EMPTY)))
            yield (
                f"seg ({source}): {shown} leave out cases with an empty mask, and nothing judges "
                f"{' and '.join(sorted(lacking))}; add a rule or a limit for each"
            )


def _inputs(protocol: Protocol) -> Iterator[str]:
    figures: list[tuple[str, Rule | Limit]] = [
        *((f"rules[{index}]", rule) for index, rule in enumerate(protocol.rules)),
        *((f"limits[{index}]", limit) for index, limit in enumerate(protocol.limits)),
    ]
    asked = protocol.inputs.corrupted
    known: dict[str, tuple[str, ...]] = {"seg": tuple(SCANS), "s": tuple(TEXTS), "p": tuple(TEXTS)}
    for name in asked:
        if name not in SCANS and name not in TEXTS:
            near = difflib.get_close_matches(name, [*SCANS, *TEXTS], n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"accepted: {', '.join([*SCANS, *TEXTS])}"
            yield f"inputs.corrupted: no corruption {name!r}; {hint}"
        elif not any(figure.input == name for _, figure in figures):
            yield f"inputs.corrupted asks for {name!r}, and no rule or limit judges it"
    if len(set(asked)) < len(asked):
        yield "inputs.corrupted names a corruption twice"
    for where, figure in figures:
        if figure.task == "counterfactual" and not protocol.inputs.counterfactual:
            yield f"{where} judges {figure.name}, and inputs.counterfactual is false"
        if figure.input == GENERATED and figure.task == "s":
            yield f"{where}: s has no generated input, it is the first of the chain"
        elif figure.input not in (REFERENCE, GENERATED):
            if figure.input not in asked:
                yield f"{where}.input is {figure.input!r}, which inputs.corrupted does not name"
            elif figure.input not in known.get(figure.task, ()):
                yield f"{where}.input {figure.input!r} is not one for {figure.task}"


def _groups(protocol: Protocol) -> Iterator[str]:
    cases = protocol.cases
    if cases.all < cases.centre:
        yield f"cases.all is {cases.all} and cases.centre {cases.centre}: a centre cannot have more than all together"
    if cases.all < cases.subgroup:
        yield f"cases.all is {cases.all} and cases.subgroup {cases.subgroup}"
    for name in protocol.subgroups.by:
        if name not in SUBGROUPS and not (name.startswith("provenance.") and name.removeprefix("provenance.")):
            near = difflib.get_close_matches(name, SUBGROUPS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"accepted: {', '.join(SUBGROUPS)}, provenance.KEY"
            yield f"subgroups.by: no group {name!r}; {hint}"
    if not protocol.subgroups.by and any(rule.subgroup_margin is not None for rule in protocol.rules):
        yield "subgroup_margin is given, and subgroups.by names no group"


def _changes(protocol: Protocol) -> Iterator[str]:
    for model in ("s", "p", "seg"):
        keys = config_keys(model)
        for pattern in getattr(protocol.changes, model):
            if not fnmatch.filter(keys, pattern):
                near = difflib.get_close_matches(pattern, keys, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "see 'rollama info' and docs/training.md"
                yield f"changes.{model}: no configuration key {pattern!r}; {hint}"


def config_keys(model: str) -> list[str]:
    """Dotted keys of the configuration of `s`, `p` or `seg`."""
    from rollama.segmentation.config import SegConfig
    from rollama.text.config import TextConfig

    return list(flatten((SegConfig if model == "seg" else TextConfig)().model_dump(mode="json")))


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """{"zero": {"stage": 2}} -> {"zero.stage": 2}."""
    if isinstance(values, BaseModel):
        values = values.model_dump(mode="json")
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flatten(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
