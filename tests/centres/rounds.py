"""Rounds of a federation in one process: our apps and Flower's strategies, with a grid that calls the sites directly.

Runs in Flower's environment (`tests/centres/test_rounds.py` starts it) and prints what was found as JSON.
"""

from __future__ import annotations

import functools
import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from flwr.app import Message
from flwr.supercore.task_identity import TaskIdentity

from rollama.centres.federation import client_app, record, server_app
from rollama.centres.federation.config import read_federation, read_site
from rollama.centres.federation.rehearsal import rehearse
from rollama.centres.federation.training import train
from rollama.centres.federation.weights import Tensors, read_artefact, write_artefact
from rollama.core.files import read_json

START = {"w": np.full(4, 0.1, np.float32), "b": np.zeros(1, np.float32)}
SITES = {"north": (0, 40), "south": (1, 10)}
MORE = {**SITES, "west": (2, 23), "east": (3, 31)}
"""With more than two, the order of the sums shows in the last bits."""
MANIFEST = {"kind": "mini", "config": {}, "task": "p", "synthetic": True}
TRUE = np.array([1.0, -2.0, 0.5, 0.0])


class Direct:
    """Flower's Grid, as far as it is used, to sites of this process."""

    def __init__(self, files: list[Path]) -> None:
        self.files = dict(enumerate(files, 1))
        self.replies: dict[str, Message] = {}
        self.asked: list[dict[str, Any]] = []

    def get_node_ids(self) -> list[int]:
        return list(self.files)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        names = []
        for number, message in enumerate(messages):
            name = f"message-{number}"
            message.metadata.__dict__["_message_id"] = name
            self.asked.append(dict(message.content.config_records["config"]))
            context = SimpleNamespace(node_config={"site": str(self.files[message.metadata.dst_node_id])})
            self.replies[name] = client_app.train_round(message, context)  # type: ignore[arg-type]
            names.append(name)
        return names

    def pull_messages(self, names: Iterable[str]) -> list[Message]:
        return [self.replies.pop(name) for name in list(names) if name in self.replies]


def make(
    root: Path, settings: dict[str, Any], policy: dict[str, Any], which: dict[str, tuple[int, int]] = SITES
) -> tuple[Path, Direct]:
    """Folders of a coordinator and its sites, by default two with 40 and 10 cases."""
    folder = root / "coordinator"
    write_artefact(folder / "start", START, MANIFEST)
    values = {"name": "trial", "rounds": 2, "min_sites": 2, "grace_s": 1, "guard": {"max_relative": 50}, **settings}
    (folder / "federation.yaml").write_text(json.dumps(values))
    files = []
    for name, (seed, cases) in which.items():
        place = root / name
        shutil.copytree(folder / "start", place / "start")
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(cases, 4))
        np.savez(place / "data.npz", x=x, y=(rng.random(cases) < 1 / (1 + np.exp(-x @ TRUE))).astype(float))
        script = Path(__file__).with_name("small_training.py")
        site = {
            "name": name, "coordinator": "localhost:1",
            "training": {"command": [sys.executable, str(script), "{init}", "{out}", "data.npz", "{prox_mu}", "0"]},
            "policy": {"max_norm": 50, "max_relative": 50, "counts": "cases", **policy},
        }  # fmt: skip
        (place / "site.yaml").write_text(json.dumps(site))
        files.append(place / "site.yaml")
    return folder, Direct(files)


def run(root: Path, settings: dict[str, Any], policy: dict[str, Any]) -> dict[str, Any]:
    """Run a federation; what it found."""
    folder, grid = make(root, settings, policy)
    found: dict[str, Any] = {}
    try:
        found["model"] = flat(read_artefact(server_app.coordinate(grid, folder, read_federation(folder)))[0])  # type: ignore[arg-type]
    except Exception as error:
        found["error"] = str(error)
    events = record.read(folder / "record.jsonl")
    found["reasons"] = [line["reason"] for line in events if line["event"] == "failed"]
    found["accepted"] = [[line["site"], line["cases"], line["norm"]] for line in events if line["event"] == "accepted"]
    found["asked"] = [{key: value for key, value in asked.items() if key != "nonce"} for asked in grid.asked]
    found["sent"] = [
        [line["sha256"], line["norm_sent"]]
        for name in SITES
        for line in record.read(root / name / "state" / "record.jsonl")
        if line["event"] == "left"
    ]
    trained = {name: root / name / "state" / "trial" / "work" / "models" / "update" for name in SITES}
    found["trained"] = {name: flat(read_artefact(path)[0]) for name, path in trained.items()}
    found["whole"] = [record.verify(path) for path in root.glob("*/**/record.jsonl")]
    found["taken"] = [line["sha256"] for line in events if line["event"] == "accepted"]
    return found


def rehearsed(root: Path, settings: dict[str, Any], policy: dict[str, Any]) -> list[list[str]]:
    """Hashes of the weights after each round: by Flower's strategy over our apps, and rehearsed in this process."""
    folder, grid = make(root, settings, policy, MORE)
    server_app.coordinate(grid, folder, read_federation(folder))  # type: ignore[arg-type]
    sites = {site.name: (site, path.parent) for path in grid.files.values() for site in [read_site(path)]}

    def one(name: str, number: int, received: Tensors) -> tuple[Tensors, int]:
        site, place = sites[name]
        federation = read_federation(folder)
        return train(site, place, received, number, federation.rounds, federation.prox_mu, "again")

    rules = next(iter(sites.values()))[0].policy
    rehearse(root / "rehearsal", read_federation(folder), list(sites), one, rules)
    return [
        [read_json(path)["weights"] for path in sorted((place / "rounds").glob("*/round.json"))]
        for place in (folder, root / "rehearsal")
    ]


