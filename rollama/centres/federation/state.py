"""What the coordinator keeps of a federation, one folder a finished round, so that it goes on after a crash.

    federation.yaml          the settings
    rounds/0001/             weights after round 1, the strategy's own state, and what happened (round.json)
    record.jsonl             every update that came, accepted or refused, hash-chained
    model/                   the final artefact, which is loaded as any other

A round's folder appears whole or not at all. A coordinator that dies in a round forgets that round's updates and asks
again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rollama.centres.federation.config import Federation
from rollama.centres.federation.weights import Tensors, digest, moving, read_artefact, write_artefact
from rollama.core.config import hash_json
from rollama.core.errors import CheckpointError, ConfigError
from rollama.core.files import hash_file, new_folder, read_json, write_json
from rollama.core.manifest import run_manifest

ROUNDS, RECORD, MODEL = "rounds", "record.jsonl", "model"
TENSORS, STRATEGY, FACTS = "model.safetensors", "strategy.safetensors", "round.json"
REHEARSED = "rehearsed"
"""Entry of a round's facts: whether it was computed in one process, without sites (see `rehearsal`)."""
FREE = {"start", "rounds", "round_timeout_s", "grace_s", "min_sites"}
"""Settings that may change while a federation runs."""
# fmt: off
OF_ITS_OWN = frozenset({
    "files", "metrics", "evaluations", "lengths", "cases", "parent", "data", "data_hash", "workers", "kept_step",
    "created", "notice", "rollama", "revision", "python", "machine", "packages", "config", "config_hash", "kind",
    "federation", "untrained", "seconds", "profile",
})
# fmt: on
"""Entries of the start model's manifest that the final model does not take over."""


@dataclass
class Standing:
    """Where a federation stands: weights after `done` rounds, and what they need to go on."""

    weights: Tensors = field(repr=False)
    done: int = 0
    strategy: Tensors = field(default_factory=dict, repr=False)
    seen: dict[str, int] = field(default_factory=dict)
    """Hash of every update that came, and in which round."""


def identity(federation: Federation, start: str) -> str:
    """What must not change from one start of the coordinator to the next: settings and start model."""
    return hash_json({"federation": federation.model_dump(mode="json", exclude=FREE), "start": start})


def standing(folder: Path, federation: Federation) -> Standing:
    """Read where the federation in `folder` stands; a new one stands at its start model.

    Raises:
        ConfigError: the folder holds rounds of other settings or another start model.
        CheckpointError: start model or a round is damaged.
    """
    from safetensors.numpy import load_file

    tensors, manifest = read_artefact(federation.start)
    weights = moving(tensors, manifest)
    key, found = identity(federation, digest(weights)), Standing(weights)
    for place in sorted((folder / ROUNDS).glob("[0-9]*")):
        facts = read_json(place / FACTS)
        if facts["identity"] != key:
            raise ConfigError(f"{place}: was run with other settings or another start; choose another folder or name")
        if int(facts["round"]) != found.done + 1:
            raise CheckpointError(f"{place}: round {found.done + 1} is missing before it")
        for name, value in facts["files"].items():
            if hash_file(place / name) != value:
                raise CheckpointError(f"{place / name}: was changed or damaged; delete this round and later ones")
        found.done += 1
        found.seen |= {update["sha256"]: found.done for update in facts["updates"]}
    if found.done:
        place = folder / ROUNDS / f"{found.done:04d}"
        found.weights = load_file(place / TENSORS)
        found.strategy = load_file(place / STRATEGY) if (place / STRATEGY).is_file() else {}
    return found


def keep_round(folder: Path, federation: Federation, start: str, now: Standing, facts: Mapping[str, Any]) -> None:
    """Write the round `now.done`; `facts` holds its `updates` and whatever else is to be known of it."""
    from safetensors.numpy import save_file

    with new_folder(folder / ROUNDS / f"{now.done:04d}") as temporary:
        save_file(now.weights, temporary / TENSORS)
        if now.strategy:
            save_file(now.strategy, temporary / STRATEGY)
        files = {path.name: hash_file(path) for path in sorted(temporary.iterdir())}
        known = {"round": now.done, "identity": identity(federation, start), "weights": digest(now.weights)}
        write_json(temporary / FACTS, {**known, **facts, "files": files})


def kept_rounds(folder: Path, count: int) -> list[dict[str, Any]]:
    """Facts of the first rounds, each with the `updates` that came and whether they `changed` the weights."""
    return [read_json(folder / ROUNDS / f"{number:04d}" / FACTS) for number in range(1, count + 1)]


def used(rounds: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The updates that went into the weights: not refused, in a round with enough of them."""
    return [update for facts in rounds if facts["changed"] for update in facts["updates"] if update["refusal"] is None]


def finish(folder: Path, federation: Federation, now: Standing) -> Path:
    """Write the final artefact: the start model with the federation's weights, and where they come from."""
    tensors, manifest = read_artefact(federation.start)
    rounds = kept_rounds(folder, now.done)
    about = {
        "name": federation.name,
        "rounds": now.done,
        "settings": federation.model_dump(mode="json", exclude={"start"}),
        "sites": sorted({update["site"] for update in used(rounds)}),
        "refused": sum(update["refusal"] is not None for facts in rounds for update in facts["updates"]),
        "rehearsed": sum(bool(facts.get(REHEARSED)) for facts in rounds),
    }
    key = hash_json({"identity": identity(federation, digest(moving(tensors, manifest))), "rounds": now.done})
    taken = {name: value for name, value in manifest.items() if name not in OF_ITS_OWN}
    described = run_manifest(
        manifest["kind"],
        manifest["config"],
        key,
        **taken,
        parent=manifest["files"][TENSORS],
        federation=about,
        metrics={},
    )
    write_artefact(folder / MODEL, {**tensors, **now.weights}, described)
    return folder / MODEL
