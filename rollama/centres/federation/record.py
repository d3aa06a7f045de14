"""What left a site and what came in, as JSON lines of which each carries the hash of the one before.

How lines hang together is judged as in every other chain here (`core.chain`). The form is one of its own: one file,
read by people, into which two processes of a site write, each line on the disk before anything leaves.

A changed, removed or reordered line is found by `verify`. A chain alone cannot see lines cut off at its end; so the
reader compares with a head kept elsewhere (`--head`), for example on paper or in the coordinator's own record, which
names the hash of every update.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from rollama.core.chain import FIRST, Links, read_line
from rollama.core.config import hash_json
from rollama.core.errors import DataError

ENDS = ("model", "stopped")
"""Events with which a coordinator's run is over."""


def append(path: Path, event: str, **facts: Any) -> str:
    """Add a line and have it on the disk before returning; gives its hash.

    Raises:
        DataError: the file cannot be written, or what is there is not a whole record.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+", encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)  # two apps of one site never write the same number
            stream.seek(0)
            lines = _parsed(stream.read(), path)
            last: dict[str, Any] = lines[-1] if lines else {"hash": FIRST, "number": 0}
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
            links = Links(last["number"] + 1, last["hash"])
            line = {"number": links.number, "time": now, "event": event, **facts, "previous": links.last}
            line["hash"] = hash_json(line)
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise DataError(f"{path}: cannot write the record ({error.strerror}); nothing leaves without it") from error
    return str(line["hash"])


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a record; an empty list where there is none.

    Raises:
        DataError: a line is not JSON.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return _parsed(text, path)


def unfinished(path: Path) -> bool:
    """Whether a coordinator's record tells of a run that has begun and neither made its model nor stopped by itself.

    Raises:
        DataError: see `read`.
    """
    told = [line["event"] for line in read(path) if line["event"] in ("started", *ENDS)]
    return bool(told) and told[-1] not in ENDS


def verify(path: Path, head: str | None = None) -> list[str]:
    """What is wrong with a record; empty when it is whole. What comes after a broken place cannot be judged.

    Args:
        path: the record.
        head: hash that some line must have, as it was noted elsewhere.
    """
    try:
        lines = read(path)
    except DataError as error:
        return [str(error)]
    problems, links = [], Links(1)
    for line in lines:
        found = hash_json({key: value for key, value in line.items() if key != "hash"})
        problem = links.problem(line["number"], line.get("previous"), "line")
        if not problem and line["hash"] != found:
            problem = f"line {links.number} was changed"
        if problem:
            problems.append(problem)
            break
        links.step(found)
    if head is not None and head not in {line.get("hash") for line in lines}:
        problems.append(f"no line has the hash {head[:12]}: lines at the end are missing, or it is another record")
    return problems


def _parsed(text: str, path: Path) -> list[dict[str, Any]]:
    lines = []
    for place, line in enumerate(text.removesuffix("\n").split("\n") if text else (), 1):
        value = read_line(line)
        if value is None:
            raise DataError(f"{path}: line {place} is not JSON; the record is damaged")
        if not isinstance(value.get("number"), int) or "hash" not in value:
            raise DataError(f"{path}: line {place} is no line of a record")
        lines.append(value)
    return lines
