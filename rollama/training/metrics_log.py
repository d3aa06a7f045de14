"""One JSON line a step in `metrics.jsonl`: learning curves, progress bars and resume comparisons read it.

After a crash the steps since the last checkpoint are run again and logged again; the last line of a step wins.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rollama.core.errors import DataError
from rollama.training.loop import Metrics


class MetricsLog:
    """Callback that appends a line per step on rank 0 (other ranks must not create one)."""

    def __init__(self, path: Path, attempt: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.attempt = path, attempt

    def after_step(self, step: int, metrics: Metrics) -> None:
        """Append and flush.

        Raises:
            DataError: the disk is full.
        """
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"step": step, **metrics, "attempt": self.attempt}) + "\n")
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror}); free space and resume") from error


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The steps of a log file as `parse_metrics` gives them; none when there is no file."""
    return parse_metrics(path.read_text(encoding="utf-8")) if path.is_file() else []


def parse_metrics(text: str) -> list[dict[str, Any]]:
    """The steps of a log in order, the last line of each; a line cut by a crash is passed over."""
    rows: dict[int, dict[str, Any]] = {}
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the writer was killed in the middle of this line; the step was run again
        rows[int(row["step"])] = row
    return [rows[step] for step in sorted(rows)]
