"""What a SuperNode starts for each message instead of Flower's `flwr-clientapp`: the same, for one app only.

A SuperNode installs and runs any app that the coordinator sends, and Flower 1.42 checks signatures only of apps from
its own hub. `rollama federation join` therefore puts a `flwr-clientapp` first on the SuperNode's path that calls this
module: Flower's own process with its installation step behind a check of the app's hash. Should a later Flower have
no such step to guard, this refuses to run rather than run unguarded.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from typing import Any

from rollama.centres.federation.bundle import ACCEPTED

STEP = "install_from_fab"


class UnknownApp(Exception):
    """The coordinator sent another app than this version's."""


def guarded(install: Callable[..., Any], accepted: str) -> Callable[..., Any]:
    """Flower's installation of an app, refused unless its bytes have the accepted SHA-256."""

    def check(fab: Any, *args: Any, **options: Any) -> Any:
        found = hashlib.sha256(fab).hexdigest() if isinstance(fab, bytes) else "no bytes"
        if found != accepted:
            raise UnknownApp(
                f"app {found[:12]} is not the one of this version of rollama ({accepted[:12]}); it was not run"
            )
        return install(fab, *args, **options)

    return check


def main() -> None:
    """Guard the installation, then be `flwr-clientapp`."""
    from flwr.supernode.runtime import run_clientapp as process

    if not callable(getattr(process, STEP, None)):
        sys.exit(f"this version of Flower has no step {STEP}: apps cannot be checked, so none is run")
    accepted = os.environ.get(ACCEPTED, "")
    if len(accepted) != 64:
        sys.exit(f"{ACCEPTED} holds no hash of an app; this process is started by 'rollama federation join' only")
    setattr(process, STEP, guarded(getattr(process, STEP), accepted))
    from flwr.supernode.cli import flwr_clientapp

    flwr_clientapp()


if __name__ == "__main__":
    main()
