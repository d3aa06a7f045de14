"""A job's log as one stream, though submitter pods come and go and connections break.

The submitter prints the job's log. When its pod is replaced, the new one prints it again from the beginning; when the
connection breaks, the last seconds are read again. Lines already shown are skipped in both cases: by time stamp within
a pod, by comparison with what was shown across pods. What was shown is kept in the user's cache, so that the log can
still be read when the pods are gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from rollama.cluster.causes import OUR_ERROR
from rollama.cluster.client import Api, Denied
from rollama.cluster.names import LABEL_ROLE
from rollama.core.cache import cache_folder
from rollama.core.errors import RollamaError

CONTAINER = "ray-job-submitter"
OVERLAP_S = 60
KEPT_LINES = 200_000
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|[+-]\d\d:\d\d)")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


class Replay:
    """Tells new lines from those that a replaced pod prints again.

    The new pod's lines are looked for, in order, among those shown. Once some were found, the first that is not found
    ends the repetition; lines before (the new submitter's own greeting) are new.
    """

    def __init__(self, shown: list[str] | None = None) -> None:
        self.shown = [hash(line) for line in shown or []]
        self._next, self._found = 0, False

    def begin(self) -> None:
        """A log starts from its beginning."""
        self._next, self._found = 0, False

    def is_new(self, line: str) -> bool:
        """Whether the line has not been shown; takes note of it then."""
        key = hash(line)
        if self._next < len(self.shown):
            try:
                place = self.shown.index(key, self._next)
            except ValueError:
                if self._found:
                    self._next = len(self.shown)
            else:
                self._next, self._found = place + 1, True
                return False
        if len(self.shown) < KEPT_LINES:
            behind = self._next == len(self.shown)
            self.shown.append(key)
            if behind:
                self._next = len(self.shown)
        return True


class JobLog:
    """Shows and keeps the log of one job; `start` and `finish` around the wait for the job."""

    def __init__(
        self,
        api: Api,
        job: dict[str, Any],
        emit: Callable[[str], None],
        pause_s: float = 2.0,
        clock: Any = time.monotonic,
    ) -> None:
        self.api, self.emit, self.pause_s, self.clock = api, emit, pause_s, clock
        self.name = str(job["metadata"]["name"])
        self.path = kept_path(api.namespace, self.name, str(job["metadata"].get("uid", "")))
        self.last_lines: list[str] = []
        self.last_error = ""
        self.note = ""
        self._pod, self._stamp, self._read_at = "", "", 0.0
        self._stop, self._thread = threading.Event(), None  # type: tuple[threading.Event, threading.Thread | None]
        self._file: TextIO | None = None
        kept = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        self.replay = Replay(kept)
        for line in kept:
            self._show(line)

    def start(self) -> None:
        """Follow in a thread."""
        self._thread = threading.Thread(target=self._run, name="rollama-log", daemon=True)
        self._thread.start()

    def finish(self, wait_s: float = 20.0) -> None:
        """Read what is left and stop."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(wait_s)
        if self._thread is None or not self._thread.is_alive():
            self.close()

    def close(self) -> None:
        """Close the kept log."""
        if self._file is not None:
            self._file.close()

    def tail(self) -> list[str]:
        """The last error of ours and the last lines, without those Ray's submitter adds.

        What other processes of the cluster say may follow the error by more lines than are kept.
        """
        first = [self.last_error] if self.last_error else []
        return first + [line for line in self.last_lines if not _from_submitter(line)]

    def read(self, follow: bool) -> None:
        """Read the newest submitter pod's log from where it was left.

        Raises:
            RollamaError: the pod is not ready or the connection failed; reading again goes on.
        """
        pods = [
            pod for pod in self.api.pods(self.name) if pod["metadata"].get("labels", {}).get(LABEL_ROLE) == "submitter"
        ]
        if not pods:
            return
        pod = max(pods, key=lambda item: str(item["metadata"].get("creationTimestamp", "")))["metadata"]["name"]
        if pod != self._pod:
            self._pod, self._stamp = pod, ""
            self.replay.begin()
        since = int(self.clock() - self._read_at) + OVERLAP_S if self._stamp else None
        for line in self.api.log(pod, CONTAINER, follow, since):
            self._take(line)

    def _take(self, line: str) -> None:
        stamp, _, text = line.partition(" ")
        order = sortable(stamp)
        if not order:
            text = line
        elif order <= self._stamp:
            return
        self._stamp, self._read_at = order or self._stamp, self.clock()
        text = _CONTROL.sub("", text).rstrip()
        if self.replay.is_new(text):
            self._keep(text)
            self._show(text)

    def _show(self, line: str) -> None:
        self.last_lines = [*self.last_lines[-49:], line]
        if line.startswith(OUR_ERROR):
            self.last_error = line
        self.emit(line)

    def _keep(self, line: str) -> None:
        """Append to the kept log; of two processes that follow the same job, one keeps it."""
        with contextlib.suppress(OSError):
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                opened = self.path.open("a", encoding="utf-8", buffering=1)
                self.path.chmod(0o600)
                self._file = opened
                try:
                    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    opened.close()
            if not self._file.closed:
                self._file.write(line + "\n")

    def _run(self) -> None:
        while True:
            last = self._stop.is_set()
            try:
                self.read(follow=not last)
            except Denied as error:
                self.note = f"the log cannot be read: {error}"
            except RollamaError as error:
                self.note = str(error)
            if last:
                break
            self._stop.wait(self.pause_s)


def sortable(stamp: str) -> str:
    """A log time stamp with all nine digits of its fraction, so that text order is time order; empty if it is none."""
    match = _STAMP.fullmatch(stamp)
    return f"{match[1]}.{(match[2] or '').ljust(9, '0')}" if match else ""


def kept_path(namespace: str, name: str, uid: str) -> Path:
    """Where a job's log is kept; the uid tells it from an earlier job of the same name."""
    return cache_folder() / "jobs" / namespace / f"{name}-{uid[:8] or 'unknown'}.log"


def kept_lines(namespace: str, name: str) -> Iterator[str]:
    """The newest kept log of a job that is gone."""
    folder = cache_folder() / "jobs" / namespace
    found = [path for path in folder.glob(f"{name}-*.log") if re.fullmatch(r"[0-9a-f]{8}|unknown", _uid(path, name))]
    if found:
        newest = max(found, key=lambda path: path.stat().st_mtime)
        yield from newest.read_text(encoding="utf-8").splitlines()


def _uid(path: Path, name: str) -> str:
    return path.name.removeprefix(f"{name}-").removesuffix(".log")


def _from_submitter(line: str) -> bool:
    """Lines of `ray job` around the job's own; they come last and would hide its last words."""
    return bool(re.search(r"\b(INFO|SUCC|ERR|WARN)\w* cli\.py:\d+ -- |^-{3,}$|^\s*$", line)) or line.startswith("Job '")
