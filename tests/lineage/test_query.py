"""Who saw what, through parents; what is in use; what must not be used any more."""

from __future__ import annotations

import pytest

from rollama.core.errors import DataError
from rollama.lineage.events import Evaluated, Released, Trained, Withdrawn
from rollama.lineage.ledger import Ledger
from rollama.lineage.query import Lineage


def test_who_saw_a_case(ledger: Ledger) -> None:
    known = Lineage(ledger)
    assert known.models() == ["aaa1", "aaa2", "bbb3"]
    assert known.who_saw("a-0") == ["aaa1", "bbb3"]
    assert known.who_saw("a-2") == ["aaa1", "bbb3"], "validation chooses weights"
    assert known.who_saw("a-3") == [], "a held-out case is not seen"
    assert known.who_saw("a-4") == ["aaa2", "bbb3"], "seen by the model that it began with"
    assert known.who_saw("b-0") == []


def test_the_life_of_a_model(ledger: Ledger) -> None:
    ledger.record(Evaluated(models={"s": "aaa1", "p": "aaa2"}, data="one", result="f"))
    ledger.record(Released(models={"s": "aaa1", "p": "aaa2"}, record="x1"))
    ledger.record(Released(models={"s": "aaa1", "p": "bbb3"}, record="x2"))
    known = Lineage(ledger)
    assert [known.life(model).in_use for model in known.models()] == [True, False, True]
    life = known.life("aaa2")
    assert len(life.trained) == len(life.evaluated) == len(life.released) == 1
    assert known.life("bbb3").ancestors == ("aaa2",)
    ledger.record(Released(models={"s": "aaa1", "p": "aaa2"}, record="x1", rolled_back=True))
    assert Lineage(ledger).life("aaa2").in_use


def test_a_withdrawn_subject_marks_all_who_saw_it(ledger: Ledger) -> None:
    ledger.record(Withdrawn(case="a-5"))
    known = Lineage(ledger)
    assert [known.forbidden(model) for model in known.models()] == [(), ("a-5",), ("a-5",)]


def test_circles_of_parents_end(ledger: Ledger) -> None:
    ledger.record(Trained(model="aaa2", task="p", data="two", run="r4", parents=("bbb3",)))
    known = Lineage(ledger)
    assert known.ancestors("aaa2") == ("bbb3",)
    assert "a-0" in known.seen("aaa2")


def test_the_beginning_of_a_digest(ledger: Ledger) -> None:
    known = Lineage(ledger)
    assert known.find("bbb") == known.find("sha256:bbb3") == "bbb3"
    with pytest.raises(DataError, match="beginning of 2 models: aaa1, aaa2"):
        known.find("aaa")
    with pytest.raises(DataError, match="no model; its models are aaa1, aaa2, bbb3"):
        known.find("ccc")