class Rogues(Direct):
    """The same, with four more nodes that answer as no policy would let them."""

    KINDS = ("nan", "shape", "huge", "replay")

    def __init__(self, direct: Direct) -> None:
        super().__init__(list(direct.files.values()))
        self.honest = direct.files
        self.rogues = dict(enumerate(self.KINDS, 1 + len(self.files)))
        self.kept: Tensors = {}

    def get_node_ids(self) -> list[int]:
        return [*self.honest, *self.rogues]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        messages = list(messages)
        self.files = self.honest | dict.fromkeys(self.rogues, self.honest[1])
        real = client_app.outgoing, client_app.check_forms
        names: list[str] = []
        for number, message in enumerate(messages):
            kind = self.rogues.get(message.metadata.dst_node_id)
            if kind:
                client_app.outgoing = functools.partial(self.bad, kind)  # type: ignore[assignment]
                client_app.check_forms = lambda *_: None
            (name,) = super().push_messages([message])
            names.append(f"{name}-{number}")
            self.replies[names[-1]] = self.replies.pop(name)
            client_app.outgoing, client_app.check_forms = real
        return names

    def bad(self, kind: str, trained: Tensors, received: Tensors, *_: Any) -> tuple[Tensors, dict[str, float]]:
        """What a rogue sends instead of its update."""
        if kind == "nan":
            return {**trained, "w": np.full(4, np.nan, np.float32)}, {}
        if kind == "shape":
            return {**trained, "b": np.ones(3, np.float32)}, {}
        if kind == "huge":
            return {
                name: received[name] + np.float32(1000) * (value - received[name]) for name, value in trained.items()
            }, {}
        self.kept = self.kept or {name: value + np.float32(0.01) for name, value in trained.items()}
        return self.kept, {}


def with_rogues(root: Path) -> dict[str, Any]:
    """Two rounds with four rogues; what the coordinator said of each update."""
    folder, direct = make(root, {}, {})
    grid = Rogues(direct)
    server_app.coordinate(grid, folder, read_federation(folder))  # type: ignore[arg-type]
    names = {str(number): kind for number, kind in grid.rogues.items()} | {"1": "north", "2": "south"}
    lines = record.read(folder / "record.jsonl")
    return {
        "said": [
            [names[line["node"]], line["round"], line["refusal"]]
            for line in lines
            if line["event"] in ("accepted", "refused")
        ],
        "finished": [[line["accepted"], line["changed"]] for line in lines if line["event"] == "finished"],
    }


def resumed(root: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """A federation of two rounds, stopped after the first and begun again, beside one that ran through."""
    straight = run(root / "straight", settings, {})
    folder, grid = make(root / "stopped", settings, {})
    server_app.coordinate(grid, folder, read_federation(folder).model_copy(update={"rounds": 1}))  # type: ignore[arg-type]
    model = server_app.coordinate(grid, folder, read_federation(folder))  # type: ignore[arg-type]
    return {"straight": straight["model"], "stopped": flat(read_artefact(model)[0])}


def flat(tensors: dict[str, np.ndarray]) -> list[float]:
    return [float(x) for name in sorted(tensors) for x in tensors[name]]


def main(root: Path) -> None:
    """All cases, as JSON on standard output."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1  # Flower sets them in its processes
    central = {"strategy": "fedavg", "weight_by_cases": False}
    noise = {"kind": "central", "clipping_norm": 0.5, "noise_multiplier": 0.0}
    one = {"rounds": 1}
    found = {
        "fedavg": run(root / "fedavg", one, {}),
        "alike": run(root / "alike", {**one, "weight_by_cases": False}, {}),
        "fedprox": run(root / "fedprox", {**one, "strategy": "fedprox", "prox_mu": 2.0}, {}),
        "fedyogi": resumed(root / "fedyogi", {"strategy": "fedyogi", "eta": 0.1}),
        "fedadam": run(root / "fedadam", {**one, "strategy": "fedadam", "eta": 0.1}, {}),
        "clip at site": run(root / "site", {**one, **central, "privacy": {**noise, "clip_at": "site"}}, {}),
        "clip here": run(root / "here", {**one, **central, "privacy": {**noise, "clip_at": "coordinator"}}, {}),
        "noise": run(root / "noise", {**one, **central, "privacy": {**noise, "noise_multiplier": 1.0}}, {}),
        "local": run(
            root / "local", one,
            {"local_privacy": {"clipping_norm": 0.5, "sensitivity": 0.01, "epsilon": 1.0, "delta": 1e-5}},
        ),
        "rogues": with_rogues(root / "rogues"),
        "rehearsal": {
            "fedavg": rehearsed(root / "r1", {"rounds": 3, "min_sites": 4}, {}),
            "fedprox": rehearsed(root / "r2", {"strategy": "fedprox", "prox_mu": 0.5}, {}),
            "alike and clipped": rehearsed(root / "r3", {"weight_by_cases": False}, {"max_norm": 0.3}),
        },
        "few": run(root / "few", one, {"min_cases": 20}),
        "silent": run(root / "silent", one, {"counts": "none"}),
    }  # fmt: skip
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
