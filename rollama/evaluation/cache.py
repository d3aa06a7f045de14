"""Predictions kept while an evaluation runs, so that an interrupted one goes on where it stopped.

A cached prediction is valid only for the same model, dataset and input, so its name is made of the hashes of all
three. Generated text derives from clinical notes: it is kept on disk only when the caller says that the dataset is
synthetic, else in memory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from rollama.core.config import hash_json, hash_text
from rollama.core.errors import DataError
from rollama.core.files import new_file


class Written(NamedTuple):
    """A generated text; `finished` is False when the token limit cut it, `other` what a second look led to instead."""

    text: str
    finished: bool
    other: str | None = None


class TextCache:
    """Generated texts of one model and task: one JSON line a case, appended and flushed as they come."""

    def __init__(self, folder: Path | None, model_hash: str, dataset_hash: str, task: str) -> None:
        """Open the cache; `folder` None keeps it in memory (data that are not synthetic)."""
        self.path = folder / f"text-{task}-{hash_json([model_hash, dataset_hash])[:16]}.jsonl" if folder else None
        self._known: dict[tuple[str, str], Written] = {}
        if self.path is not None and self.path.is_file():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    continue  # the writer was killed in the middle of this line; the case is generated again
                self._known[row["case_id"], row["input"]] = Written(row["text"], row["finished"], row.get("other"))

    def get(self, case_id: str, text: str) -> Written | None:
        """What was generated for this input, or None."""
        return self._known.get((case_id, hash_text(text)))

    def add(self, case_id: str, text: str, written: Written) -> None:
        """Keep one generation.

        Raises:
            DataError: the file cannot be written.
        """
        self._known[case_id, hash_text(text)] = written
        if self.path is None:
            return
        row = {"case_id": case_id, "input": hash_text(text), **written._asdict()}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as stream:
                if stream.seek(0, 2):  # after a line cut short, start a new one
                    stream.seek(-1, 2)
                    if stream.read(1) != b"\n":
                        stream.write(b"\n")
                stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror}); free space") from error


class MaskCache:
    """Predicted masks of one model, one bit a voxel, one file a case and plan."""

    def __init__(self, folder: Path | None, model_hash: str, dataset_hash: str) -> None:
        """Open the cache; `folder` None keeps nothing."""
        self.folder = folder / f"masks-{hash_json([model_hash, dataset_hash])[:16]}" if folder else None

    def get(self, case_id: str, plan_text: str) -> np.ndarray | None:
        """The mask, uint8 (x, y, z), or None; a damaged file counts as none."""
        path = self._path(case_id, plan_text)
        if path is None or not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as stored:
                shape = tuple(int(size) for size in stored["shape"])
                return np.unpackbits(stored["bits"], count=int(np.prod(shape))).reshape(shape)
        except (BadZipFile, KeyError, ValueError, OSError, EOFError):
            return None  # written by a killed machine; predict it again

    def add(self, case_id: str, plan_text: str, mask: np.ndarray) -> None:
        """Keep one mask (non-zero is target)."""
        path = self._path(case_id, plan_text)
        if path is not None:
            with new_file(path) as temporary, temporary.open("wb") as stream:
                np.savez_compressed(stream, bits=np.packbits(mask != 0), shape=np.asarray(mask.shape))

    def _path(self, case_id: str, plan_text: str) -> Path | None:
        return self.folder / f"{case_id}-{hash_text(plan_text)[:16]}.npz" if self.folder else None
