"""Checkpoints in pieces: every rank writes what it holds, any number of ranks reads what it needs.

Full fine-tuning of a 7B model has 84 GB of float32 training state. Under ZeRO-3 no rank can hold it, and DeepSpeed's
own checkpoints either fit the number of ranks that wrote them or have to be converted between two runs, through pickle.
Here a piece is a range of a flattened tensor with its place in the whole: file `shard-RRRRR.safetensors` of rank R
holds its ranges, and its header says where they belong. A reader on any number of ranks assembles any range of any
tensor from the files that overlap it. Hashes of all files are in the manifest, as in every artefact.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from rollama.core.errors import CheckpointError
from rollama.core.files import hash_file, new_file, write_json
from rollama.training.artefact import MANIFEST, check_artefact

Value = TypeVar("Value")
FORM = "shards"
_PLACES = "places"


@dataclass(frozen=True)
class Piece:
    """`values` (flat) are the elements from `start` on of a flattened tensor of `shape`."""

    start: int
    shape: tuple[int, ...]
    values: torch.Tensor


def save_shards(folder: Path, pieces: Mapping[str, Piece], manifest: Mapping[str, Any], rank: int) -> None:
    """Write this rank's pieces and, on rank 0, the manifest (collective: hashes are exchanged).

    The folder may be one for all ranks or one each, to be put together later.

    Raises:
        CheckpointError: a piece is not finite.
        DataError: the folder cannot be written.
    """
    from safetensors.torch import save_file

    path = folder / f"shard-{rank:05d}.safetensors"
    for name, piece in pieces.items():
        if not bool(torch.isfinite(piece.values).all()):
            raise CheckpointError(f"{path}: tensor {name} is not finite")
    places = {name: {"start": piece.start, "shape": list(piece.shape)} for name, piece in pieces.items()}
    tensors = {name: piece.values.detach().cpu().contiguous().clone() for name, piece in pieces.items()}
    with new_file(path) as temporary:
        save_file(tensors, temporary, metadata={_PLACES: json.dumps(places)})
    files: dict[str, str] = {}
    for found in everyones({path.name: hash_file(path)}):
        files |= found
    if rank == 0:
        write_json(folder / MANIFEST, {**manifest, "form": FORM, "files": files})


def everyones(value: Value) -> list[Value]:
    """What each rank gave, in the order of the ranks (collective)."""
    if not dist.is_initialized():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


class ShardedState(Mapping[str, torch.Tensor]):
    """The tensors of a checkpoint in pieces, read when asked for.

    Raises:
        CheckpointError: a file is damaged or missing, or pieces do not cover a tensor.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        self.folder = folder
        self._pieces: dict[str, list[tuple[int, int, Any]]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for name in sorted(check_artefact(folder)["files"]):
            file: Any = safe_open(folder / name, "pt")
            for key, place in json.loads(file.metadata()[_PLACES]).items():
                size = prod(file.get_slice(key).get_shape())
                self._pieces.setdefault(key, []).append((place["start"], place["start"] + size, file))
                self.shapes[key] = tuple(place["shape"])
        for key, pieces in self._pieces.items():
            pieces.sort(key=lambda piece: piece[0])
            ends = [0, *(end for _, end, _ in pieces)]
            if [start for start, _, _ in pieces] != ends[:-1] or ends[-1] != prod(self.shapes[key]):
                raise CheckpointError(f"{folder}: the pieces of {key} do not make up a tensor of {self.shapes[key]}")

    def part(self, name: str, first: int, end: int) -> torch.Tensor:
        """Elements `first` to `end` of the flattened tensor."""
        found = []
        for start, stop, file in self._pieces[name]:
            if start < end and first < stop:
                found.append(file.get_slice(name)[max(first, start) - start : min(end, stop) - start])
        return torch.cat(found) if found else torch.empty(0)

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.part(name, 0, prod(self.shapes[name])).view(self.shapes[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._pieces)

    def __len__(self) -> int:
        return len(self._pieces)


def part_of(state: Mapping[str, torch.Tensor], name: str, first: int, end: int) -> torch.Tensor:
    """Elements `first` to `end` of a flattened tensor of a state, whole or in pieces."""
    return state.part(name, first, end) if isinstance(state, ShardedState) else state[name].flatten()[first:end]


def shape_of(state: Mapping[str, torch.Tensor], name: str) -> tuple[int, ...]:
    """Shape of a tensor of a state, whole or in pieces."""
    return state.shapes[name] if isinstance(state, ShardedState) else tuple(state[name].shape)
