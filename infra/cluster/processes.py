"""Starts the cluster's processes and ends just those; each is recorded with its start time, so no recycled id is hit"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

from infra.cluster.layout import LOGS, STATE

RECORDS = STATE / "processes"


class StartError(RuntimeError):
    """A process ended while it should run; the message has the end of its log."""


def start(name: str, command: list[str], environment: dict[str, str] | None = None) -> None:
    """Start a daemon in a session of its own, with its output in `LOGS/name.log`."""
    RECORDS.mkdir(parents=True, exist_ok=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    program = shutil.which(command[0])
    if program is None:
        raise StartError(f"{command[0]}: no such program on PATH")
    # Not Popen: the process outlives us, and nobody waits for it.
    with (LOGS / f"{name}.log").open("ab") as log, Path(os.devnull).open("rb") as nothing:
        pid = os.posix_spawn(
            program,
            command,
            {**os.environ, **(environment or {})},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, source.fileno(), number) for number, source in ((0, nothing), (1, log), (2, log))
            ],
            setsid=True,
        )
    record = {"pid": pid, "started": start_time(pid)}
    temporary = RECORDS / f".{name}"
    temporary.write_text(json.dumps(record))
    temporary.replace(RECORDS / f"{name}.json")


def recorded() -> dict[str, int]:
    """Name and process id of every recorded process that still runs."""
    running = {}
    for path in sorted(RECORDS.glob("*.json")) if RECORDS.is_dir() else ():
        record = json.loads(path.read_text())
        if record["started"] is not None and start_time(record["pid"]) == record["started"]:
            running[path.stem] = record["pid"]
    return running


def check_alive(name: str) -> None:
    """Raise StartError with the end of the log when the process is gone."""
    if name not in recorded():
        path = LOGS / f"{name}.log"
        tail = path.read_text(errors="replace").splitlines()[-5:] if path.is_file() else []
        raise StartError(f"{name} ended; the last lines of {path}:\n" + "\n".join(tail))


def stop(name: str, patience_s: float = 10.0) -> None:
    """End one recorded process: SIGTERM, and SIGKILL when it does not go."""
    pid = recorded().get(name)
    if pid is not None:
        end(pid, patience_s)
    (RECORDS / f"{name}.json").unlink(missing_ok=True)


def end(pid: int, patience_s: float = 10.0) -> None:
    """End the process `pid`, which the caller knows to be ours."""
    started = start_time(pid)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, sign)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if start_time(pid) != started:
                return
            time.sleep(0.1)


def start_time(pid: int) -> int | None:
    """Start of a living process in clock ticks since boot, None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


def with_argument(program: str, argument: str) -> list[int]:
    """Ids of processes of `program` that carry exactly `argument`: containerd's shims outlive it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if Path(words[0]).name == program and argument in words:
            found.append(int(folder.name))
    return found
