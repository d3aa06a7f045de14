"""A subject is followed from a site's cases over an update into the common model, and its id stays at the site."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rollama.centres.federation.past import tell_model, tell_update
from rollama.centres.federation.weights import read_artefact, write_artefact
from rollama.cli.main import main
from rollama.core.storage import open_storage
from rollama.data.case import Split, TextCase
from rollama.data.dataset import DatasetInfo
from rollama.lineage.carry import carry_model
from rollama.lineage.events import Trained, Withdrawn
from rollama.lineage.ledger import Ledger, open_ledger
from rollama.lineage.query import Lineage

CENTRE = "north"


def trained_round(work: Path) -> Path:
    """A round's model and what `rollama train` writes into the lineage of its workspace."""
    model = work / "models" / "update"
    write_artefact(model, {"w": np.ones(2, np.float32)}, {"kind": "mini", "task": "p"})
    info = DatasetInfo(
        name="d", version="1", synthetic=True, label="none", notice="SYNTHETIC", centres=(CENTRE,), content_hash="data"
    )
    ledger = open_ledger(work)
    ledger.keep_cases(info, [TextCase(case_id="patient-7", centre=CENTRE, split=Split.TRAIN, plan=None)])
    ledger.record(Trained(model=read_artefact(model)[1]["files"]["model.safetensors"], task="p", data="data", run="r"))
    return model


def facts(changed: bool, *updates: tuple[str, str | None]) -> dict[str, Any]:
    found = [{"sha256": update, "site": CENTRE, "refusal": refusal} for update, refusal in updates]
    return {"changed": changed, "updates": found}


def test_a_withdrawn_subject_reaches_the_common_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state, work, update, coordinator = tmp_path / "state", tmp_path / "work", 64 * "b", tmp_path / "coordinator"
    model = trained_round(work)
    for _ in range(2):  # a round that is asked again
        assert tell_update(state, work, model, update)
    at_site = Lineage(open_ledger(state))
    assert at_site.who_saw("patient-7") == at_site.models() and at_site.models()[-1] == update
    manifest = {
        "files": {"model.safetensors": "final"}, "task": "p", "config_hash": "c", "parent": "start",
        "federation": {"name": "trial"},
    }  # fmt: skip
    rounds = [facts(True, (update, None), ("refused", "holds NaN")), facts(False, ("unused", None))]
    tell_model(coordinator, manifest, rounds)
    there = Lineage(open_ledger(coordinator))
    assert there.seen("final") == {update} and there.made(there.trained[0].data)[0].kind == "federation"
    text = "".join(path.read_text() for path in (coordinator / "lineage").rglob("*.json*"))
    assert "patient-7" not in text and CENTRE in text
    with pytest.raises(SystemExit) as ended:
        main(["lineage", "withdraw", update, "--workspace", str(coordinator)])
    assert ended.value.code == 0 and Lineage(open_ledger(coordinator)).forbidden("final") == (update,)
    told = capsys.readouterr().out
    assert f"{update}: train in data" in told and "(federation, rollama" in told
    carry_model(open_ledger(coordinator), open_ledger(state), "final")
    open_ledger(state).record(Withdrawn(case="patient-7"))
    both = Lineage(open_ledger(state))
    assert "patient-7" in both.forbidden("final"), "both halves in one lineage: the case alone is enough"
    (row,) = [line for line in told.splitlines() if line.startswith("final")]
    assert row.split()[-1] == update[:12], "a hash is not cut in an odd place"


def test_a_command_that_tells_no_lineage_leaves_none(tmp_path: Path) -> None:
    write_artefact(tmp_path / "work" / "models" / "update", {"w": np.ones(2, np.float32)}, {"kind": "mini"})
    assert not tell_update(tmp_path / "state", tmp_path / "work", tmp_path / "work" / "models" / "update", "b")
    assert not (tmp_path / "state").exists()
    Ledger(open_storage(tmp_path / "work" / "lineage")).record(Trained(model="other", task="p", data="d", run="r"))
    assert not tell_update(tmp_path / "state", tmp_path / "work", tmp_path / "work" / "models" / "update", "b")
