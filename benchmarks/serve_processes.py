"""A server that a benchmark or the soak starts, with all processes it has: memory, and an end in whatever state it is.

Ray's processes share memory, so a sum of resident sizes counts it several times; the proportional size (PSS) counts it
once. Every server is started with a free port and with temporary folders of its own, so that it neither finds another
Ray on the machine nor is found.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[1]
KEY = "key-of-a-benchmark"
START_S = 300.0
SAMPLE_S = 2.0
PATIENT = {"RAY_raylet_start_wait_time_s": "240", "RAY_agent_register_timeout_ms": "240000"}
"""A raylet gives up when its agents are not up within half a minute; on a busy machine they are not."""


def free_port() -> int:
    """A port of this machine that nobody has at this moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Served:
    """`python -m MODULE '{"port": ..., ...}'` in a session of its own."""

    def __init__(
        self, module: str, options: Mapping[str, Any], ready: str, threads: int, port: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Start; `wait` waits until it answers.

        Args:
            module: reads its options as JSON from the first argument and ends when its stdin does.
            options: what it is told beside the port.
            ready: path that answers 200 once it can work.
            threads: of each process (`OMP_NUM_THREADS`).
            port: default: a free one.
            environment: more variables.
        """
        self.port = port or free_port()
        self.url, self.ready = f"http://127.0.0.1:{self.port}", ready
        self.folder = Path(tempfile.mkdtemp(prefix="rb-", dir="/tmp"))  # short: Ray's sockets lie below
        self.log = self.folder / "server.log"
        values = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        values |= {
            "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "ROLLAMA_API_KEY": KEY,
            "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(self.folder), **PATIENT, **(environment or {}),
        }  # fmt: skip
        command = [sys.executable, "-m", module, json.dumps({"port": self.port, **options})]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=values, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )
        self.peak = {"rss": 0.0, "pss": 0.0}
        self._watched = threading.Event()

    def wait(self, longest_s: float = START_S) -> float:
        """Wait until it is ready; seconds.

        Raises:
            SystemExit: it ended or took too long; says the end of its log.
        """
        begun = time.monotonic()
        while time.monotonic() - begun < longest_s:
            if self.process.poll() is not None:
                break
            if self.answers():
                return time.monotonic() - begun
            time.sleep(0.5)
        said = "\n".join(path.read_text(errors="replace")[-2000:] for path in [self.log, *self._ray_logs()])
        self.kill()
        raise SystemExit(f"{' '.join(self.process.args[2:3])}: did not come up\n{said}")  # type: ignore[index]

    def _ray_logs(self) -> list[Path]:
        return sorted(self.folder.glob("session_2*/logs/raylet.*"))

    def answers(self) -> bool:
        """Whether it says that it is ready."""
        try:
            return httpx.get(self.url + self.ready, timeout=5).is_success
        except httpx.TransportError:
            return False

    def tree(self) -> list[psutil.Process]:
        """The process and all below it."""
        try:
            first = psutil.Process(self.process.pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def watch(self) -> Self:
        """Keep the peak of memory from now on, looking every two seconds."""

        def look() -> None:
            while not self._watched.wait(SAMPLE_S):
                for kind, value in memory(self.tree()).items():
                    self.peak[kind] = max(self.peak[kind], value)

        threading.Thread(target=look, daemon=True, name="memory").start()
        return self

    def kill(self) -> None:
        """End every process at once and remove the folders."""
        self._watched.set()
        end(self.tree())
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def end(processes: Sequence[psutil.Process]) -> None:
    """Kill these and what they start meanwhile, and wait until they are gone."""
    for _ in range(20):
        alive = []
        for one in processes:
            try:
                alive += [one, *one.children(recursive=True)] if one.is_running() else []
            except psutil.NoSuchProcess:
                continue
        for one in alive:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                continue
        _, processes = psutil.wait_procs(alive, timeout=3)
        if not processes:
            return
    raise SystemExit(f"{len(processes)} processes do not end: {[one.pid for one in processes]}")


def memory(processes: Sequence[psutil.Process]) -> dict[str, float]:
    """MiB of several processes together: sum of resident sizes, and of proportional ones."""
    found = {"rss": 0.0, "pss": 0.0}
    for one in processes:
        for kind, value in _sizes(one.pid).items():
            found[kind] += value
    return found


def _sizes(pid: int) -> dict[str, float]:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return {}
    sizes = {line.split(":")[0].lower(): int(line.split()[1]) / 1024 for line in lines if line.endswith(" kB")}
    return {kind: sizes[kind] for kind in ("rss", "pss") if kind in sizes}
