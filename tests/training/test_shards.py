from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rollama.core.errors import CheckpointError
from rollama.core.files import hash_file, read_json, write_json
from rollama.training import shards
from rollama.training.checkpoint import load_checkpoint
from rollama.training.shards import Piece, ShardedState, part_of, save_shards, shape_of

WHOLE = {"a": torch.arange(12.0).view(3, 4), "b": torch.arange(5.0)}
MANIFEST = {"kind": "checkpoint", "step": 7, "config_hash": "key"}


def write(folder: Path, cuts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """As many ranks as cuts, one after the other in this process; rank r holds what lies between two cuts."""
    hashes: list[dict[str, str]] = []

    def together(value: dict[str, str]) -> list[dict[str, str]]:
        hashes.append(value)
        return hashes

    monkeypatch.setattr(shards, "everyones", together)
    for rank in reversed(range(len(cuts))):  # rank 0 last: it needs all hashes
        pieces = {}
        for name, value in WHOLE.items():
            size = value.numel()
            first, end = (min(cut, size) for cut in (([0, *cuts])[rank], cuts[rank]))
            if end > first:
                pieces[name] = Piece(first, tuple(value.shape), value.flatten()[first:end])
        save_shards(folder, pieces, MANIFEST, rank)


@pytest.mark.parametrize("cuts", [(12,), (6, 12), (5, 7, 12), (3, 6, 9, 12)])
def test_any_range_is_read_from_any_number_of_files(
    cuts: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, cuts, monkeypatch)
    state, step = load_checkpoint(tmp_path, "key")
    assert isinstance(state, ShardedState) and step == 7 and len(state) == 2
    for name, value in WHOLE.items():
        assert torch.equal(state[name], value) and shape_of(state, name) == shape_of(WHOLE, name)
        for first in range(value.numel()):
            for end in range(first + 1, value.numel() + 1):
                assert torch.equal(part_of(state, name, first, end), part_of(WHOLE, name, first, end))


def test_damage_and_gaps_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, (6, 12), monkeypatch)
    second = tmp_path / "shard-00001.safetensors"
    whole = second.read_bytes()
    second.write_bytes(whole[:-4])
    with pytest.raises(CheckpointError, match="SHA-256"):
        ShardedState(tmp_path)
    second.unlink()
    with pytest.raises(CheckpointError, match="missing"):
        ShardedState(tmp_path)
    places = '{"a": {"start": 8, "shape": [3, 4]}}'
    save_file({"a": torch.zeros(4)}, second, metadata={"places": places})
    manifest = read_json(tmp_path / "manifest.json")
    manifest["files"][second.name] = hash_file(second)
    write_json(tmp_path / "manifest.json", manifest)
    with pytest.raises(CheckpointError, match="pieces of a do not make up"):
        ShardedState(tmp_path)


def test_what_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="tensor a is not finite"):
        save_shards(tmp_path, {"a": Piece(0, (1,), torch.tensor([torch.nan]))}, MANIFEST, 0)
    assert not any(tmp_path.iterdir())
