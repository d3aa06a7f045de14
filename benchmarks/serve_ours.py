"""The endpoint as a process that a benchmark starts: `rollama serve` with every setting, until its stdin ends.

Its store, unless named, lies in the folder that `Served` made for it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from rollama.core.config import build


def main(values: dict[str, Any]) -> None:
    """Serve with the keys of `ServeConfig`."""
    from serve.app import start, stop
    from serve.config import ServeConfig

    values.setdefault("store", f"{os.environ['RAY_TMPDIR']}/store")
    start(build(ServeConfig, values, "benchmark"))
    sys.stdin.read()
    stop()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
