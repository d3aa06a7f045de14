"""Events of a workspace: written once, by several writers, and any later change shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rollama.core.chain import load_public_key, verify
from rollama.core.errors import ConfigError, DataError
from rollama.core.storage import open_storage
from rollama.lineage.events import Trained, Withdrawn
from rollama.lineage.ledger import HEADS, KEY, Ledger, open_ledger
from tests.lineage.conftest import cases, info, make_keys


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
    (private, public), heads = make_keys(tmp_path), tmp_path / "heads"
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


def test_a_release_signs_the_chains_of_those_without_a_key(
    ledger: Ledger, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.vouch()  # nothing is configured: nothing happens
    private, public = make_keys(tmp_path)
    monkeypatch.setenv(KEY, str(private))
    monkeypatch.setenv(HEADS, str(tmp_path / "heads"))
    heads, key = open_storage(tmp_path / "heads"), load_public_key(public)
    signing = open_ledger(tmp_path)
    signing.vouch()
    (chain,) = verify(open_storage(place), heads, key)
    assert (chain.writer, chain.events, chain.signed) == (ledger.writer, 3, 3)
    ledger.record(Withdrawn(case="a-1"))
    signing.vouch()
    signing.require_whole()
    sorted(place.glob("audit/*/*.jsonl"))[-1].unlink()
    for check in (signing.require_whole, signing.vouch):
        with pytest.raises(DataError, match="the end was cut off"):
            check()
    assert len(heads.names()) == 2, "a shorter chain is not signed"


def test_an_event_of_another_version_is_named(ledger: Ledger, place: Path) -> None:
    other = Ledger(open_storage(place))
    other.record(Withdrawn(case="a-1"))
    (path,) = (place / "audit" / other.writer).glob("*")
    event = json.loads(path.read_text())
    path.write_text(json.dumps({**event, "reason": "secret"}) + "\n")
    with pytest.raises(DataError, match="not one that this version knows") as caught:
        ledger.events()
    assert "secret" not in str(caught.value)
