"""A model's past goes along to another ledger: trainings, cases, steps, withdrawals; once, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollama.cli.main import main
from rollama.core.errors import DataError
from rollama.core.storage import open_storage
from rollama.lineage.carry import carry_model
from rollama.lineage.events import Data, Trained, Withdrawn
from rollama.lineage.ledger import HEADS, KEY, Ledger, open_ledger
from rollama.lineage.query import Lineage
from tests.lineage.conftest import cases, info, make_keys


@pytest.fixture
def other(tmp_path: Path) -> Ledger:
    return Ledger(open_storage(tmp_path / "other"))


def test_parents_cases_and_steps_go_along_and_other_models_do_not(ledger: Ledger, other: Ledger) -> None:
    ledger.record(Data(kind="cohort", data="two", version="1", synthetic=True))
    assert carry_model(ledger, other, "bbb3") == 2
    known, before = Lineage(other), Lineage(ledger)
    assert known.models() == ["aaa2", "bbb3"]
    assert known.seen("bbb3") == before.seen("bbb3") and known.held("a-5") == before.held("a-5")
    assert [step.kind for step in known.made("two")] == ["cohort"]
    events = len(other.events())
    assert carry_model(ledger, other, "bbb3") == 2 and len(other.events()) == events


def test_a_withdrawn_subject_is_withdrawn_there_if_the_model_saw_it(ledger: Ledger, other: Ledger) -> None:
    for case in ("a-0", "a-4"):
        ledger.record(Withdrawn(case=case))
    carry_model(ledger, other, "aaa2")
    assert Lineage(other).withdrawn == ["a-4"] and Lineage(other).forbidden("aaa2") == ("a-4",)


def test_a_withdrawal_under_a_corrections_id_is_carried_to_the_case_that_was_seen(
    ledger: Ledger, other: Ledger
) -> None:
    """The step that says that both are one subject belongs to data that this model never saw."""
    step = {"kind": "correction", "data": "two", "version": "1", "synthetic": True, "case": "a-5", "corrects": "a-0"}
    ledger.record(Data.model_validate(step))
    ledger.record(Withdrawn(case="a-5"))
    assert Lineage(ledger).forbidden("aaa1") == ("a-5",)
    carry_model(ledger, other, "aaa1")
    assert "a-0" in Lineage(other).forbidden("aaa1")


def test_what_is_not_known_is_not_written(ledger: Ledger, other: Ledger) -> None:
    assert carry_model(ledger, other, "ccc") == 0
    assert not other.events() and not other.data_kept()
    other.record(Trained(model="ccc", task="p", data="elsewhere", run="r"))
    with pytest.raises(DataError, match="no list of the cases"):
        carry_model(other, ledger, "ccc")


def test_heads_of_another_lineage_are_not_signed_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever has the variables of the workspace that is read from would break the checks of both."""
    private, _ = make_keys(tmp_path)
    for name, value in ((KEY, private), (HEADS, tmp_path / "heads")):
        monkeypatch.setenv(name, str(value))
    source = open_ledger(tmp_path / "one")
    source.keep_cases(info("data"), cases(0))
    source.record(Trained(model="aaa1", task="s", data="data", run="r"))
    command = ["lineage", "carry", "aaa1", "--workspace", str(tmp_path / "one"), "--to", str(tmp_path / "two")]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 1 and f"are {KEY} and {HEADS}, if set, those of" in capsys.readouterr().err
    assert not (tmp_path / "two" / "lineage" / "audit").exists()
    source.require_whole()
    monkeypatch.setenv(HEADS, str(tmp_path / "other-heads"))
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 0
    open_ledger(tmp_path / "two").require_whole()
