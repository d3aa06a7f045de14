"""Rounds of a federation in one process, on data that one machine reaches: what would it give, before anybody is asked?

Everything that decides the weights is what coordinator and sites run: the site's policy, the coordinator's guard, the
order of the sums, the rounds on disk and the final artefact. Left out is what carries: Flower, its processes, TLS, keys
and the record of what left. Flower's mean is written down here once more, since its packages and the training's cannot
be installed together; that both give the same bits is tested in Flower's environment (`tests/centres/test_rounds.py`)
and shown with a real federation in docs/results/centres.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from rollama.centres.federation.config import Federation, Policy, Strategy
from rollama.centres.federation.guard import Update, sift
from rollama.centres.federation.policy import count_said, outgoing
from rollama.centres.federation.state import REHEARSED, finish, keep_round, standing
from rollama.centres.federation.weights import Tensors, digest
from rollama.core.errors import ConfigError, RollamaError

Train = Callable[[str, int, Tensors], tuple[Tensors, int]]
"""(site, round, weights that came) -> (trained weights, cases they were trained on)."""


def rehearse(folder: Path, federation: Federation, sites: Sequence[str], train: Train, policy: Policy) -> Path:
    """All rounds that are left, as `server_app.coordinate` would run them; returns the final artefact.

    The manifest of the artefact says how many rounds were rehearsed.

    Args:
        folder: the coordinator's, with or without earlier rounds.
        federation: its settings; FedAvg or FedProx, without differential privacy.
        sites: their names.
        train: a site's training.
        policy: of every site.

    Raises:
        ConfigError: a strategy or privacy that only Flower computes.
        RollamaError: a site's policy lets nothing leave, or no round changed the start model.
    """
    plain = federation.privacy.kind == "none" and policy.local_privacy is None
    if federation.strategy not in (Strategy.FEDAVG, Strategy.FEDPROX) or not plain:
        raise ConfigError(
            f"{federation.name}: strategy {federation.strategy}{'' if plain else ' with differential privacy'} is "
            "Flower's to compute; a rehearsal averages (fedavg, fedprox) without privacy"
        )
    now = standing(folder, federation)
    agreed = standing(folder / "none", federation).weights
    start = digest(agreed)
    while now.done < federation.rounds:
        number = now.done + 1
        updates = []
        for site in sites:
            trained, cases = train(site, number, now.weights)
            leaving, _ = outgoing(trained, now.weights, agreed, cases, policy)
            updates.append(Update(site, site, leaving, count_said(cases, policy), str(number)))
        verdicts = sift(updates, now.weights, str(number), now.seen, federation.guard)
        good = sorted((v.update for v in verdicts if v.refusal is None), key=lambda update: update.site)
        changed = len(good) >= federation.min_sites
        if changed:
            weights = [update.cases if federation.weight_by_cases else 1.0 for update in good]
            now.weights = weighted_mean([update.tensors for update in good], weights)
        now.done = number
        now.seen |= {verdict.sha256: number for verdict in verdicts}
        facts = {"changed": changed, "updates": [verdict.facts for verdict in verdicts], REHEARSED: True}
        keep_round(folder, federation, start, now, facts)
    if digest(now.weights) == start:
        raise RollamaError(f"{federation.name}: no round changed the start model; 'rollama federation status' says why")
    return finish(folder, federation, now)


def weighted_mean(updates: Sequence[Mapping[str, np.ndarray]], weights: Sequence[float]) -> Tensors:
    """The mean of updates by weight, in the order and the precision of Flower's `aggregate_arrayrecords`."""
    total = sum(weights)
    found: Tensors = {}
    for update, weight in zip(updates, weights, strict=True):
        for name, value in update.items():
            part = value * (weight / total)
            found[name] = found[name] + part if name in found else part
    first = updates[0]
    return {name: first[name].dtype.type(value) for name, value in sorted(found.items())}
