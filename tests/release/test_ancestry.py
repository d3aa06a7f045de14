"""Withdrawn subjects stand against a release; releases and roll-backs come into the lineage, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollama.core.chain import load_public_key, verify
from rollama.core.errors import DataError
from rollama.core.storage import open_storage
from rollama.lineage.events import Released, Trained, Withdrawn
from rollama.lineage.ledger import HEADS, KEY, Ledger, open_ledger
from rollama.lineage.query import Lineage
from rollama.release.ancestry import refuse_withdrawn, tell_lineage
from rollama.release.promotion import promote, rollback
from rollama.release.verdict import Refused
from tests.lineage.conftest import cases, info, make_keys
from tests.release.desk import Place


def test_a_model_that_saw_a_withdrawn_subject_is_refused(tmp_path: Path) -> None:
    site = Place(tmp_path).site
    assert refuse_withdrawn(site, {"p": "aaa"}) == [], "no workspace is named"
    site = site.updated(lineage=str(tmp_path / "ws"))
    ledger = open_ledger(tmp_path / "ws")
    ledger.keep_cases(info("one"), cases(0))
    ledger.record(Trained(model="aaa", task="p", data="one", run="r"))
    ledger.record(Trained(model="bbb", task="p", data="one", run="r", parents=("aaa",)))
    hashes = {"p": "bbb", "seg": "elsewhere"}
    assert refuse_withdrawn(site, hashes) == ["seg"]
    ledger.record(Withdrawn(case="a-3"))  # a held-out case
    assert refuse_withdrawn(site, hashes) == ["seg"]
    ledger.record(Withdrawn(case="a-1"))
    with pytest.raises(Refused, match="p saw a-1"):
        refuse_withdrawn(site, hashes)


def test_releases_are_told_once(tmp_path: Path) -> None:
    place = Place(tmp_path)
    site = place.site.updated(lineage=str(tmp_path / "ws"))
    records = [promote(place.desk(), place.case(name), place.key()) for name in ("one", "two")]
    records.append(rollback(place.desk(), place.key()))
    for record in (*records, records[-1]):
        tell_lineage(site, record)
    tell_lineage(place.site, records[0])  # names no workspace
    known = Lineage(open_ledger(tmp_path / "ws"))
    assert [(event.models["seg"], event.rolled_back) for event in known.released] == [
        ("one-seg", False), ("two-seg", False), ("one-seg", True),
    ]  # fmt: skip
    assert all(isinstance(event, Released) and event.record == record.identity
               for event, record in zip(known.released, records, strict=True))  # fmt: skip
    assert known.life("one-seg").in_use and not known.life("two-seg").in_use


def test_a_release_signs_the_lineage_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)
    site = place.site.updated(lineage=str(tmp_path / "ws"))
    events, heads = open_storage(tmp_path / "ws" / "lineage"), open_storage(tmp_path / "heads")
    trainer = Ledger(events)  # on a machine that has no key
    trainer.keep_cases(info("one"), cases(0))
    trainer.record(Trained(model="one-seg", task="seg", data="one", run="r"))
    trainer.record(Trained(model="two-seg", task="seg", data="one", run="r"))
    private, public = make_keys(tmp_path)
    monkeypatch.setenv(KEY, str(private))
    monkeypatch.setenv(HEADS, heads.uri)
    record = promote(place.desk(), place.case("one"), place.key())
    tell_lineage(site, record)
    signed = {chain.writer: (chain.events, chain.signed) for chain in verify(events, heads, load_public_key(public))}
    assert signed[trainer.writer] == (2, 2) and sorted(signed.values()) == [(1, 1), (2, 2)]
    assert refuse_withdrawn(site, {"seg": "one-seg"}) == []
    sorted((tmp_path / "ws" / "lineage" / "audit" / trainer.writer).iterdir())[-1].unlink()
    with pytest.raises(DataError, match="the end was cut off"):
        refuse_withdrawn(site, {"seg": "one-seg"})
    monkeypatch.delenv(KEY)
    monkeypatch.delenv(HEADS)
    assert refuse_withdrawn(site, {"seg": "one-seg"}) == [], "without heads the cut end is not seen"
