"""The list of sites as a folder of keys: who is new is let in, who is not in it any more is turned out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.serve_processes import free_port
from rollama.centres.federation import members, processes
from rollama.centres.federation.keys import make_site_key
from rollama.centres.federation.members import read_keys
from rollama.centres.federation.processes import exposed
from rollama.core.errors import ConfigError
from tests.centres.fleet import HERE, Fleet, wait_for


def keys(folder: Path, *names: str) -> Path:
    """A folder with public keys alone, as a ConfigMap holds them."""
    folder.mkdir(exist_ok=True)
    for name in names:
        shutil.copy(make_site_key(folder.parent / f"{name}.key"), folder / f"{name}.pub")
    return folder


def test_a_folder_of_keys_is_a_list_of_sites(tmp_path: Path) -> None:
    folder = keys(tmp_path / "sites", "north", "south")
    (folder / "readme.txt").write_text("no key")
    found = read_keys(folder)
    assert list(found) == ["north", "south"] and found["north"][1].startswith(b"-----BEGIN PUBLIC KEY-----")


def test_a_list_that_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    folder = keys(tmp_path / "sites", "north")
    with pytest.raises(ConfigError, match=r"no site's key in it; expected NAME\.pub"):
        read_keys(HERE)
    (folder / "south.pub").write_text("ssh-rsa nonsense")
    with pytest.raises(ConfigError, match=r"south\.pub: no public key"):
        read_keys(folder)
    shutil.copy(folder / "north.pub", folder / "south.pub")
    with pytest.raises(ConfigError, match="the key of north as well"):
        read_keys(folder)
    (folder / "south.pub").rename(folder / "so uth.pub")
    with pytest.raises(ConfigError, match="a site's name is letters"):
        read_keys(folder)


@pytest.mark.parametrize(
    ("owner", "mode", "refused"),
    [("us", 0o600, False), ("us", 0o640, True), ("us", 0o604, True), ("root", 0o440, False), ("root", 0o444, True),
     ("root", 0o460, True), ("other", 0o440, True)],
)  # fmt: skip
def test_whose_key_others_may_read(owner: str, mode: int, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Secret in a pod is root's, and its group's to read; a file of one's own is nobody else's."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    user = {"us": 1000, "root": 0, "other": 1001}[owner]
    assert exposed(os.stat_result((0o100000 | mode, 0, 0, 1, user, 1000, 0, 0, 0, 0))) is refused


def test_who_was_turned_out_needs_a_new_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower keeps the key of a node that it turned out, and takes none twice."""
    folder = keys(tmp_path / "sites", "north", "south", "west")
    known = {name: key for name, (_, key) in read_keys(folder).items()}
    there = [
        members.Node("1", "north", known["north"], "online"),
        members.Node("2", "south", known["south"], members.GONE),
    ]
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(members, "nodes", lambda where: there)
    monkeypatch.setattr(processes, "flwr", lambda where, *words: asked.append(words) or {"node-id": 7})
    where = processes.Coordinator(tmp_path, 1, 2, tmp_path, tmp_path, tmp_path)
    said = members.keep(where, folder)
    assert said[0].startswith("south: not let in: its key was turned out before") and said[1:] == [
        "west: registered as node 7"
    ]
    assert [words[1] for words in asked] == ["register"]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, free_port(), rounds=1, min_sites=1)
    yield made
    made.close()


@pytest.mark.federation
def test_the_coordinator_keeps_to_its_list(fleet: Fleet) -> None:
    for seed, name in enumerate(("north", "south")):
        fleet.site(name, seed)
    listed = fleet.root / "sites"
    listed.mkdir()
    for name in ("north", "south"):
        shutil.copy(fleet.root / name / "site.key.pub", listed / f"{name}.pub")
    fleet.serve("--sites", str(listed))
    wait_for("both keys", lambda: fleet.log("serve").count("registered as node") == 2)
    fleet.kill("serve")
    (listed / "south.pub").unlink()
    fleet.serve("--sites", str(listed))
    wait_for("the list", lambda: "south: turned out" in fleet.log("serve"))
    assert fleet.log("serve").count("registered as node") == 2, "north is known already"
    for name in ("north", "south"):
        fleet.join(name)
    wait_for("north", lambda: fleet.log("serve").count("Activated node") == 1)
    fleet.run()
    assert fleet.ended() == 0, fleet.log("run")
    assert [line["site"] for line in fleet.events("accepted")] == ["north"]
    assert not (fleet.root / "south/state/record.jsonl").exists()
