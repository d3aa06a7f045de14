"""Bases that are made once a machine: one process makes the folder, the others wait, and all find it whole.

Every node of a cluster prepares its own, so this also happens inside a Ray Train worker. There `save_pretrained` of
Transformers writes on rank 0 only and leaves the other nodes an empty folder; the making therefore moves to a process
of its own as soon as a process group exists.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch.distributed
from filelock import FileLock

from rollama.core.errors import CheckpointError, ClusterError
from rollama.core.files import new_folder

RECORD = "rollama.json"
_CODE = "import sys; from rollama.language.base import base_folder; base_folder(sys.argv[1])"
PARTS = ("config.json", "model.safetensors", "tokenizer.json", RECORD)


def prepared(name: str, folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, made by `make(temporary)` when it is not there yet.

    Raises:
        CheckpointError: what `make` wrote is not a whole base, or the process that makes it failed.
        ClusterError: that process was ended by a signal.
        DataError: the folder cannot be written or the disk is full.
    """
    if (folder / RECORD).is_file():
        return folder
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        _elsewhere(name)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not (folder / RECORD).is_file():
            with new_folder(folder) as temporary:
                make(temporary)
                if lacking := [part for part in PARTS if not (temporary / part).is_file()]:
                    raise CheckpointError(f"base model {name!r}: {', '.join(lacking)} was not written")
    return folder


def _elsewhere(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", _CODE, name], capture_output=True, text=True, check=False)
    if done.returncode < 0:  # by a signal: nothing is wrong with the base, and another try may have room
        raise ClusterError(
            f"base model {name!r}: preparing it was ended by signal {-done.returncode}, most often for running out of "
            "memory"
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CheckpointError(f"base model {name!r}: preparing it failed: {last}")
