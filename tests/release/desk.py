"""A site with keys, a store of toy models and a registry in a file, to promote and to kill promotions in."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from rollama.core.errors import ClusterError
from rollama.core.files import hash_file, write_json
from rollama.core.storage import open_storage
from rollama.data.store import Kind, push
from rollama.release.compare import compare
from rollama.release.endpoint import Target
from rollama.release.keys import Role, Trust, load_private, make_key, sign
from rollama.release.promotion import Case, Desk
from rollama.release.site import EndpointConfig, Site
from rollama.release.verdict import Parts, Verdict, overall
from tests.release.tables import RELEASED, SIDES, draw, protocol

PROTOCOL = hashlib.sha256(b"the protocol").hexdigest()


@cache
def _good(first):
    return compare(protocol(), draw(0.03), None if first else RELEASED, SIDES)


class FileRegistry:
    """A registry as far as a promotion needs one: JSON in a file, so that it outlives a killed process."""

    def __init__(self, path: Path) -> None:
        self.path, self.down = path, False

    def _state(self) -> dict:
        if self.down:
            raise ClusterError("the model registry toy does not answer (ConnectionError); check that MLflow runs")
        return json.loads(self.path.read_text()) if self.path.exists() else {"versions": {}, "aliases": {}, "head": ""}

    def ping(self) -> None:
        self._state()

    def register(self, parts, tags):
        state = self._state()
        version = state["versions"].setdefault(parts.release, str(len(state["versions"]) + 1))
        write_json(self.path, state)
        return version

    def point(self, alias, version):
        state = self._state()
        state["aliases"][alias] = version
        write_json(self.path, state)

    def pointed(self, alias):
        state = self._state()
        version = state["aliases"].get(alias)
        return next((name for name, number in state["versions"].items() if number == version), None)

    def remember(self, head):
        write_json(self.path, {**self._state(), "head": head})

    def remembered(self):
        return self._state()["head"]


def toy_model(root: Path, store: Path, content: str) -> str:
    """Push a folder that passes for a model; returns its reference."""
    folder = root / f"model-{content}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(content)
    write_json(folder / "manifest.json", {
        "task": "toy", "data": {"content_hash": "d" * 64},
        "files": {"model.safetensors": hash_file(folder / "model.safetensors")},
    })  # fmt: skip
    return str(push(folder, Kind.MODEL, store))


class Place:
    """The site below a folder, with keys `job`, `job2` (release) and `physicist` (approval)."""

    def __init__(self, root: Path, **endpoint) -> None:
        self.root = root
        for name, role in (("job", Role.RELEASE), ("job2", Role.RELEASE), ("physicist", Role.APPROVAL)):
            make_key(root / "private" / f"{name}.key", [root / "keys" / role / f"{name}.pem"])
        for role in Role:
            (root / "keys" / role).mkdir(parents=True, exist_ok=True)
        self.values = root / "serve-models.yaml"
        self.site = Site(
            history=str(root / "history"), store=str(root / "store"), keys=root / "keys",
            protocol=root / "protocol.yaml", endpoint=EndpointConfig(values=self.values, **endpoint),
        )  # fmt: skip
        self.now = 1_800_000_000.0

    def key(self, name="job"):
        return load_private(self.root / "private" / f"{name}.key")

    def desk(self, step=None, ask=None) -> Desk:
        return Desk(
            self.site, open_storage(self.site.history), Trust.open(self.site.keys),
            FileRegistry(self.root / "registry.json"), Target(self.site.endpoint, ask, lambda _: None),
            lambda: self.now, step or (lambda name: None),
        )  # fmt: skip

    def parts(self, name: str) -> Parts:
        """A release whose models are told apart by `name`; the same again for the same."""
        known = self.root / f"parts-{name}.json"
        if not known.exists():
            made = {
                model: toy_model(self.root / "models", self.root / "store", f"{name}-{model}")
                for model in ("s", "p", "seg")
            }
            write_json(known, made)
        return Parts(**json.loads(known.read_text()))

    def case(self, name: str, scores=None, key="job", rules=None, approvals=(), **changes) -> Case:
        """A signed verdict of a candidate against what is released now."""
        current = self.desk().history().released()
        against = None if current is None else RELEASED
        rules = rules or protocol()
        findings = _good(against is None) if scores is None else compare(rules, scores, against, SIDES)
        values = {
            "synthetic": True, "created": "2026-01-01T00:00:00+00:00", "candidate": self.parts(name),
            "hashes": {model: f"{name}-{model}" for model in ("s", "p", "seg")},
            "replaces": None if current is None else current.entry.candidate.release,
            "replaces_record": 0 if current is None else current.entry.number,
            "protocol": {"name": "toy", "version": 1, "sha256": PROTOCOL},
            "dataset": {"name": "toy", "hash": "e" * 64, "cases": 120},
            "trained_on": {}, "tables": {}, "findings": findings, "outcome": overall(findings), **changes,
        }  # fmt: skip
        verdict = Verdict(**values)
        data = json.dumps(verdict.model_dump(mode="json")).encode()
        signature = sign(self.key(key), Role.RELEASE, data)
        return Case(
            verdict, data, signature, rules, PROTOCOL, approvals, lambda who: {"card.md": f"{name} {who}".encode()}
        )

    def state(self):
        """(released by the history, alias, endpoint) as names of releases."""
        desk = self.desk()
        names = {self.parts(path.stem.removeprefix("parts-")).release: path.stem.removeprefix("parts-")
                 for path in self.root.glob("parts-*.json")}  # fmt: skip
        current, named = desk.history().released(), desk.target.named()
        return (
            names[current.entry.candidate.release] if current else None,
            names.get(desk.registry.pointed("released")),
            names[named.release] if named else None,
        )
