import pytest
import torch

from rollama.core.errors import CheckpointError
from rollama.training.artefact import artefact_hash, load_artefact, read_manifest, save_artefact
from rollama.training.checkpoint import Checkpointer, load_checkpoint, save_checkpoint
from rollama.training.runs import is_trained


@pytest.fixture
def folder(tmp_path):
    save_artefact(
        tmp_path / "model", {"a": torch.arange(4.0), "b": torch.ones(2, dtype=torch.bfloat16)}, {"config_hash": "h"}
    )
    return tmp_path / "model"


def test_round_trip_keeps_values_and_types(folder):
    tensors, manifest = load_artefact(folder)
    assert torch.equal(tensors["a"], torch.arange(4.0))
    assert tensors["b"].dtype is torch.bfloat16
    assert manifest["files"]["model.safetensors"] == artefact_hash(folder)
    assert is_trained(folder, "h")
    assert not is_trained(folder, "other")
    assert not is_trained(folder / "none", "h")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "nothing to save"),
        ({"a": torch.empty(0)}, "tensor a is empty"),
        ({"a": torch.tensor([1.0, float("inf")])}, "tensor a is not finite"),
    ],
)
def test_useless_tensors_are_refused_and_the_good_artefact_stays(folder, tensors, message):
    before = artefact_hash(folder)
    with pytest.raises(CheckpointError, match=message):
        save_artefact(folder, tensors, {})
    assert artefact_hash(folder) == before


def test_a_changed_file_is_refused(folder):
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: its SHA-256 differs"):
        load_artefact(folder)


def test_missing_and_added_files_are_refused(folder):
    (folder / "extra.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"not listed: \['extra.bin'\]"):
        load_artefact(folder)
    (folder / "extra.bin").unlink()
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"missing: \['model.safetensors'\]"):
        load_artefact(folder)


def test_no_or_damaged_manifest(folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"no manifest\.json; give the folder of a trained model"):
        read_manifest(tmp_path)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        load_artefact(folder)


def test_checkpoints_belong_to_one_configuration(tmp_path):
    save_checkpoint(tmp_path / "c", {"param/w": torch.ones(1)}, 7, "hash")
    state, step = load_checkpoint(tmp_path / "c", "hash")
    assert step == 7
    assert torch.equal(state["param/w"], torch.ones(1))
    with pytest.raises(CheckpointError, match="another configuration or data"):
        load_checkpoint(tmp_path / "c", "other")
    save_artefact(tmp_path / "m", {"w": torch.ones(1)}, {"kind": "text-adapter"})
    with pytest.raises(CheckpointError, match="is a 'text-adapter', not a training checkpoint"):
        load_checkpoint(tmp_path / "m", "hash")


@pytest.mark.parametrize(
    ("rank", "expected"), [(0, [(4, True), (8, True), (10, True)]), (1, [(4, False), (8, False), (10, False)])]
)
def test_checkpointer_saves_on_time_and_at_the_end(tmp_path, rank, expected):
    class Engine:
        sharded = False

        def state(self):
            return {"param/w": torch.ones(1)}

    engine = Engine()
    engine.rank = rank
    seen = []
    saver = Checkpointer(
        engine, tmp_path, "h", every=4, steps=10, report=lambda s, m, f: seen.append((s, f is not None))
    )
    for step in range(1, 11):
        saver.after_step(step, {})
    assert seen == expected
