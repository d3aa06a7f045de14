"""Events of a workspace: written once, by several writers, and any later change shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from rollama.core.chain import load_public_key, verify
from rollama.core.errors import ConfigError, DataError
from rollama.core.storage import open_storage
from rollama.lineage.events import Trained, Withdrawn
from rollama.lineage.ledger import HEADS, KEY, Ledger, open_ledger
from tests.lineage.conftest import cases, info


def test_writers_have_chains_of_their_own_and_one_view(ledger: Ledger, place: Path) -> None:
    other = Ledger(open_storage(place))
    other.record(Withdrawn(case="a-1"))
    other.record(Trained(model="aaa1", task="s", data="one", run="r1"))  # known already
    found = ledger.events()
    assert [event.what for event in found] == ["trained"] * 3 + ["withdrawn"]
    assert found == other.events()
    chains = verify(open_storage(place))
    assert sorted(chain.events for chain in chains) == [1, 3] and not any(chain.problems for chain in chains)


def test_cases_are_kept_once_and_without_text(ledger: Ledger, place: Path) -> None:
    before = (place / "cases" / "one.json").read_bytes()
    ledger.keep_cases(info("one"), cases(9))
    assert (place / "cases" / "one.json").read_bytes() == before
    assert ledger.cases("one")[0] == {"case": "a-0", "centre": "a", "split": "train"}
    with pytest.raises(DataError, match="no list of the cases"):
        ledger.cases("three")
    (place / "cases" / "one.json").write_text('{"cases": [{}]}')
    with pytest.raises(DataError, match="damaged"):
        ledger.cases("one")


@pytest.mark.parametrize("change", ["edit", "drop", "swap", "insert"])
def test_a_changed_past_is_refused(ledger: Ledger, place: Path, change: str) -> None:
    first, second, third = sorted(place.glob("audit/*/*.jsonl"))
    if change == "edit":
        second.write_text(second.read_text().replace("aaa2", "aaa9"))
    elif change == "drop":
        second.unlink()
    elif change == "swap":
        one, other = first.read_text(), second.read_text()
        first.write_text(other)
        second.write_text(one)
    else:
        third.write_text(second.read_text() + third.read_text())
    with pytest.raises(DataError, match="is not whole"):
        ledger.events()
    (chain,) = verify(open_storage(place))
    assert chain.problems


def test_a_cut_end_shows_in_the_signed_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = Ed25519PrivateKey.generate()
    private, public, heads = tmp_path / "key.pem", tmp_path / "public.pem", tmp_path / "heads"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    monkeypatch.setenv(KEY, str(private))
    with pytest.raises(ConfigError, match="belong together"):
        open_ledger(tmp_path)
    monkeypatch.setenv(HEADS, str(tmp_path / "lineage"))
    with pytest.raises(ConfigError, match="elsewhere"):
        open_ledger(tmp_path)
    monkeypatch.setenv(HEADS, str(heads))
    made = open_ledger(tmp_path)
    for number in range(3):
        made.record(Withdrawn(case=f"a-{number}"))
    place = open_storage(tmp_path / "lineage")
    (chain,) = verify(place, open_storage(heads), load_public_key(public))
    assert (chain.signed, chain.problems) == (3, ())
    sorted((tmp_path / "lineage").glob("audit/*/*.jsonl"))[-1].unlink()
    assert len(made.events()) == 2, "the chain alone does not tell"
    (chain,) = verify(place, open_storage(heads), load_public_key(public))
    assert "the end was cut off" in chain.problems[0]


def test_an_event_of_another_version_is_named(ledger: Ledger, place: Path) -> None:
    other = Ledger(open_storage(place))
    other.record(Withdrawn(case="a-1"))
    (path,) = (place / "audit" / other.writer).glob("*")
    event = json.loads(path.read_text())
    path.write_text(json.dumps({**event, "reason": "secret"}) + "\n")
    with pytest.raises(DataError, match="not one that this version knows") as caught:
        ledger.events()
    assert "secret" not in str(caught.value)
