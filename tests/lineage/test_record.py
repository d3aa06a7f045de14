"""What training and evaluation write down."""

from __future__ import annotations

from pathlib import Path

from rollama.core.files import read_json, write_json
from rollama.core.storage import open_storage
from rollama.data.store import Kind, push
from rollama.lineage.ledger import open_ledger
from rollama.lineage.query import Lineage
from rollama.lineage.record import record_evaluation, record_training
from rollama.training.artefact import artefact_hash
from tests.chain.tiny import make_models
from tests.text.conftest import make_dataset, record


def test_a_model_that_was_measured_again_descends_from_the_one_before(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", [record(number) for number in range(14)])
    first = make_models(tmp_path / "models") / "s"
    manifest = read_json(first / "manifest.json")
    before = artefact_hash(first)
    record_training(tmp_path, first, "seg", data)
    for name, weights in (("again", "b" * 64), ("same", before)):
        files = {**manifest["files"], "model.safetensors": weights}
        again = {**manifest, "files": files, "measured": {"before": before}, "config_hash": name}
        write_json(tmp_path / name / "manifest.json", again)
        record_training(tmp_path, tmp_path / name, "seg", data)
    known = Lineage(open_ledger(tmp_path))
    assert known.ancestors("b" * 64) == (before,)
    assert known.ancestors(before) == ()


def test_a_model_in_a_folder_and_in_a_store(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", [record(number) for number in range(14)])
    models = make_models(tmp_path / "models")
    record_training(tmp_path, models / "s", "s", data)
    record_training(tmp_path, models / "s", "s", data)  # a command that is repeated
    stored = push(models / "p", Kind.MODEL, tmp_path / "store")
    record_training(tmp_path, stored, "p", data)
    known = Lineage(open_ledger(tmp_path))
    digests = [artefact_hash(models / name) for name in ("s", "p")]
    assert known.models() == digests and [event.task for event in known.trained] == ["s", "p"]
    assert all(event.base for event in known.trained)
    assert known.who_saw("a-000") == digests and known.who_saw("a-013") == []
    results = {"tables": [1], "comparisons": [], "models": {"s": digests[0]}, "dataset": {"hash": "d"}}
    for _ in range(2):
        record_evaluation(tmp_path, results)
    record_evaluation(tmp_path, {**results, "tables": [2]})
    assert len(Lineage(open_ledger(tmp_path)).life(digests[0]).evaluated) == 2
    text = "".join(path.read_text() for path in (tmp_path / "lineage").rglob("*.json*"))
    assert "SYNTHETIC" not in text and "breast" not in text
    assert open_storage(tmp_path / "lineage").names("audit")
