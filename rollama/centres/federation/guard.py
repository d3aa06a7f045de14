"""What the coordinator checks of every update before it is averaged: one bad site must not spoil everybody's model.

Refusals are by site; the round goes on with the others. A site that lies within the limits is not found here: that is
what evaluation per centre is for, before anything is released.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from rollama.centres.federation.config import GuardSection
from rollama.centres.federation.policy import check_forms
from rollama.centres.federation.weights import Tensors, digest, distance, size, total_bytes
from rollama.core.errors import RollamaError

SPREAD_FROM = 3
"""Updates from which on a median says something about one of them."""


class Refused(RollamaError):
    """An update that is not averaged."""


@dataclass(frozen=True)
class Update:
    """What a site sent back for a round."""

    node: str
    site: str
    tensors: Tensors = field(repr=False)
    cases: float
    nonce: str


@dataclass(frozen=True)
class Verdict:
    """An update with its hash and norm, and why it is refused (None: it is not)."""

    update: Update
    sha256: str
    norm: float | None
    refusal: str | None

    @property
    def facts(self) -> dict[str, Any]:
        """What a round's facts and the record keep of it; no tensor."""
        update = self.update
        return {
            "node": update.node, "site": update.site, "sha256": self.sha256, "norm": self.norm, "cases": update.cases,
            "bytes": total_bytes(update.tensors), "refusal": self.refusal,
        }  # fmt: skip


def sift(
    updates: Iterable[Update],
    weights: Mapping[str, np.ndarray],
    nonce: str,
    seen: Mapping[str, int],
    guard: GuardSection,
) -> list[Verdict]:
    """Judge a round's updates.

    Args:
        updates: at most one counts of each node.
        weights: what the round began with.
        nonce: the round's; an answer to another round carries another.
        seen: hashes of updates of earlier rounds, and in which.
        guard: the limits.
    """
    found: list[Verdict] = []
    nodes: set[str] = set()
    hashes: dict[str, int] = dict(seen)
    for update in updates:
        value = digest(update.tensors)
        norm: float | None = None
        try:
            if update.node in nodes:
                raise Refused("a second update of the same node")
            if update.nonce != nonce:
                raise Refused("answers another round (wrong nonce)")
            if value in hashes:
                when = f"round {hashes[value]}" if hashes[value] >= 0 else "this round"
                raise Refused(f"the same update was sent before ({when})")
            if not (np.isfinite(update.cases) and update.cases > 0):
                raise Refused(f"says {update.cases} cases")
            check_forms(update.tensors, weights, "the update", Refused)
            norm = distance(update.tensors, weights)
            if norm > guard.max_relative * size(weights):
                raise Refused(
                    f"guard.max_relative: norm {norm:.3g} is more than {guard.max_relative} of the weights' "
                    f"{size(weights):.3g}"
                )
            refusal = None
        except Refused as error:
            refusal = str(error)
        nodes.add(update.node)
        hashes.setdefault(value, -1)
        found.append(Verdict(update, value, norm, refusal))
    return _spread(found, guard)


def _spread(found: list[Verdict], guard: GuardSection) -> list[Verdict]:
    """Refuse updates far larger than their round's median."""
    norms = [verdict.norm for verdict in found if verdict.refusal is None and verdict.norm is not None]
    if len(norms) < SPREAD_FROM:
        return found
    limit = guard.max_times_median * median(norms)
    return [
        Verdict(
            verdict.update,
            verdict.sha256,
            verdict.norm,
            f"guard.max_times_median: norm {verdict.norm:.3g} is more than {guard.max_times_median} times the round's "
            f"median {median(norms):.3g}",
        )
        if verdict.refusal is None and verdict.norm is not None and verdict.norm > limit
        else verdict
        for verdict in found
    ]
