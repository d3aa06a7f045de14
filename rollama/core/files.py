"""Writing files so that nothing half-written ever carries a final name.

A full disk, a killed process or Ctrl-C in the middle of a write must leave either the old file or none.
All writers here write beside the target under a temporary name, flush to disk and rename.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rollama.core.errors import DataError


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` with the same suffixes; rename it to `path` when the block ends well.

    Raises:
        DataError: the folder cannot be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".part-", suffix="".join(path.suffixes[-2:]), dir=path.parent)
    except OSError as error:
        raise DataError(f"{path}: cannot write here ({error.strerror})") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror or error}); free space or choose another folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it takes the name `path` (replacing it) when the block ends well.

    Raises:
        DataError: the folder cannot be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".part-{path.name}-", dir=path.parent))
    except OSError as error:
        raise DataError(f"{path}: cannot write here ({error.strerror})") from error
    old: Path | None = None
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            old = temporary.with_name(temporary.name + "-old")
            path.rename(old)
        temporary.rename(path)
    except Exception as error:
        if old is not None and old.exists() and not path.exists():
            old.rename(path)
        if isinstance(error, DataError) and str(temporary) in str(error):  # the name that the caller knows
            raise DataError(str(error).replace(str(temporary), str(path))) from error
        if not _is_write_failure(error):
            raise
        raise DataError(
            f"{path}: cannot be written ({getattr(error, 'strerror', None) or error}); free space or choose another "
            "folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if old is not None and path.exists():
            shutil.rmtree(old, ignore_errors=True)


def _is_write_failure(error: Exception) -> bool:
    """A full disk, as the system or as safetensors says it, which has a class of its own (and is not imported here)."""
    return isinstance(error, OSError) or type(error).__name__ == "SafetensorError"


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text under a temporary name, then rename."""
    with new_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON under a temporary name, then rename."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read one JSON file.

    Raises:
        DataError: the file is missing or not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot read it ({error.strerror})") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError; the text itself may be clinical
        raise DataError(f"{path}: not valid JSON") from error


def hash_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot read it ({error.strerror})") from error
