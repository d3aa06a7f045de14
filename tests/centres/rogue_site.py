"""A site that goes round its own policy, for the tests of what the coordinator refuses.

Started like `rollama federation join`; its processes for messages are this file again (ROGUE_INNER).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

KIND, KEPT = os.environ["ROGUE"], "kept.npz"


def bad(trained: dict[str, Any], received: dict[str, Any], _agreed: Any, _cases: int, _policy: Any) -> Any:
    """What leaves, by the kind of rogue."""
    if KIND == "nan":
        trained = {**trained, "w": np.full(4, np.nan, np.float32)}
    elif KIND == "shape":
        trained = {**trained, "b": np.ones(3, np.float32)}
    elif KIND == "huge":
        trained = {
            name: received[name] + np.float32(1000) * (value - received[name]) for name, value in trained.items()
        }
    elif KIND == "replay":
        path = Path(os.environ["ROGUE_KEEPS"])
        if path.is_file():
            trained = dict(np.load(path))
        else:
            np.savez(path, **trained)
    return trained, {}


def main() -> None:
    """Be a site's SuperNode, or one of its processes."""
    if "ROGUE_INNER" in os.environ:
        from rollama.centres.federation import client_app, site_process

        client_app.outgoing = bad
        client_app.check_forms = lambda *_args, **_options: None
        site_process.main()
        return
    from rollama.centres.federation import processes
    from rollama.cli.main import main as command

    def guard(home: Path) -> Path:
        script = home / "bin" / "flwr-clientapp"
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(
            f'#!/bin/sh\nROGUE_INNER=1 ROGUE_KEEPS="{home}/{KEPT}" exec "{sys.executable}" "{__file__}" "$@"\n'
        )
        script.chmod(0o755)
        return script.parent

    processes._guard = guard
    command(sys.argv[1:])


if __name__ == "__main__":
    main()
